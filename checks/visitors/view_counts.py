"""The oracle: does the database hold of every note exactly the views that were accepted?

For each note: accepted ≤ views counted = rows in view_log ≤ accepted + unknown. Views that are logged and
still queued count as counted when visitors are under way; when they have stopped, the queue must drain.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2.extensions

from checks.base import command
from checks.base.errors import CannotMeasure
from checks.base.postgres import connected, dsn
from checks.base.report import Finding, Report, Verdict, compare
from checks.visitors import ledger

POLL_SECONDS = 0.25
LEDGER_SECONDS = 15
NAMED = 5

# One statement, so one snapshot: the three numbers belong to the same moment.
COUNT = """
SELECT asked.id::text, n.views,
       (SELECT count(*) FROM view_log l WHERE l.note_id = asked.id) AS logged,
       {queued} AS queued
FROM unnest(%(ids)s::int[]) AS asked (id) LEFT JOIN notes n ON n.id = asked.id
"""
QUEUED = "(SELECT count(*) FROM view_queue q WHERE q.note_id = asked.id)"


@dataclass(frozen=True)
class Counted:
    """What the database holds of one note; ``views`` is None if the note is not there."""

    views: int | None
    logged: int
    queued: int


@dataclass(frozen=True)
class Books:
    """A ledger and the database side by side.

    ``before`` was written before the database was read and ``after`` holds everything sent until then, so
    together they bound what the database may say; for a ledger at rest they are the same.
    """

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    counted: Mapping[str, Counted]


def count(connection: psycopg2.extensions.connection, ids: Sequence[str]) -> dict[str, Counted]:
    """Read every note's counter, log rows and queued views in one snapshot."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('view_queue') IS NOT NULL")
        (has_queue,) = cursor.fetchone() or (False,)
        cursor.execute(COUNT.format(queued=QUEUED if has_queue else "0"), {"ids": [int(i) for i in ids]})
        return {row[0]: Counted(*row[1:]) for row in cursor.fetchall()}


def settle(
    connection: psycopg2.extensions.connection,
    ids: Sequence[str],
    drain_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Counted]:
    """Read the counters, waiting up to ``drain_seconds`` until none of the notes' views is queued."""
    deadline = clock() + drain_seconds
    while True:
        counted = count(connection, ids)
        if not any(note.queued for note in counted.values()) or clock() >= deadline:
            return counted
        sleep(POLL_SECONDS)


def judge(books: Books) -> tuple[Finding, ...]:
    """Hold each note's counters against the ledger; no note and no accepted view is unknown."""
    notes = books.before["notes"]
    lost, extra, torn, missing = [], [], [], []
    for note_id, views in notes.items():
        found = books.counted.get(note_id, Counted(None, 0, 0))
        if found.views is None:
            missing.append((note_id, 1))
            continue
        counted = found.views - views.get("views_before", 0) + found.queued
        later = books.after["notes"].get(note_id, views)
        lost.append((note_id, max(0, views["accepted"] - counted)))
        extra.append((note_id, max(0, counted - later["accepted"] - later["unknown"])))
        torn.append((note_id, abs(counted - found.logged + views.get("logged_before", 0))))
    accepted = sum(views["accepted"] for views in notes.values())
    return (
        enough("accepted_views", accepted, 1, "Nothing was counted, so nothing is proven."),
        zero("lost_views", lost, "Answered with 200 and not counted"),
        zero("extra_views", extra, "Counted more often than sent"),
        zero("views_unlike_log", torn, "notes.views and the rows of view_log differ"),
        zero("missing_notes", missing, "Created with 201 and not in the database"),
    )


def drained(counted: Mapping[str, Counted]) -> Finding:
    """Hold what is still queued against 0; a queue that does not drain leaves the counters unknown."""
    left = sum(note.queued for note in counted.values())
    verdict = Verdict.PASSED if left == 0 else Verdict.UNKNOWN
    return Finding("queued_views", left, "==", 0, verdict, "The queue does not drain; is the worker running?")


def zero(name: str, found: Sequence[tuple[str, int]], what: str) -> Finding:
    worst = sorted((pair for pair in found if pair[1]), key=lambda pair: -pair[1])[:NAMED]
    hint = f"{what}: " + ", ".join(f"note {note_id} by {by}" for note_id, by in worst) + "."
    return compare(name, sum(by for _, by in found), "==", 0, hint if worst else "")


def enough(name: str, measured: int, limit: int, hint: str) -> Finding:
    verdict = Verdict.PASSED if measured >= limit else Verdict.UNKNOWN
    return Finding(name, measured, ">=", limit, verdict, hint)


def read_books(path: Path, url: str, drain_seconds: float) -> Books:
    """Read ledger, database and, while visitors write it, the ledger again; raises CannotMeasure."""
    before = ledger.read(path)
    being_written = ledger.is_being_written(path)
    with connected(url) as connection:
        counted = settle(connection, list(before["notes"]), 0 if being_written else drain_seconds)
    return Books(before, _later(path, time.time()) if being_written else before, counted)


def _later(path: Path, moment: float) -> dict[str, Any]:
    """Wait for a ledger written after a Unix time; raises CannotMeasure if its writer is stuck."""
    deadline = time.monotonic() + LEDGER_SECONDS
    while time.monotonic() < deadline:
        book = ledger.read(path)
        if book["updated"] > moment:
            return book
        time.sleep(POLL_SECONDS)
    raise CannotMeasure(f"{path} is not being written, but its writer lives. Is the disk full?")


def report(args: argparse.Namespace, url: str) -> Report:
    """Read the books and judge them."""
    started_at = time.time()
    books = read_books(args.state, url, args.drain_seconds)
    findings = judge(books)
    if books.after is books.before:
        findings += (drained(books.counted),)
    notes = books.after["notes"].values()
    return Report(
        check="counters",
        target=args.target,
        findings=findings,
        started_at=started_at,
        finished_at=time.time(),
        inputs={"state": str(args.state), "drain_seconds": args.drain_seconds},
        samples=str(args.state),
        facts={
            "notes": len(books.before["notes"]),
            "accepted": sum(note["accepted"] for note in notes),
            "unknown": sum(note["unknown"] for note in notes),
        },
    )


def main(argv: Sequence[str]) -> int:
    """``python -m checks counters --state FILE``: hold the database against a ledger."""
    parser = command.parser("counters", "Hold every note's counter against the ledger of accepted views.")
    parser.add_argument("--state", type=Path, required=True, metavar="FILE", help="the visitors' ledger")
    parser.add_argument("--drain-seconds", type=float, default=60.0, help="the queue's time to drain")
    args = parser.parse_args(argv)
    url = dsn()
    return command.answer(args, "counters", time.time, lambda: report(args, url))
