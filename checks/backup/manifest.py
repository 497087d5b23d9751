"""What is known of a backup, and which of the files in a directory are backups."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from checks.backup.digest import Contents
from checks.base.errors import CannotMeasure
from checks.base.files import write_atomically

SUFFIX = ".manifest.json"


@dataclass(frozen=True)
class Manifest:
    """A backup that was restored and compared before this was written.

    ``archive`` and ``globals`` (roles, without passwords) are file names beside the manifest, None when there
    was ``nothing_to_lose``; ``sha256`` is of the file as it is stored, encrypted to ``encrypted_to`` if any;
    ``lsn`` is where the WAL stood at the snapshot; ``smoke`` is what the service would have read then;
    ``foreign_tables`` have their rows elsewhere; ``roles`` own or may do something; ``locale`` are options of
    CREATE DATABASE. Times are Unix seconds, sizes bytes; ``tables`` maps a name to its rows and digest,
    ``objects`` to a digest. An older kit noted no ``objects``, ``roles`` and ``locale``.
    """

    id: str
    target: str
    release: str
    nothing_to_lose: bool
    started_at: float
    finished_at: float
    database: str
    system_identifier: str
    server_version: str
    tools_version: str
    encoding: str
    schema_revision: str | None
    archive: str | None = None
    size_bytes: int = 0
    sha256: str = ""
    database_bytes: int = 0
    schema_sha256: str = ""
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sequences: Mapping[str, int] = field(default_factory=dict)
    lsn: str = ""
    foreign_tables: Sequence[str] = ()
    objects: Mapping[str, str] = field(default_factory=dict)
    locale: Mapping[str, str] = field(default_factory=dict)
    roles: Sequence[str] = ()
    encrypted_to: Sequence[str] = ()
    globals: str | None = None
    globals_sha256: str = ""
    smoke: Mapping[str, Any] = field(default_factory=dict)
    dump_seconds: float = 0.0
    proof_seconds: float = 0.0

    @property
    def contents(self) -> Contents:
        return Contents(self.tables, self.sequences, self.schema_sha256, self.objects)

    def write(self, directory: Path) -> None:
        """Make the files beside it a backup; only whoever proved them may."""
        text = json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"
        write_atomically(directory / f"{self.id}{SUFFIX}", text, 0o600, is_durable=True)


@dataclass(frozen=True)
class Backup:
    """A kept backup: its manifest and the directory it is in."""

    directory: Path
    manifest: Manifest

    @property
    def archive(self) -> Path | None:
        return self.directory / self.manifest.archive if self.manifest.archive else None

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that belongs to it, the manifest last."""
        named = (self.manifest.archive, self.manifest.globals, f"{self.manifest.id}{SUFFIX}")
        return tuple(self.directory / name for name in named if name)


def read(path: Path) -> Manifest:
    """Read a manifest; raises CannotMeasure if it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, ValueError) as error:
        raise CannotMeasure(f"{path} is not a backup's manifest: {error}") from None


def list_backups(directory: Path) -> list[Backup]:
    """Return the backups of a directory, oldest first.

    Only those whose manifest, written after the proof, is whole, which have all of their files, and whose
    archive has the size it had then.
    """
    found = []
    for path in directory.glob(f"*{SUFFIX}"):
        try:
            backup = Backup(directory, read(path))
            sizes = {file: file.stat().st_size for file in backup.files}
            if backup.archive is None or sizes[backup.archive] == backup.manifest.size_bytes:
                found.append(backup)
        except (CannotMeasure, OSError):
            continue
    return sorted(found, key=lambda backup: (backup.manifest.started_at, backup.manifest.id))


def find(directory: Path, backup_id: str) -> Backup:
    """Return one backup; raises CannotMeasure, naming those there are, if it is not there."""
    backups = list_backups(directory)
    for backup in backups:
        if backup.manifest.id == backup_id:
            return backup
    there = ", ".join(backup.manifest.id for backup in backups) or "none"
    raise CannotMeasure(f"{directory} has no whole backup {backup_id}. There: {there}.")


def sha256(path: Path) -> str:
    """Digest a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
