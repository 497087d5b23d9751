"""Which backups stay: the newest few, one a day, one a week; and never the last one out."""

import datetime
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.backup.manifest import Backup, list_backups


@dataclass(frozen=True)
class Keep:
    """How many to keep of each kind: the latest, and of so many days and weeks (UTC) the latest of each."""

    latest: int = 3
    daily: int = 7
    weekly: int = 4


def superfluous(backups: Sequence[Backup], keep: Keep) -> list[Backup]:
    """Return those that need not stay, oldest first.

    The newest always stays, and so does the newest with something in it.
    """
    newest_first = sorted(backups, key=lambda b: (b.manifest.started_at, b.manifest.id), reverse=True)
    with_something = [backup for backup in newest_first if backup.archive]
    staying = [*newest_first[: max(1, keep.latest)], *with_something[:1]]
    staying += _latest_of_each(newest_first, keep.daily, lambda day: day.isoformat())
    staying += _latest_of_each(newest_first, keep.weekly, lambda day: "{}-{}".format(*day.isocalendar()[:2]))
    names = {backup.manifest.id for backup in staying}
    return [backup for backup in reversed(newest_first) if backup.manifest.id not in names]


def _latest_of_each(
    newest_first: Sequence[Backup], number: int, period: Callable[[datetime.date], str]
) -> list[Backup]:
    latest: dict[str, Backup] = {}
    for backup in newest_first:
        day = datetime.datetime.fromtimestamp(backup.manifest.started_at, datetime.UTC).date()
        latest.setdefault(period(day), backup)
    return list(latest.values())[:number]


def prune(directory: Path, keep: Keep, is_dry_run: bool = False, spare: Collection[str] = ()) -> list[str]:
    """Remove what need not stay, each target's backups by themselves; return their ids, oldest first.

    Those that ``spare`` names stay besides.

    To be called under the directory's lock. A manifest goes first, so what is left of an interrupted removal
    is no backup, and the next backup clears it away.
    """
    backups = list_backups(directory)
    targets = sorted({backup.manifest.target for backup in backups})
    gone = [
        backup
        for target in targets
        for backup in superfluous([b for b in backups if b.manifest.target == target], keep)
        if backup.manifest.id not in spare
    ]
    if not is_dry_run:
        for backup in gone:
            for path in reversed(backup.files):
                path.unlink(missing_ok=True)
    return [backup.manifest.id for backup in gone]
