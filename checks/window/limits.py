"""What a window is held against: the one place with the defaults."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.window.absence import Tolerable

# The chance of failing a healthy candidate is shared out among what is compared; errors get half of it.
ALPHA_WEIGHTS: Mapping[str, float] = {"errors": 0.5, "busy": 0.2, "slow": 0.15, "retries": 0.15}
# A sum of floats that are meant to be 1.
ROUNDING = 1e-9
POSITIVE = (
    *("scrape_gap_seconds", "database_gap_seconds", "breaker_seconds", "pooler_waiting_seconds"),
    *("resident_mb", "slow_seconds", "lock_wait_seconds", "transaction_seconds", "queue_lag_seconds"),
    *("breaker_burn_rate", "shared_seconds", "cold_seconds", "withdrawal_seconds", "leak_hours"),
)
RATIOS = (
    *("max_error_ratio", "max_slow_ratio", "max_busy_ratio", "max_retry_ratio", "alpha"),
    *("tolerable_errors", "tolerable_slow", "tolerable_missing"),
)
# What a small share of the traffic may hide: (up to so many percent, errors, slow answers, missing ones).
SMALL_SHARES = ((5, 0.05, 0.1, 0.5), (25, 0.02, 0.05, 0.35))
# What may be observed only; that there was enough to judge by may not.
OBSERVABLE = (
    *(
        "deadlocks",
        "dead_instances",
        "restarts",
        "burning_errors",
        "resident_mb",
        "open_files",
        "connections",
    ),
    *("connections_ratio", "pooler_waiting_seconds", "lock_wait_seconds", "transaction_seconds"),
    *(
        "queue_lag_seconds",
        "miscounted_notes",
        "database_deadlocks",
        "database_connections",
        "database_queue_lag_seconds",
    ),
    *("errors", "busy", "slow", "retries", "failed", "cut", "not_found", "limited", "refused", "redirected"),
    *("slow_p90", "slow_p95", "slow_p99", "latency", "missing", "unwanted", "shared_seconds"),
    *("old_slot_worsened",),
)
# Blocks of so many seconds need no look each second.
LONG_BLOCK_SECONDS = 10.0
# Less than this nobody can wait for.
LEAST_ALPHA = 1e-9


@dataclass(frozen=True)
class WindowLimits:
    """What a window is held against.

    ``seconds`` must be watched without a break in sight; ``max_seconds`` is how long it may take in all.
    ``min_requests`` is what the candidate must have answered (beside a control that answered too, if there
    is one). ``max_error_ratio`` is the SLO, ``alpha`` the chance of failing a healthy candidate, shared out
    by ``alpha_weights``.

    Latency is compared after ``warmup_seconds``, once ``baseline_requests`` of the control have shown where
    its p95 lies. Without a control at most ``max_slow_ratio`` may be slower than that, or than
    ``slow_seconds`` where no control has shown it, ``max_busy_ratio`` may get a 503, and there may be
    ``max_retry_ratio`` retries a request.

    The breaker trips on ``breaker_errors`` candidate errors within ``breaker_seconds`` at more than
    ``breaker_burn_rate`` times the SLO (14.4: the budget of 30 days would be gone in 2).

    The database is looked at by a reader of its own, unless ``watch_database`` is false; time without an
    answer of it that is younger than ``database_gap_seconds`` is not watched. ``connections_ratio`` is of
    max_connections less the reserved; ``lock_wait_seconds``, ``transaction_seconds`` and
    ``queue_lag_seconds`` are the oldest of their kind; clients may wait in the pooler's line without a pause
    for less than ``pooler_waiting_seconds``. Of at most ``miscounted_notes`` the views may change otherwise
    than the log of views. ``resident_mb`` is what one instance may keep in memory.
    What surely grows, and faster than in the old slot, must not reach its limit within ``leak_hours``:
    memory, open files and database connections of an instance, connections and queue lag of the database.

    With ``by_request`` the balancer's request log is judged beside a control, and a pass is a proof: the
    candidate's errors are at most ``tolerable_errors`` above the control's (or twice those), slow answers
    ``tolerable_slow``, and it lacks at most ``tolerable_missing`` of its part of the answers; small shares
    are given wider bounds. The window is held once both slots suffered for ``shared_seconds`` within ten
    minutes; for ``withdrawal_seconds`` after turning back it is watched whether the harm goes along. A new
    process may get faster for ``cold_seconds``.

    ``restarts`` is how often the candidate's processes may start anew: once may be a person, and then a
    person decides; more is a release that does not stay up.

    ``observe`` names findings that are shown and journaled and never decide, such as ``transaction_seconds``
    or ``not_found``; a name stands for all that begin with it. ``signals`` are the site's own, and come from
    ``p12_signals``.

    Raises ValueError for a limit that could let a window pass on nothing.
    """

    seconds: float
    max_seconds: float
    min_requests: int
    max_error_ratio: float
    alpha: float = 0.01
    alpha_weights: Mapping[str, float] = field(default_factory=lambda: dict(ALPHA_WEIGHTS))
    deadlocks: int = 0
    dead_instances: int = 0
    restarts: int = 1
    resident_mb: float = 400.0
    scrape_gap_seconds: float = 15.0
    warmup_seconds: float = 30.0
    baseline_requests: int = 100
    max_slow_ratio: float = 0.2
    slow_seconds: float = 1.0
    max_busy_ratio: float = 0.01
    max_retry_ratio: float = 0.1
    breaker_errors: int = 10
    breaker_burn_rate: float = 14.4
    breaker_seconds: float = 60.0
    watch_database: bool = True
    database_gap_seconds: float = 15.0
    connections_ratio: float = 0.8
    pooler_waiting_seconds: float = 30.0
    lock_wait_seconds: float = 10.0
    transaction_seconds: float = 120.0
    queue_lag_seconds: float = 60.0
    miscounted_notes: int = 0
    leak_hours: float = 12.0
    by_request: bool = True
    tolerable_errors: float = 0.003
    tolerable_slow: float = 0.03
    tolerable_missing: float = 0.25
    shared_seconds: float = 30.0
    cold_seconds: float = 150.0
    withdrawal_seconds: float = 60.0
    signals: Mapping[str, Any] = field(default_factory=dict)
    observe: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, holds, accepted in self._rules():
            if not holds:
                raise ValueError(f"{name}={getattr(self, name)} is not a window limit. Use {accepted}.")

    def _rules(self) -> Iterator[tuple[str, bool, str]]:
        finite = math.isfinite(self.max_seconds)
        yield "seconds", self.seconds > 0, "more than 0"
        yield "max_seconds", finite and self.max_seconds >= self.seconds, "at least seconds"
        for name in ("min_requests", "baseline_requests", "breaker_errors"):
            yield name, getattr(self, name) >= 1, "at least 1"
        for name in RATIOS:
            yield name, 0 < getattr(self, name) < 1, "between 0 and 1, both excluded"
        yield "alpha", self.alpha >= LEAST_ALPHA, f"{LEAST_ALPHA:g} or more"
        yield "connections_ratio", 0 < self.connections_ratio <= 1, "more than 0, at most 1"
        yield "warmup_seconds", 0 <= self.warmup_seconds < self.max_seconds, "0 or more, below max_seconds"
        for name in POSITIVE:
            yield name, 0 < getattr(self, name) < math.inf, "more than 0"
        for name in ("deadlocks", "dead_instances", "restarts", "miscounted_notes"):
            yield name, 0 <= getattr(self, name) < math.inf, "0 or more"
        yield "observe", all(map(self._may_be_observed, self.observe)), f"names of {', '.join(OBSERVABLE)}"
        accepted = f"a share above 0 for each of {', '.join(ALPHA_WEIGHTS)}; together 1"
        yield "alpha_weights", _shares_of_one(self.alpha_weights), accepted

    @staticmethod
    def _may_be_observed(name: Any) -> bool:
        return isinstance(name, str) and any(_begins(known, name) for known in OBSERVABLE)

    def is_observed(self, finding: str) -> bool:
        """Whether a finding of this name decides nothing."""
        return any(_begins(finding, name) for name in self.observe)

    @property
    def burning_ratio(self) -> float:
        """The error ratio at which the breaker trips; at most a half, or a lax SLO would disarm it."""
        return min(self.breaker_burn_rate * self.max_error_ratio, max(0.5, self.max_error_ratio))

    @property
    def block_seconds(self) -> float:
        """How long the blocks are that requests are weighed by."""
        return min(max(self.seconds / 60, 1.0), LONG_BLOCK_SECONDS)

    @property
    def look_seconds(self) -> float:
        """How much time at least lies between two samples: half a block where that is long, else any."""
        return self.block_seconds / 2 if self.block_seconds >= LONG_BLOCK_SECONDS else 0.0

    def tolerable_at(self, share: int) -> Tolerable:
        """What a candidate with so many percent of the traffic may hide for its window to pass."""
        least = next((found for most, *found in SMALL_SHARES if share <= most), (0.0, 0.0, 0.0))
        given = (self.tolerable_errors, self.tolerable_slow, self.tolerable_missing)
        return Tolerable(*(max(pair) for pair in zip(given, least, strict=True)))

    def evidence_of(self, metric: str) -> float:
        """The ln E at which a comparison has used up its part of alpha, and fails (Ville's inequality)."""
        return round(math.log(1 / (self.alpha * self.alpha_weights[metric])), 6)


def _begins(finding: str, name: str) -> bool:
    return finding == name or finding.startswith(f"{name}_")


def _shares_of_one(weights: Any) -> bool:
    if not isinstance(weights, Mapping) or set(weights) != set(ALPHA_WEIGHTS):
        return False
    values = [value for value in weights.values() if isinstance(value, int | float) and value > 0]
    return len(values) == len(weights) and abs(math.fsum(values) - 1) < ROUNDING
