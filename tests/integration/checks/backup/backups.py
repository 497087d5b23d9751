"""Backups of a test's database, made as an engineer makes them: by the command, as an unprivileged user."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.checks.servers import BIN, ROOT, UNPRIVILEGED

ROWS = """
INSERT INTO notes (text, views) SELECT 'note ' || i || ' ünïcödé', i FROM generate_series(1, 500) AS i;
INSERT INTO view_log (note_id, fingerprint, day)
    SELECT i % 500 + 1, 'visitor ' || i, '2030-01-01' FROM generate_series(1, 5000) AS i;
CREATE TABLE "Odd name" ("Ä" float8, "group" bytea, p12 timestamptz DEFAULT now());
INSERT INTO "Odd name" VALUES (0.1 + 0.2, '\\xdeadbeef'), (NULL, NULL), ('NaN', '');
"""


def name_of(url: str) -> str:
    return url.rsplit("/", 1)[1]


def command(out: Path, *more: str) -> list[str]:
    check = [sys.executable, "-P", "-m", "checks", "backup", "--out", str(out), "--bin-dir", str(BIN)]
    return [*UNPRIVILEGED, *check, "--target", "production", "--release", "0123456789ab" * 2, "--json", *more]


def environment(url: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": url,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def backup(out: Path, url: str, *more: str, **variables: str) -> tuple[int, dict[str, Any], str]:
    around = environment(url) | variables
    done = subprocess.run(
        command(out, *more), env=around, cwd="/", capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def files(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} - {".lock"}
