"""The oracle: does the database hold of every note exactly the views that were accepted?

For each note: accepted ≤ views counted = rows in view_log ≤ accepted + unknown. Views that are logged and
still queued count as counted when visitors are under way; when they have stopped, the queue must drain.
"""

import argparse
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from checks.base import command
from checks.base.errors import CannotMeasure
from checks.base.postgres import connected, dsn
from checks.base.report import Finding, Report, compare, require
from checks.base.view_counts import Counted, count
from checks.base.waiting import wait_until
from checks.visitors import ledger
from checks.visitors.ledger import NoteViews

LEDGER_SECONDS = 15
NAMED = 5


def wait_drained(connection: Any, ids: Collection[str], seconds: float) -> dict[str, Counted]:
    """Read the counters, waiting up to so many seconds until none of the notes' views is queued."""
    counted: dict[str, Counted] = {}

    def is_drained() -> bool:
        counted.update(count(connection, ids))
        return not any(note.queued for note in counted.values())

    wait_until(is_drained, seconds)
    return counted


def judge(
    before: Mapping[str, NoteViews], after: Mapping[str, NoteViews], counted: Mapping[str, Counted]
) -> tuple[Finding, ...]:
    """Hold each note's counters against its views; no note and no accepted view is unknown.

    ``before`` was written before the database was read and ``after`` holds everything sent until then, so
    together they bound what the database may say; for a ledger at rest they are the same.
    """
    lost, extra, torn, missing = [], [], [], []
    for note_id, views in before.items():
        found = counted.get(note_id, Counted(None, 0, 0))
        if found.views is None:
            missing.append((note_id, 1))
            continue
        total, later = found.views + found.queued, after.get(note_id, views)
        lost.append((note_id, max(0, views.accepted - total)))
        extra.append((note_id, max(0, total - later.accepted - later.unknown)))
        torn.append((note_id, abs(total - found.logged)))
    return (
        accepted("accepted_views", before),
        none_wrong("lost_views", lost, "Answered with 200 and not counted"),
        none_wrong("extra_views", extra, "Counted more often than sent"),
        none_wrong("views_unlike_log", torn, "notes.views and the rows of view_log differ"),
        none_wrong("missing_notes", missing, "Created with 201 and not in the database"),
    )


def drained(counted: Mapping[str, Counted]) -> Finding:
    """Hold what is still queued against 0; a queue that does not drain leaves the counters unknown."""
    left = sum(note.queued for note in counted.values())
    return require("queued_views", left, "==", 0, "The queue does not drain; is the worker running?")


def none_wrong(name: str, found: Sequence[tuple[str, int]], what: str) -> Finding:
    """Hold what the notes are wrong by, each and together, against 0."""
    worst = sorted((pair for pair in found if pair[1]), key=lambda pair: -pair[1])[:NAMED]
    hint = f"{what}: " + ", ".join(f"note {note_id} by {by}" for note_id, by in worst) + "."
    return compare(name, sum(by for _, by in found), "==", 0, hint if worst else "")


def accepted(name: str, notes: Mapping[str, NoteViews]) -> Finding:
    total = sum(views.accepted for views in notes.values())
    return require(name, total, ">=", 1, "Nothing was counted, so nothing is proven.")


def report(args: argparse.Namespace, url: str) -> Report:
    """Read ledger, database and, while visitors write it, the ledger again; judge them."""
    before = ledger.read(args.state)
    being_written = ledger.is_being_written(args.state)
    with connected(url) as connection:
        counted = wait_drained(connection, before.notes, 0 if being_written else args.drain_seconds)
    after = _later(args.state, time.time()) if being_written else before
    return Report(
        check="counters",
        target=args.target,
        findings=judge(before.notes, after.notes, counted) + (() if being_written else (drained(counted),)),
        inputs={"state": str(args.state), "drain_seconds": args.drain_seconds},
        samples=str(args.state),
        facts={
            "notes": len(before.notes),
            "accepted": sum(views.accepted for views in after.notes.values()),
            "unknown": sum(views.unknown for views in after.notes.values()),
        },
    )


def _later(path: Path, moment: float) -> ledger.Ledger:
    """Wait for a ledger written after a Unix time; raises CannotMeasure if its writer is stuck."""

    def written() -> ledger.Ledger | None:
        kept = ledger.read(path)
        return kept if kept.updated > moment else None

    if found := wait_until(written, LEDGER_SECONDS):
        return found
    raise CannotMeasure(f"{path} is not being written, but its writer lives. Is the disk full?")


def main(argv: Sequence[str]) -> int:
    """``python -m checks counters --state FILE``: hold the database against a ledger."""
    parser = command.parser("counters", "Hold every note's counter against the ledger of accepted views.")
    parser.add_argument("--state", type=Path, required=True, metavar="FILE", help="the visitors' ledger")
    parser.add_argument("--drain-seconds", type=float, default=60.0, help="the queue's time to drain")
    args = parser.parse_args(argv)
    url = dsn()
    return command.answer(args, "counters", lambda: report(args, url))
