"""Which backups a database host has, verified or not."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.backup.manifest import SUFFIX, Backup, list_backups
from rollout.errors import Refused
from rollout.text import command_hint, size_text

# What a backup's files are named after: when it was begun, for which target, of which release.
IDS = "[0-9]*T[0-9]*Z-*"
HOURS = 3600
GROWTH = 1.3
# For the WAL of a restore, and for what the service writes meanwhile.
MARGIN_BYTES = 400 * 1024**2


@dataclass(frozen=True)
class Kept:
    """A backup by its name; ``unverified`` says why it is not one that may be restored."""

    id: str
    backup: Backup | None = None
    unverified: str = ""

    def line(self, now: float) -> str:
        if self.backup is None:
            return f"  {self.id}  not verified: {self.unverified}"
        made = self.backup.manifest
        size = size_text(made.size_bytes) if made.archive else "nothing to lose"
        return (
            f"  {self.id}  {age(now - made.started_at):>8}  {size:>15}  {made.release or '-':<12}  verified"
        )


def kept(directory: Path) -> list[Kept]:
    """Return everything that looks like a backup, oldest first."""
    verified = {backup.manifest.id: backup for backup in list_backups(directory)}
    names = {path.name.split(".")[0]: path for path in sorted(directory.glob(IDS)) if path.is_file()}
    return [
        Kept(name, verified.get(name), "" if name in verified else _reason(directory, name))
        for name in sorted(names)
    ]


def require_verified(directory: Path, backup_id: str) -> Backup:
    """Return a backup that may be restored.

    :raises Refused: there is none of that name, it is not verified, or it holds nothing.
    """
    found = next((each for each in kept(directory) if each.id == backup_id), None)
    accepted = [each.id for each in kept(directory) if each.backup and each.backup.archive]
    hint = f"Accepted: {', '.join(accepted[-5:]) or 'none yet; make one: ./p12 backup'}"
    if found is None:
        raise Refused(f"There is no backup {backup_id}.", hint)
    if found.backup is None:
        raise Refused(f"{backup_id} is not verified: {found.unverified}.", hint)
    if found.backup.archive is None:
        raise Refused(f"{backup_id} holds nothing: there was nothing to lose.", hint)
    return found.backup


def require_room(name: str, backup: Backup, data: Path, free: int) -> None:
    """Refuse to restore where it would fill the disk that the live database writes to.

    A restored database may be larger than its source was, for its indexes are built while rows still come.

    :raises Refused: ``free`` bytes at ``data`` are too few.
    """
    needed = GROWTH * backup.manifest.database_bytes + MARGIN_BYTES
    if free < needed:
        raise Refused(
            f"{name}: {data} has {free // 1024**2} MB free; restoring {backup.manifest.id} beside the live "
            f"database needs {needed / 1024**2:.0f} MB.",
            f"Free some space there, such as with {command_hint('restore --drop NAME', name)}",
        )


def listed(target: str, found: Sequence[Kept], now: float | None = None) -> str:
    lines = [each.line(time.time() if now is None else now) for each in found]
    return f"{target}: backups, oldest first\n" + ("\n".join(lines) or "  none yet: ./p12 backup")


def age(seconds: float) -> str:
    """Say an age in the unit that a person would use."""
    for size, unit in ((24 * HOURS, "d"), (HOURS, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _reason(directory: Path, name: str) -> str:
    if (directory / f"{name}{SUFFIX}").exists():
        return "a file of it is missing or not as long as its manifest says, or the manifest cannot be read"
    return "it has no manifest, so it was never restored and compared"
