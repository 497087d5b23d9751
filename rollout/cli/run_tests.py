"""``p12 test``: lint, types, playbook lint and every test; the first failure is the status.

``--quick`` is lint, types and what needs no server; ``--all`` is also what is marked ``slow``. Other words
go to pytest: ``p12 test -k journal``.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from rollout.errors import RolloutError
from rollout.host import apt, installed_servers

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

# What only tests need; each program is in the Debian package of its name.
TEST_PROGRAMS = ("chromium", "shellcheck")
# Whole releases wait more than they work, so they run beside everything else.
RELEASES = "tests/integration/whole/release"
QUICK: tuple[tuple[str, Sequence[str]], ...] = (
    ("lint", ["ruff", "check", "."]),
    ("format", ["ruff", "format", "--check", "."]),
    ("types", ["mypy", "app", "checks", "rollout"]),
)
PLAYBOOKS = ("playbooks", ["ansiblelint", "--offline", "-q", "--nocolor", "playbooks", "inventories"])


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for and return the first non-zero exit status."""
    if list(arguments) == ["--quick"]:
        return _first([_run(*check) for check in (*QUICK, ("tests", _pytest("not slow", "tests/unit")))])
    chosen = "slow or not slow" if list(arguments) == ["--all"] else "not slow"
    installed_servers.ensure((*installed_servers.PROGRAMS, *installed_servers.EXTRAS))
    if arguments and list(arguments) != ["--all"]:
        return _run("tests", ["pytest", "-q", *arguments])
    _install_test_programs()
    with TemporaryFile() as said, _started(_pytest(chosen, RELEASES), said) as releases:
        started = time.monotonic()
        rest = ("tests", _pytest(chosen, f"--ignore={RELEASES}"))
        statuses = [_run(*check) for check in (*QUICK, PLAYBOOKS, rest)]
        statuses.append(releases.wait())
        said.seek(0)
        print(said.read().decode(errors="replace"), end="")
        _tell("releases", statuses[-1], started)
    return _first(statuses)


def _pytest(chosen: str, *words: str) -> Sequence[str]:
    return ["pytest", "-q", "-m", chosen, *words]


def _first(statuses: Sequence[int]) -> int:
    return next((status for status in statuses if status), 0)


def _install_test_programs() -> None:
    """Install what is missing; where that cannot be, the tests that need it are skipped and say so."""
    missing = [program for program in TEST_PROGRAMS if shutil.which(program) is None]
    try:
        if missing:
            apt.install(missing)
    except RolloutError as error:
        sys.stderr.write(f"p12: {error} {error.hint}".rstrip() + "\n")


def _run(name: str, command: Sequence[str]) -> int:
    started = time.monotonic()
    with _started(command, None) as running:
        _tell(name, running.wait(), started)
    return running.returncode


def _started(command: Sequence[str], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", *command],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
    )


def _tell(name: str, status: int, started: float) -> None:
    verdict = "passed" if status == 0 else f"failed with status {status}"
    print(f"{name}: {verdict} in {time.monotonic() - started:.0f} s", flush=True)
