"""A kept window gives its verdict again, from nothing but its file; what is no such file is never a pass."""

import contextlib
import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checks.base import formats
from checks.base.errors import CannotMeasure, Misused
from checks.base.report import Report, Verdict
from checks.window import samples
from checks.window.baseline import Baseline
from tests.unit.checks.window.test_judge import LIMITS, Sample, held, window

QUESTION = samples.Question(
    "production", "green", "blue", LIMITS, id="w1", kind="step", release="b" * 12, share=5
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A window that passed."""
    return keep(tmp_path / "samples.jsonl", window())


def keep(path: Path, taken: list[Sample], question: samples.Question = QUESTION) -> Path:
    path.write_text("\n".join([question.to_line(), *map(samples.to_line, taken), ""]))
    return path


def replayed(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "checks", "replay", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("errors", [0, 5])
def test_a_kept_window_replays_to_the_same_findings(tmp_path: Path, errors: int) -> None:
    taken = window(errors=errors)

    report = samples.replay(keep(tmp_path / "w", taken))

    assert report.findings == held(taken).findings
    assert report.verdict is (Verdict.FAILED if errors else Verdict.PASSED)


def test_what_was_asked_comes_back_as_it_was(tmp_path: Path) -> None:
    asked = samples.Question("staging", "blue", None, LIMITS, Baseline(0.1, 100, 5, 100, 1))

    question, _ = samples.read(keep(tmp_path / "w", [], asked))

    assert question == asked


@pytest.mark.parametrize(
    ("errors", "length", "status"),
    [(0, None, 0), (30, None, 3), (0, 9, 4)],
    ids=["clean", "failing", "not watched to its end"],
)
def test_the_command_exits_as_the_verdict_says(
    tmp_path: Path, errors: int, length: int | None, status: int
) -> None:
    file = keep(tmp_path / "w", window(errors=errors)[:length])

    done = replayed(file, "--json")

    assert done.returncode == status, done.stderr
    assert json.loads(done.stdout)["check"] == "window"


def test_other_limits_can_be_tried_on_old_samples(file: Path) -> None:
    assert samples.replay(file, samples.parse_limits("min_requests=5000")).verdict is Verdict.UNKNOWN
    assert samples.replay(file, samples.parse_limits("connections_ratio=0.05")).verdict is Verdict.FAILED
    assert (
        samples.replay(file, samples.parse_limits("seconds=30,watch_database=false")).verdict
        is Verdict.PASSED
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("patience=3", "patience is not a limit that can be tried. Use seconds, max_seconds, min_requests"),
        ("seconds", "seconds= is not a value of seconds. Use a number"),
        ("min_requests=few", "Use a whole number"),
        ("watch_database=perhaps", "Use true or false"),
        ("alpha_weights=1", "alpha_weights is not a limit"),
        ("max_seconds=1", "max_seconds=1.0 is not a window limit. Use at least seconds"),
        ("seconds=nan", "seconds=nan is not a window limit"),
    ],
)
def test_limits_that_are_none_are_a_usage_error_that_says_what_is_accepted(
    file: Path, words: str, said: str
) -> None:
    with pytest.raises(Misused, match=said.replace("(", r"\(")):
        samples.replay(file, samples.parse_limits(words))


def test_a_torn_line_breaks_its_segment(file: Path) -> None:
    lines = file.read_text().splitlines(keepends=True)
    lines[6] = f"{lines[6][:40]}\n"
    file.write_text("".join(lines))

    assert samples.replay(file).verdict is Verdict.UNKNOWN


def test_a_file_cut_short_anywhere_never_passes(file: Path) -> None:
    whole = file.read_bytes()

    for cut in [*range(0, len(whole) - 2, 397), len(whole) - 2]:
        file.write_bytes(whole[:cut])
        try:
            verdict = samples.replay(file).verdict
        except CannotMeasure:
            verdict = Verdict.UNKNOWN
        assert verdict is Verdict.UNKNOWN, cut


def first_line(**changes: Any) -> str:
    return json.dumps(json.loads(QUESTION.to_line()) | changes)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "is no JSON"),
        ("[]", "do not say by what they are judged"),
        ('{"at": 1.0, "servers": {}}', "do not say by what they are judged"),
        ("[" * 100_000, "is no JSON"),
        (first_line(p12_window=1), "another format than 2. Replay it with the kit of then"),
        (first_line(p12_window="2"), "another format"),
        (first_line(limits={"seconds": 60}), "does not say what was asked"),
        (first_line(limits=None), "does not say what was asked"),
        (first_line(limits=asdict(LIMITS) | {"patience": 1}), "patience"),
        (first_line(limits=asdict(LIMITS) | {"seconds": "60"}), "does not say what was asked"),
        (first_line(control="green"), "two slots"),
        (first_line(surprise=1), "surprise"),
        (first_line(baseline={"threshold_seconds": -1}), "threshold_seconds=-1"),
        (first_line(baseline=[1]), "does not say what was asked"),
        (first_line(candidate=["x"]), r"the question.candidate is \['x'\]"),
        (first_line(control=["x"]), r"the question.control is \['x'\]"),
        (first_line(control=5), "the question.control is 5"),
        (first_line(target=None), "the question.target is None"),
        (first_line(share="5"), "the question.share is '5'"),
        (first_line(limits=asdict(LIMITS) | {"max_seconds": 10**400}), "a number has 100 digits or more"),
    ],
    ids=range(20),
)
def test_a_file_that_is_no_kept_window_of_this_format_says_so(file: Path, line: str, said: str) -> None:
    taken = file.read_text().split("\n", 1)[1]
    file.write_text(f"{line}\n{taken}")

    with pytest.raises(CannotMeasure, match=said):
        samples.replay(file)


@pytest.mark.parametrize(
    "at",
    [math.nan, math.inf, 1e300, -1e300, 253402300800, 10**400, True, "1000", None],
    ids=lambda at: str(at)[:9],
)
@pytest.mark.parametrize("number", [0, 6, -1], ids=["first", "middle", "last"])
def test_a_sample_whose_time_is_none_is_unknown_and_the_report_can_be_shown(
    file: Path, at: Any, number: int
) -> None:
    taken = window()
    taken[number]["at"] = at

    report = samples.replay(keep(file, taken))

    assert report.verdict is Verdict.UNKNOWN
    assert shown(report)


def test_a_time_that_is_none_is_unknown_without_a_stack_trace(file: Path) -> None:
    taken = window()
    taken[0]["at"] = math.nan

    done = replayed(keep(file, taken))

    assert (done.returncode, done.stderr) == (4, "")


def shown(report: Report) -> list[str]:
    """The report in every form there is."""
    forms = (formats.as_text, Report.to_json, formats.as_junit, formats.as_markdown)
    return [show(report) for show in forms]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(json.loads(QUESTION.to_line()))), value=JSON)
def test_whatever_a_question_holds_is_an_answer_or_a_clear_error(file: Path, name: str, value: Any) -> None:
    lines = keep(file, window()).read_text().split("\n")
    lines[0] = first_line(**{name: value})
    file.write_text("\n".join(lines))

    with contextlib.suppress(CannotMeasure):
        assert shown(samples.replay(file))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.sampled_from(["at", "servers", "instances", "database"]), inner=st.integers(0, 20), value=JSON)
def test_whatever_a_sample_holds_is_judged_and_shown(file: Path, part: str, inner: int, value: Any) -> None:
    taken = window()
    inside = taken[6]
    names = [part]
    while isinstance(inside[names[-1]], dict) and inner:
        inside = inside[names[-1]]
        names.append(sorted(inside)[inner % len(inside)])
        inner //= 2
    inside[names[-1]] = value

    assert shown(samples.replay(keep(file, taken)))


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"PK\x03\x04" * 50, b"[]\n"])
def test_a_foreign_file_is_unknown_without_a_stack_trace(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(content)

    done = replayed(file)

    assert done.returncode == 4
    assert "is not a kept window" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    done = replayed(tmp_path / "none")

    assert done.returncode == 2
    assert "Name the samples.jsonl of a window" in done.stderr


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.binary(max_size=60))
def test_whatever_stands_in_the_place_of_a_sample_is_a_sample_that_says_nothing(
    file: Path, line: bytes
) -> None:
    lines = keep(file, window()).read_bytes().split(b"\n")
    lines[5] = line.replace(b"\n", b" ")
    file.write_bytes(b"\n".join(lines))

    assert samples.replay(file).verdict is Verdict.UNKNOWN
