"""``p12 test``: lint, types, playbook lint and every test; the first failure is the status.

Extra words go to pytest: ``p12 test -k journal``.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rollout import servers

CHECKOUT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

CHECKS: tuple[tuple[str, Sequence[str]], ...] = (
    ("lint", ["ruff", "check", "."]),
    ("format", ["ruff", "format", "--check", "."]),
    ("types", ["mypy", "app", "checks", "rollout"]),
    ("playbooks", ["ansiblelint", "--offline", "-q", "--nocolor", "playbooks", "inventories"]),
    ("tests", ["pytest", "-q"]),
)


def main(arguments: Sequence[str]) -> int:
    """Run everything and return the first non-zero exit status. Words given are for pytest alone."""
    servers.ensure()
    chosen = [check for check in CHECKS if check[0] == "tests"] if arguments else CHECKS
    statuses = [_run(name, [*command, *(arguments if name == "tests" else [])]) for name, command in chosen]
    return next((status for status in statuses if status), 0)


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
