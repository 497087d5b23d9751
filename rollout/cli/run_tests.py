"""``p12 test``: lint, types, playbook lint and every test; the first failure is the status.

``--quick`` leaves out what needs servers or playbooks; ``--all`` adds the tests marked slow. Other words go
to pytest, alone: ``p12 test -k journal``.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rollout.errors import RolloutError
from rollout.host import apt, installed_servers

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

# What only tests need; each program is in the Debian package of its name.
TEST_PROGRAMS = ("chromium", "shellcheck")
# Where tests/outcome.py is told to leave the counts of a run.
COUNTS = "P12_TEST_COUNTS"
LEFT_OUT = "slow ones left out"
RELEASES = "tests/integration/whole/release"
# More workers than that wait for one disk; a file's tests share what they made, so they stay together.
SPREAD = ("--numprocesses=logical", "--maxprocesses=4", "--dist=loadfile")
SLOW_TOO = ("-m", "")
# A whole site measures time, so what only works gives way to it.
GIVE_WAY = ("nice", "-n", "5")


@dataclass(frozen=True)
class Part:
    """A module with its words, run as a program."""

    name: str
    words: Sequence[str]
    gives_way: bool = True


@dataclass(frozen=True)
class Outcome:
    """How a part ended; ``counts`` are pytest's, by what became of a test."""

    name: str
    status: int
    seconds: float
    counts: Mapping[str, int]

    def __str__(self) -> str:
        verdict = "passed" if self.status == 0 else f"failed with status {self.status}"
        counts = ", ".join(f"{count} {became}" for became, count in self.counts.items() if count)
        return f"{self.name}: {verdict} in {self.seconds:.0f} s" + (f" ({counts})" if counts else "")


LINT = Part("lint", ["ruff", "check", "."])
FORMAT = Part("format", ["ruff", "format", "--check", "."])
TYPES = Part("types", ["mypy", "app", "checks", "rollout"])
UNIT = Part("unit tests", ["pytest", "-q", *SPREAD, "tests/unit"])
PLAYBOOKS = Part("playbooks", ["ansiblelint", "--offline", "-q", "--nocolor", "playbooks", "inventories"])
TESTS = Part("tests", ["pytest", "-q", *SPREAD, f"--ignore={RELEASES}"])
# A whole site waits more than it works, so it runs beside everything else.
SITE = Part("releases", ["pytest", "-q", "--durations=10", RELEASES], gives_way=False)


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for and return the first exit status that is not 0."""
    if arguments[:1] == ["--quick"]:
        if arguments[1:]:
            raise RolloutError("--quick takes no further words.", f"./p12 test {' '.join(arguments[1:])}")
        return _run_all((LINT, FORMAT, UNIT), (TYPES,))
    installed_servers.ensure((*installed_servers.PROGRAMS, *installed_servers.EXTRAS))
    slow_too, words = (SLOW_TOO, arguments[1:]) if arguments[:1] == ["--all"] else ((), arguments)
    if words:
        return _run_all((Part("tests", ["pytest", "-q", *slow_too, *words], gives_way=False),))
    _install_test_programs()
    tests, site = (Part(part.name, [*part.words, *slow_too], part.gives_way) for part in (TESTS, SITE))
    return _run_all((LINT, FORMAT, tests), (site, PLAYBOOKS, TYPES))


def _install_test_programs() -> None:
    """Install what is missing; where that cannot be, the tests that need it are skipped and say so."""
    missing = [program for program in TEST_PROGRAMS if shutil.which(program) is None]
    try:
        if missing:
            apt.install(missing)
    except RolloutError as error:
        sys.stderr.write(f"p12: {error} {error.hint}".rstrip() + "\n")


def _run_all(in_turn: Sequence[Part], beside: Sequence[Part] = ()) -> int:
    """Run parts one after the other, and others beside them, whose output is printed at the end."""
    with TemporaryDirectory() as made, ThreadPoolExecutor(len(beside) or 1) as pool:
        kept = Path(made)
        waiting = [(pool.submit(_run, part, kept, kept / part.name), kept / part.name) for part in beside]
        outcomes = []
        for part in in_turn:
            print(f"\n{part.name}:", flush=True)
            outcomes.append(_run(part, kept))
        for outcome, output in waiting:
            outcomes.append(outcome.result())
            print(f"\n{outcomes[-1].name}:\n{output.read_text(errors='replace')}", end="")
    print()
    for each in outcomes:
        print(each)
    left_out = sum(each.counts.get(LEFT_OUT, 0) for each in outcomes)
    if left_out:
        print(f"LEFT OUT: {left_out} slow tests. With them: ./p12 test --all")
    return next((each.status for each in outcomes if each.status), 0)


def _run(part: Part, kept: Path, output: Path | None = None) -> Outcome:
    """Run a part to its end; what it says goes to the terminal, or to ``output``."""
    started, counts = time.monotonic(), kept / f"{part.name}.json"
    command = [*(GIVE_WAY if part.gives_way else ()), sys.executable, "-P", "-m", *part.words]
    told = {
        "PYTHONPATH": str(CHECKOUT),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        COUNTS: str(counts),
    }
    # Not subprocess.run, which kills at Ctrl-C: pytest is to end the servers it started.
    with (
        output.open("wb") if output else nullcontext() as said,
        subprocess.Popen(
            command, cwd=CHECKOUT, env={**os.environ, **told}, stdout=said, stderr=said and subprocess.STDOUT
        ) as running,
    ):
        status = running.wait()
    seen = json.loads(counts.read_text()) if counts.exists() else {}
    return Outcome(part.name, status, time.monotonic() - started, seen)
