"""``p12 test`` runs its parts whatever becomes of one, and says at the end what became of each."""

import re
from pathlib import Path

import pytest

from rollout.cli import run_tests
from rollout.cli.run_tests import Part
from rollout.errors import RolloutError
from tests.running import CHECKOUT

TESTS = """
import pytest

def test_good(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.skip(reason="not here")
def test_skipped(): pass
"""
FAILS = "def test_bad(): assert 'said by it' == ''\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of two test files, with the settings and the counting of this one."""
    for name in ("pyproject.toml", "rollout", "checks", "app", "tests/counts.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(CHECKOUT / name)
    (tmp_path / "tests" / "conftest.py").write_text('pytest_plugins = ["tests.counts"]\n')
    (tmp_path / "tests" / "test_some.py").write_text(TESTS)
    (tmp_path / "tests" / "test_failing.py").write_text(FAILS)
    monkeypatch.setattr(run_tests, "CHECKOUT", tmp_path)
    return tmp_path


def quick(monkeypatch: pytest.MonkeyPatch, **parts: list[str]) -> int:
    """Run ``p12 test --quick`` with other words for its parts; by default those of something that passes."""
    for name in ("LINT", "FORMAT", "UNIT", "TYPES"):
        monkeypatch.setattr(run_tests, name, Part(name.lower(), parts.get(name, ["json.tool", "--help"])))
    return run_tests.main(["--quick"])


def closing(said: str) -> list[str]:
    return re.sub(r" in \d+ s", "", said).split("\n\n")[-1].splitlines()


@pytest.mark.parametrize("spread", [[], ["-n", "2", "--dist=loadfile"]], ids=["in one process", "spread"])
@pytest.mark.usefixtures("project")
def test_it_ends_with_what_became_of_each_part_and_how_many_slow_tests_were_left_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], spread: list[str]
) -> None:
    status = quick(monkeypatch, UNIT=["pytest", "-q", *spread, "tests/test_some.py"])

    assert status == 0
    assert closing(capfd.readouterr().out) == [
        "lint: passed",
        "format: passed",
        "unit: passed (1 passed, 1 skipped, 1 slow ones left out)",
        "types: passed",
        "LEFT OUT: 1 slow tests. With them: ./p12 test --all",
    ]


@pytest.mark.usefixtures("project")
def test_the_first_status_that_is_not_0_is_that_of_the_run_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    misused = ["json.tool", "--no-such-option"]
    failing = ["pytest", "-q", "tests/test_failing.py"]

    status = quick(monkeypatch, FORMAT=misused, UNIT=["pytest", "-q", "tests/test_some.py"], TYPES=failing)

    said = capfd.readouterr().out
    assert status == 2
    assert "said by it" in said
    assert closing(said)[1:4] == [
        "format: failed with status 2",
        "unit: passed (1 passed, 1 skipped, 1 slow ones left out)",
        "types: failed with status 1 (1 failed)",
    ]


@pytest.mark.usefixtures("project")
def test_words_are_for_pytest_and_all_takes_slow_ones_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_tests.main(["tests/test_some.py", "-k", "good or slow"]) == 0
    assert "(1 passed, 1 slow ones left out)" in capfd.readouterr().out

    assert run_tests.main(["--all", "tests/test_some.py", "-k", "good or slow"]) == 0
    assert closing(capfd.readouterr().out) == ["tests: passed (2 passed)"]


def test_quick_takes_no_words() -> None:
    with pytest.raises(RolloutError, match="--quick takes no further words"):
        run_tests.main(["--quick", "-k", "x"])
