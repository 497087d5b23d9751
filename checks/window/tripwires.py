"""What ends a window at once, however much went well: trouble of the database, and errors that burn.

The database is everybody's: where the balancer's requests are judged, its trouble holds a window, and fails
it only if a process of the candidate is who holds others up.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.base.report import Finding, compare, held
from checks.window.limits import WindowLimits

# Each value of a reading, the limit that it is held against, and where to look.
READINGS: Mapping[str, tuple[str, str]] = {
    "connections_ratio": ("<=", "Of max_connections less the reserved; see pg_stat_activity."),
    "pooler_waiting_seconds": ("<", "Clients wait in pgbouncer's line; see SHOW POOLS."),
    "lock_wait_seconds": ("<=", "See pg_locks and pg_blocking_pids()."),
    "transaction_seconds": ("<=", "The oldest transaction of the service; see pg_stat_activity."),
    "queue_lag_seconds": ("<=", "The oldest queued view; is the worker running?"),
    "miscounted_notes": (
        "<=",
        "Notes whose views changed otherwise than the log of views; see ./p12 status.",
    ),
}
NUMBERS = (
    *("connections", "connection_limit", "pooler_waiting"),
    *("lock_wait_seconds", "transaction_seconds", "queue_lag_seconds", "deadlocks"),
)
# What a site may not let anybody read, and whose finding goes with it.
UNREADABLE = {"pooler_waiting": "pooler_waiting_seconds", "transaction_seconds": "transaction_seconds"}

# No reading is as large; what is larger is no number.
LARGEST = 1e18


@dataclass
class Database:
    """The readings of a window: the worst of each value, and since when clients wait without a pause.

    A reading is ``{"at": unix seconds, "started": …, "stats_reset": …}`` and ``NUMBERS``, with the
    ``holders`` of locks and of the oldest transaction once they are worth telling. What nobody can read on
    this site is in its ``unread`` instead, and is judged by nobody. Its deadlocks are the whole database's,
    so they count only while the candidate is alone on it.
    """

    limits: WindowLimits
    alone: bool
    worst: dict[str, float] = field(default_factory=dict)
    deadlocks: int = 0
    # Who held others up at the worst of each value.
    holders: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _last: Mapping[str, Any] = field(default_factory=dict)
    _waiting_since: float | None = None

    def add(self, sample: Mapping[str, Any]) -> list[str]:
        """Take in a sample's reading; return why its time does not count as watched, if it does not."""
        at, found = sample.get("at"), sample.get("database")
        if not isinstance(found, Mapping) or not _is_whole(found):
            self._waiting_since = None
            return ["the database was not read"]
        if found["connection_limit"] <= 0:
            return [f"the database gives {found['connection_limit']} connections"]
        if not _is_number(at) or abs(at - found["at"]) > self.limits.database_gap_seconds:
            self._waiting_since = None
            return ["the database's last answer is too old"]
        before, self._last = self._last, found
        broken = self._broken(before, found)
        if not broken and before:
            self.deadlocks += found["deadlocks"] - before["deadlocks"]
        self._note(found)
        return broken

    def _broken(self, before: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
        if not before:
            return []
        reasons = {"started": "Postgres was restarted", "stats_reset": "its statistics were reset"}
        broken = [words for name, words in reasons.items() if found.get(name) != before.get(name)]
        if found["deadlocks"] < before["deadlocks"]:
            broken.append("its deadlock counter fell")
        return broken

    def _note(self, found: Mapping[str, Any]) -> None:
        if not found.get("pooler_waiting"):
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = found["at"]
        since = self._waiting_since
        values = {name: found[name] for name in READINGS if name in found} | {
            "connections_ratio": found["connections"] / found["connection_limit"],
            "pooler_waiting_seconds": found["at"] - since if since is not None else 0,
            **({"miscounted_notes": len(found["miscounted"])} if "miscounted" in found else {}),
        }
        for name, value in values.items():
            if name not in self.worst or value > self.worst[name]:
                self.worst[name] = float(value)
                self.holders[name] = _holder(found.get("holders"), name)

    def findings(self, is_ours: Callable[[str], bool] | None = None) -> list[Finding]:
        """Hold the worst values against their limits; ``is_ours`` knows the candidate's sessions by name.

        With it, what somebody else may have caused is held.
        """
        if not self.limits.watch_database:
            return []
        found = []
        unread = [UNREADABLE[name] for name in _unread(self._last)]
        for name, (operator, hint) in READINGS.items():
            # A guard of before did not count.
            if name in unread or (name == "miscounted_notes" and name not in self.worst):
                continue
            holder = self.holders.get(name) or {}
            words = _holder_words(holder) or hint
            finding = compare(name, self.worst.get(name), operator, getattr(self.limits, name), words)
            blamed = is_ours is None or (holder and is_ours(str(holder.get("application"))))
            found.append(finding if blamed else held(finding))
        if self.alone:
            deadlocks = self.deadlocks if self._last else None
            hint = "Counted by Postgres; see its log."
            found.append(compare("database_deadlocks", deadlocks, "<=", self.limits.deadlocks, hint))
        return found


def _unread(reading: Mapping[str, Any]) -> list[str]:
    """Of ``UNREADABLE``, what a reading says that nobody can read on its site."""
    said = reading.get("unread")
    return [name for name in said if name in UNREADABLE] if isinstance(said, list) else []


def _is_whole(found: Mapping[str, Any]) -> bool:
    unread = _unread(found)
    return all(_is_number(found.get(name)) for name in ("at", *NUMBERS) if name not in unread)


def _holder(holders: Any, name: str) -> Mapping[str, Any]:
    """Who is told for a value: who blocks others, or has the oldest transaction."""
    known = [each for each in holders if isinstance(each, Mapping)] if isinstance(holders, list) else []
    if name == "lock_wait_seconds":
        known = [each for each in known if each.get("is_blocking")]
    return known[0] if known and name in ("lock_wait_seconds", "transaction_seconds") else {}


def _holder_words(holder: Mapping[str, Any]) -> str:
    if not holder:
        return ""
    seconds = holder.get("seconds")
    since = f" for {seconds:.0f} s" if _is_number(seconds) else ""
    return (
        f"Held by pid {holder.get('pid')} ({holder.get('user')}, {holder.get('application') or 'no name'}, "
        f"{holder.get('state')}){since}: {holder.get('query')}"
    )


@dataclass
class Breaker:
    """Errors of the last ``breaker_seconds``: enough of them at a burning rate fail a window at once."""

    limits: WindowLimits
    requests: int = 0
    errors: int = 0
    _recent: deque[tuple[float, int, int]] = field(default_factory=deque)

    def add(self, elapsed: float, requests: int, errors: int) -> None:
        self._recent.append((elapsed, requests, errors))
        self.requests, self.errors = self.requests + requests, self.errors + errors
        while self._recent[0][0] < elapsed - self.limits.breaker_seconds:
            _, requests, errors = self._recent.popleft()
            self.requests, self.errors = self.requests - requests, self.errors - errors

    @property
    def ratio(self) -> float:
        return self.errors / max(self.requests, self.errors, 1)

    def finding(self, candidate: str) -> Finding:
        limits, errors, requests = self.limits, self.errors, self.requests
        burning = errors if errors > limits.burning_ratio * max(requests, errors) else 0
        where = f"{candidate}: {errors} of {requests} requests failed in {limits.breaker_seconds:g} s."
        return compare("burning_errors", burning, "<", limits.breaker_errors, where)


@dataclass
class Memory:
    """What the candidate's processes keep in memory at most; unknown until one tells it."""

    limits: WindowLimits
    worst: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, instance: Mapping[str, Any]) -> None:
        megabytes = instance.get("resident_mb")
        if _is_number(megabytes):
            self.worst[name] = max(self.worst.get(name, 0.0), float(str(megabytes)))

    def finding(self) -> Finding:
        limit = self.limits.resident_mb
        if not self.worst:
            return compare("resident_mb", None, "<=", limit, "No process tells what it keeps in memory.")
        name, megabytes = max(self.worst.items(), key=lambda item: item[1])
        hint = f"{name} is the largest process; does it leak?"
        return compare("resident_mb", round(megabytes, 1), "<=", limit, hint)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # A comparison also holds for whole numbers that no float can be, and for what is not a number.
    return 0 <= value < LARGEST
