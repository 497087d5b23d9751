"""What visitors did and what they were told: the ledger that the oracle holds the database against."""

import contextlib
import fcntl
import json
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from checks.base.errors import CannotMeasure, Misused
from checks.visitors.histogram import Latencies

FAILURES_KEPT = 20
# Visitors go to the newest notes only, so that none of them expires while it is visited.
NOTES_IN_USE = 20
NOTES_KEPT = 5000
RELEASE = re.compile(r"[0-9a-f]{12}")


@dataclass
class NoteViews:
    """One note's views: ``accepted`` by an answer, ``unknown`` while and if there is no answer."""

    accepted: int = 0
    unknown: int = 0


@dataclass
class Ledger:
    """Totals since ``started`` (Unix seconds).

    A view counts as unknown from before it is sent until its answer is in, so at every moment, and in every
    copy on disk, accepted ≤ what the database may hold of the views sent so far ≤ accepted + unknown.
    """

    started: float
    requests: int = 0
    failed: int = 0
    unknown_outcomes: int = 0
    failures: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=FAILURES_KEPT))
    latencies: Latencies = field(default_factory=Latencies)
    notes: dict[str, NoteViews] = field(default_factory=dict)
    releases: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0

    def note_created(self, note_id: str) -> None:
        """Open a note's account, closing the oldest when there are too many to write every second."""
        self.notes.setdefault(note_id, NoteViews())
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
        self.latencies.add(milliseconds)
        if release and RELEASE.fullmatch(release):
            self.releases[release] += 1

    def failure(self, failure: Mapping[str, Any]) -> None:
        self.failed += 1
        self.failures.append(dict(failure))

    def to_dict(self, now: float, stopped: bool) -> dict[str, Any]:
        """The ledger as its file holds it; ``stopped`` says that nothing more will come."""
        return {
            "started": self.started,
            "updated": now,
            "stopped": stopped,
            "requests": self.requests,
            "failed": self.failed,
            "unknown_outcomes": self.unknown_outcomes,
            "in_flight": self.in_flight,
            "failures": list(self.failures),
            "latency_ms": self.latencies.summary(),
            "latency_buckets": self.latencies.to_dict(),
            "notes": {note_id: asdict(views) for note_id, views in self.notes.items()},
            "releases": dict(self.releases),
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any], lost_requests: int = 0) -> "Ledger":
        """Continue from a kept ledger.

        If whoever wrote it was killed, up to ``lost_requests`` of its last requests are not in it; any of the
        notes then in use may have had them, so they are unknown for each. Raises CannotMeasure if it is not
        a ledger.
        """
        try:
            in_use = [] if kept["stopped"] else [*kept["notes"]][-NOTES_IN_USE:]
            lost = dict.fromkeys(in_use, lost_requests)
            return cls(
                started=float(kept["started"]),
                requests=int(kept["requests"]),
                failed=int(kept["failed"]),
                unknown_outcomes=int(kept["unknown_outcomes"]) + int(kept["in_flight"]),
                failures=deque(kept["failures"], maxlen=FAILURES_KEPT),
                latencies=Latencies.from_dict(kept["latency_buckets"], kept["latency_ms"]["max"] or 0.0),
                notes={
                    note_id: NoteViews(int(views["accepted"]), int(views["unknown"]) + lost.get(note_id, 0))
                    for note_id, views in kept["notes"].items()
                },
                releases=Counter(kept["releases"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"The ledger cannot be continued ({error!r}). Move it away to begin anew."
            raise CannotMeasure(message) from error


def read(path: Path) -> dict[str, Any]:
    """Read a ledger file; raises CannotMeasure if there is none or it is not one."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotMeasure(f"{path} is not a ledger ({error}). Name the visitors' state file.") from error
    if not isinstance(kept, dict) or not isinstance(kept.get("notes"), dict):
        raise CannotMeasure(f"{path} is not a ledger: it has no notes. Name the visitors' state file.")
    return kept


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold a ledger's lock for as long as it is being written; raises Misused if someone else holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Misused(f"{path} belongs to visitors who are still running. Stop them first.") from None
        yield


def is_being_written(path: Path) -> bool:
    """Tell whether someone is writing this ledger now."""
    try:
        with _lock(path).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")
