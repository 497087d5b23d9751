"""Backups on disk that no database stands behind."""

import hashlib
from pathlib import Path
from typing import Any

from checks.backup.manifest import Backup, Manifest

DAY = 86400.0


def keep_backup(directory: Path, taken_at: float, content: bytes = b"rows", **more: Any) -> Backup:
    """Leave a backup's three files in a directory, as a verified one would."""
    name = f"{int(taken_at):015d}"
    fields = {
        "id": name,
        "target": "production",
        "release": "abc",
        "nothing_to_lose": False,
        "started_at": taken_at,
        "finished_at": taken_at,
        "database": "paste12",
        "system_identifier": "1",
        "server_version": "15.1",
        "tools_version": "15.1",
        "encoding": "UTF8",
        "schema_revision": None,
        "archive": f"{name}.dump",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "globals": f"{name}.globals.sql",
        "globals_sha256": hashlib.sha256(b"roles").hexdigest(),
    }
    made = Manifest(**{**fields, **more})
    (directory / f"{name}.globals.sql").write_bytes(b"roles")
    if made.archive:
        (directory / made.archive).write_bytes(content)
    made.write(directory)
    return Backup(directory, made)
