"""Programs in a pipe: all succeed, or the one that failed first is blamed."""

import os

import psutil
import pytest

from checks.base.errors import CannotMeasure
from checks.base.pipeline import Program, run

VARIABLES = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
MUCH = "head -c 1000000 /dev/zero"


def sh(script: str, told: str = "") -> Program:
    return Program(["sh", "-c", script], VARIABLES, told)


def test_each_is_fed_by_the_one_before_and_the_first_is_told_its_secret() -> None:
    assert run([sh("cat", "a secret"), sh("tr a-z A-Z"), sh("rev")], 5) == "TERCES A"


def test_a_secret_is_in_no_word_and_no_representation() -> None:
    assert "hidden" not in repr(sh("cat", "hidden"))


def test_one_that_stops_reading_early_does_not_hide_what_the_writer_finds_at_the_end() -> None:
    with pytest.raises(CannotMeasure, match="sh failed: the end is wrong"):
        run([sh(f"{MUCH}; echo the end is wrong >&2; exit 1"), sh("head -c 1 > /dev/null")], 5)


@pytest.mark.parametrize(
    "programs",
    [
        [sh("echo my fault >&2; exit 1"), sh("cat")],
        [sh("echo my fault >&2; exit 1"), sh("cat > /dev/null; echo short >&2; exit 1")],
        [sh(f"exec {MUCH}"), sh("echo my fault >&2; exit 1")],
        [sh(f"{MUCH} || {{ echo Broken pipe >&2; exit 1; }}"), sh("echo my fault >&2; exit 1")],
        [sh("exec cat", "s" * 1000), sh("echo my fault >&2; exit 1")],
    ],
)
def test_the_first_to_fail_is_blamed(programs: list[Program]) -> None:
    with pytest.raises(CannotMeasure, match=r"sh failed: my fault \(exit 1\)"):
        run(programs, 5)


def test_none_is_left_running_when_it_takes_too_long() -> None:
    before = set(psutil.Process().children())

    with pytest.raises(CannotMeasure, match=r"sleep took more than 0.1 s and was stopped"):
        run([sh("sleep 60"), Program(["sleep", "60"], VARIABLES)], 0.1)

    assert set(psutil.Process().children()) == before


def test_a_program_that_is_not_there_ends_the_others() -> None:
    before = set(psutil.Process().children())

    with pytest.raises(CannotMeasure, match="nowhere cannot be run"):
        run([sh("sleep 60"), Program(["nowhere"], VARIABLES)], 60)

    assert set(psutil.Process().children()) == before
