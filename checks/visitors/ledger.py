"""What visitors did and what they were told: the ledger that the oracle holds the database against."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from checks.base.errors import CannotMeasure, Misused
from checks.base.files import file_lock, is_locked
from checks.base.validation import Count, Number, validate
from checks.visitors import histogram

FAILURES_KEPT = 20
# Visitors go to the newest notes only, so that none of them expires while it is visited.
NOTES_IN_USE = 20
NOTES_KEPT = 5000
RELEASE = re.compile(r"[0-9a-f]{12}")


class NoteViews(msgspec.Struct):
    """One note's views: ``accepted`` by an answer, ``unknown`` while and if there is no answer."""

    accepted: Count
    unknown: Count


class Ledger(msgspec.Struct):
    """Totals since ``started`` (Unix seconds), as the ledger's file holds them.

    A view counts as unknown from before it is sent until its answer is in, so at every moment, and in every
    copy on disk, accepted ≤ what the database may hold of the views sent so far ≤ accepted + unknown.
    ``failed`` counts every failure, ``failed_by`` those that a release answered for, ``wrong_by`` those of
    them that had the right status and a wrong body; what is refused because
    the target is read-only is in ``read_only`` and no failure. ``updated`` is when the copy was made,
    ``stopped`` says that nothing more will come.
    """

    notes: dict[str, NoteViews]
    started: Number = 0.0
    updated: Number = 0.0
    stopped: bool = False
    requests: Count = 0
    failed: Count = 0
    failed_by: dict[str, Count] = {}
    wrong_by: dict[str, Count] = {}
    read_only: Count = 0
    unknown_outcomes: Count = 0
    in_flight: Count = 0
    failures: list[dict[str, Any]] = []
    latency_ms: dict[str, Number | None] = {}
    latency_buckets: dict[int, Count] = {}
    releases: dict[str, Count] = {}

    def note_created(self, note_id: str) -> None:
        """Open a note's account, closing the oldest when there are too many to write every second."""
        self.notes.setdefault(note_id, NoteViews(0, 0))
        while len(self.notes) > NOTES_KEPT:
            del self.notes[next(iter(self.notes))]

    def view_sent(self, note_id: str) -> None:
        """Count a new visitor's view as unknown; to be called before its request leaves."""
        self.notes[note_id].unknown += 1

    def view_accepted(self, note_id: str) -> None:
        self.notes[note_id].unknown -= 1
        self.notes[note_id].accepted += 1

    def view_refused(self, note_id: str) -> None:
        """Take back a view that the service said it did not count."""
        self.notes[note_id].unknown -= 1

    def answered(self, milliseconds: float, release: str | None) -> None:
        """Count a finished request, whatever came of it."""
        self.requests += 1
        bucket = histogram.bucket_of(milliseconds)
        self.latency_buckets[bucket] = self.latency_buckets.get(bucket, 0) + 1
        self.latency_ms["max"] = max(milliseconds, self.latency_ms.get("max") or 0.0)
        if release and RELEASE.fullmatch(release):
            self.releases[release] = self.releases.get(release, 0) + 1

    def failure(self, failure: Mapping[str, Any], is_body: bool = False) -> None:
        """Count a failed request; ``is_body`` says that only its body was wrong."""
        self.failed += 1
        if RELEASE.fullmatch(release := failure.get("release") or ""):
            for counts in (self.failed_by, self.wrong_by) if is_body else (self.failed_by,):
                counts[release] = counts.get(release, 0) + 1
        self.failures = [*self.failures, dict(failure)][-FAILURES_KEPT:]

    def latencies(self) -> dict[str, float | None]:
        """p50, p95, p99 and max in ms."""
        return histogram.summary(self.latency_buckets, self.latency_ms.get("max") or 0.0)

    def to_json(self, now: float, stopped: bool) -> str:
        """The text of a ledger's file."""
        self.updated, self.stopped, self.latency_ms = now, stopped, self.latencies()
        return msgspec.json.encode(self).decode() + "\n"


def continued(path: Path, lost_requests: int) -> Ledger:
    """Go on with a ledger's file; raises CannotMeasure if it is none.

    If whoever wrote it was killed, up to ``lost_requests`` of its last requests are not in it; any of the
    notes then in use may have had them, so they are unknown for each.
    """
    book = read(path)
    for note_id in [] if book.stopped else [*book.notes][-NOTES_IN_USE:]:
        book.notes[note_id].unknown += lost_requests
    book.unknown_outcomes += book.in_flight
    book.in_flight = 0
    return book


def read(path: Path) -> Ledger:
    """Read a ledger file; raises CannotMeasure if there is none or it is not one."""
    try:
        return validate(msgspec.json.decode(path.read_bytes()), Ledger, "the ledger")
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path} is not a ledger ({error})."
        raise CannotMeasure(f"{message} Name the visitors' state file, or move it away.") from None


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold a ledger's lock for as long as it is being written; raises Misused if someone else holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(file_lock(_lock(path)))
        except BlockingIOError:
            raise Misused(f"{path} belongs to visitors who are still running. Stop them first.") from None
        yield


def is_being_written(path: Path) -> bool:
    """Tell whether someone is writing this ledger now."""
    return is_locked(_lock(path))


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")
