"""Fire the burst as its command does, small and quick."""

import json
import os
import subprocess
import sys
from typing import Any

SECRET = "what the burst shares with the service"
QUICK = ("--levels", "40", "--rounds", "1", "--settle-seconds", "0", "--drain-seconds", "1")


def burst(
    url: str, database: str, *more: str, secret: str = SECRET, console: str = ""
) -> tuple[int, dict[str, Any]]:
    check = [sys.executable, "-m", "checks", "burst", "--base-url", url, "--target", "staging", "--json"]
    done = subprocess.run(
        [*check, *QUICK, *more],
        env={
            "PATH": os.environ["PATH"],
            "P12_REHEARSAL_SECRET": secret,
            "DATABASE_URL": database,
            "P12_POOLER_URL": console,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)
