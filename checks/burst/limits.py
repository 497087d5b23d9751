"""What a burst is held against: the one place with the defaults."""

import math
from dataclasses import dataclass

from checks.base.errors import Misused


@dataclass(frozen=True)
class BurstLimits:
    """What a burst is held against. Raises Misused for limits that nothing could be held against.

    Milliseconds are from the moment a volley was due, per level; without a limit of its own, p95 has p99's
    and p50 has p95's. ``busy_ratio`` is the share of 503s, ``lock_timeout_ratio`` how many of 55P03 the
    instances saw per request (each was retried, or is a 503 too); ``in_flight_share`` how much of a level
    must have been in flight together for the level to count as one; ``connections_share`` how much of what
    Postgres gives may be used; ``release`` who must have answered, if that is known. ``wanted_ratio`` judges
    nothing: it is the error ratio that one would like to have shown.
    """

    p99_ms: float = 2000.0
    p95_ms: float | None = None
    p50_ms: float | None = None
    busy_ratio: float = 0.01
    server_errors: int = 0
    connection_errors: int = 0
    unexpected_answers: int = 0
    deadlocks: int = 0
    lock_timeout_ratio: float = 0.05
    in_flight_share: float = 1.0
    connections_share: float = 0.8
    clock_jump_seconds: float = 1.0
    wanted_ratio: float = 0.001
    timeout_seconds: float = math.inf
    release: str | None = None

    @property
    def latencies(self) -> dict[int, float]:
        """Each percentile's limit in ms."""
        p95 = self.p99_ms if self.p95_ms is None else self.p95_ms
        return {50: p95 if self.p50_ms is None else self.p50_ms, 95: p95, 99: self.p99_ms}

    def __post_init__(self) -> None:
        for name in ("busy_ratio", "lock_timeout_ratio"):
            if not 0 <= getattr(self, name) < 1:
                raise Misused(
                    f"{name}={getattr(self, name)} is not a share. Use a number from 0 and under 1."
                )
        for name in ("in_flight_share", "connections_share", "wanted_ratio"):
            if not 0 < getattr(self, name) <= 1:
                raise Misused(f"{name}={getattr(self, name)} is not a share. Use a number over 0, at most 1.")
        for name in ("server_errors", "connection_errors", "unexpected_answers", "deadlocks"):
            if getattr(self, name) < 0:
                raise Misused(f"{name}={getattr(self, name)} allows less than none. Use a number from 0.")
        p50, p95, p99 = self.latencies.values()
        if not 0 < p50 <= p95 <= p99 < math.inf:
            raise Misused(
                f"p50 {p50:g} ms, p95 {p95:g} ms and p99 {p99:g} ms contradict each other."
                " Use numbers over 0 that do not fall."
            )
        if p99 > 1000 * self.timeout_seconds:
            raise Misused(
                f"p99 {p99:g} ms cannot be seen with a timeout of {self.timeout_seconds:g} s."
                " Raise --timeout-seconds or lower --p99-ms."
            )
