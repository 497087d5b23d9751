"""One report, four ways to show it; none of them ever makes more of it than it is."""

import argparse
import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from checks import __main__ as checks
from checks.base import command, formats
from checks.base.errors import CannotMeasure
from checks.base.report import Finding, Report, Verdict, compare

PASSED = compare("deadlocks", 0, "<=", 0)
FAILED = compare("busy_ratio", 0.25, "<=", 0.01, "Answers: {200: 3, 503: 1} | <b>'x'</b>.")
UNKNOWN = compare("p99_ms", math.nan, "<=", 5, "Nobody looked\x00\x1b[31m.")


def report(*findings: Finding) -> Report:
    facts = {"power": "300 requests can only show < 1 % errors", "peaks": {"a": 1}}
    return Report("burst", "staging", findings, 1000.0, 1002.5, {"rounds": 1}, "/kept/burst.json", facts)


ALL = report(PASSED, FAILED, UNKNOWN)


def suite_of(shown: Report) -> ElementTree.Element:
    suite = ElementTree.fromstring(formats.as_junit(shown)).find("testsuite")  # noqa: S314
    assert suite is not None
    return suite


def test_junit_calls_failed_a_failure_and_unknown_an_error() -> None:
    suite = suite_of(ALL)

    assert {name: suite.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
    }
    kinds = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert kinds == {"deadlocks": [], "busy_ratio": ["failure"], "p99_ms": ["error"]}
    assert suite.get("timestamp") == "1970-01-01T00:16:40"
    assert suite.get("time") == "2.500"


def test_junit_of_nothing_measured_is_an_error_and_never_an_empty_success() -> None:
    suite = suite_of(report())

    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")


def test_markdown_is_a_table_whose_cells_stay_cells() -> None:
    lines = formats.as_markdown(ALL).splitlines()

    rows = [line for line in lines if line.startswith("|")]
    assert lines[0] == "## burst on staging: failed"
    assert rows[2].startswith("| **failed** | busy\\_ratio | 25 % | \\<= 1 % | Answers")
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}
    assert "<b>" not in "\n".join(lines).replace("\\<b", "")


def test_text_is_one_screen_with_what_decided_first() -> None:
    many = report(*(compare(f"counted_{n}", n, ">=", 0) for n in range(200)), FAILED, UNKNOWN)

    lines = formats.as_text(many, columns=100).splitlines()

    assert len(lines) == formats.SCREEN_LINES
    assert max(map(len, lines[1:])) <= 100
    assert [line.split()[0] for line in lines[1:3]] == ["failed", "unknown"]
    assert "more lines" in lines[-1]


def test_json_holds_everything() -> None:
    shown = json.loads(ALL.to_json())

    assert shown["verdict"] == "failed"
    assert set(shown) >= {"check", "target", "findings", "started_at", "finished_at", "inputs", "samples"}
    assert set(shown["findings"][0]) == {
        "name",
        "measured",
        "operator",
        "limit",
        "verdict",
        "hint",
        "sentence",
    }


def answer(tmp_path: Path, shown: Report | CannotMeasure) -> tuple[int, dict[str, Path]]:
    files = {name: tmp_path / name for name in ("json", "junit", "markdown")}
    args = argparse.Namespace(target="staging", **files)

    def measure() -> Report:
        assert not any(file.exists() for file in files.values())
        if isinstance(shown, CannotMeasure):
            raise shown
        return shown

    return command.answer(args, "burst", measure), files


@pytest.mark.parametrize(
    ("shown", "status"),
    [(report(PASSED), 0), (ALL, 3), (report(UNKNOWN), 4), (report(), 4), (CannotMeasure("away"), 4)],
)
def test_every_file_is_written_and_the_exit_status_is_the_verdict(
    tmp_path: Path, shown: Report | CannotMeasure, status: int
) -> None:
    seen, files = answer(tmp_path, shown)

    assert seen == status
    assert all(file.read_text().strip() for file in files.values())


def test_a_report_of_an_earlier_run_does_not_outlive_the_start_of_a_new_one(tmp_path: Path) -> None:
    for name in ("json", "junit", "markdown"):
        (tmp_path / name).write_text("passed")

    answer(tmp_path, ALL)

    assert "passed" not in (tmp_path / "markdown").read_text().splitlines()[0]


def test_a_place_that_takes_no_report_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _ = answer(tmp_path / "absent", ALL)

    assert status == 2
    assert "writable directory" in capsys.readouterr().err


def test_without_a_name_the_checks_are_listed_and_nothing_has_passed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert checks.main([]) == 2
    listed = capsys.readouterr().err
    assert all(f"  {name}" in listed for name in checks.CHECKS)
    assert checks.main(["--help"]) == 0
    assert capsys.readouterr().out == listed


def test_a_check_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.main(["brust"]) == 2
    assert "brust is not a check" in capsys.readouterr().err


@pytest.mark.parametrize("name", checks.CHECKS)
def test_every_check_has_the_same_options_for_its_report(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        checks.main([name, "--help"])

    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"usage: p12 check {name}" in shown
    assert all(option in shown for option in ("--json", "--junit", "--markdown", "--target"))


def test_verdicts_have_three_exit_statuses() -> None:
    assert {str(verdict) for verdict in Verdict} == {"passed", "failed", "held", "unknown"}
