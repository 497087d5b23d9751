"""What a window is held against: the one place with the defaults."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WindowLimits:
    """What a window is held against.

    ``seconds`` must be watched without a break in sight; ``max_seconds`` is how long it may take in all.
    ``min_requests`` is what the candidate must have answered (beside a control that answered too, if there
    is one). ``max_error_ratio`` is the SLO, ``alpha`` the chance of failing a healthy candidate.
    The breaker trips on ``breaker_errors`` candidate errors within ``breaker_seconds`` at more than
    ``breaker_burn_rate`` times the SLO (14.4: the budget of 30 days would be gone in 2).
    Raises ValueError for a limit that could let a window pass on nothing.
    """

    seconds: float
    max_seconds: float
    min_requests: int
    max_error_ratio: float
    alpha: float = 0.01
    deadlocks: int = 0
    dead_instances: int = 0
    scrape_gap_seconds: float = 15.0
    breaker_errors: int = 10
    breaker_burn_rate: float = 14.4
    breaker_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, holds, accepted in (
            ("seconds", self.seconds > 0, "more than 0"),
            (
                "max_seconds",
                math.isfinite(self.max_seconds) and self.max_seconds >= self.seconds,
                "at least seconds",
            ),
            ("min_requests", self.min_requests >= 1, "at least 1"),
            ("max_error_ratio", 0 < self.max_error_ratio < 1, "between 0 and 1, both excluded"),
            ("alpha", 0 < self.alpha < 1, "between 0 and 1, both excluded"),
            ("scrape_gap_seconds", self.scrape_gap_seconds > 0, "more than 0"),
            ("breaker_errors", self.breaker_errors >= 1, "at least 1"),
        ):
            if not holds:
                raise ValueError(f"{name}={getattr(self, name)} is not a window limit. Use {accepted}.")

    @property
    def burning_ratio(self) -> float:
        """The error ratio at which the breaker trips; at most a half, or a lax SLO would disarm it."""
        return min(self.breaker_burn_rate * self.max_error_ratio, max(0.5, self.max_error_ratio))
