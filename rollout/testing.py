"""``p12 test``: lint, types, playbook lint and every test; the first failure is the status.

Extra words go to pytest: ``p12 test -k journal``.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rollout import apt, servers
from rollout.errors import RolloutError

CHECKOUT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

# What only tests need; each program is in the Debian package of its name.
TEST_PROGRAMS = ("chromium", "shellcheck")
CHECKS: tuple[tuple[str, Sequence[str]], ...] = (
    ("lint", ["ruff", "check", "."]),
    ("format", ["ruff", "format", "--check", "."]),
    ("types", ["mypy", "app", "checks", "rollout"]),
    ("playbooks", ["ansiblelint", "--offline", "-q", "--nocolor", "playbooks", "inventories"]),
    ("tests", ["pytest", "-q"]),
)


def main(arguments: Sequence[str]) -> int:
    """Run everything and return the first non-zero exit status. Words given are for pytest alone."""
    servers.ensure((*servers.PROGRAMS, *servers.EXTRAS))
    if not arguments:
        _install_test_programs()
    chosen = [check for check in CHECKS if check[0] == "tests"] if arguments else CHECKS
    statuses = [_run(name, [*command, *(arguments if name == "tests" else [])]) for name, command in chosen]
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
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        check=False,
    )
    verdict = "passed" if done.returncode == 0 else f"failed with status {done.returncode}"
    print(f"{name}: {verdict} in {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode
