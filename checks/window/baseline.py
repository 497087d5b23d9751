"""How fast the old slot was, and how often it erred: what a new one is held against.

A histogram is a mapping from a bucket's upper edge in seconds, as text, to the requests that fell into that
bucket alone; empty buckets are left out.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

QUANTILE = 0.95
# Above this a float no longer holds every whole number, so neither does the difference of two.
EXACT = 2**53
COUNTS = ("handled", "slow", "requests", "errors", "busy", "retries")


@dataclass(frozen=True)
class Baseline:
    """What the control arm of a window came to.

    ``slow`` of its ``handled`` requests took longer than ``threshold_seconds``, which is None while nobody
    knows it; of its ``requests`` so many were ``errors``, ``busy`` ones and ``retries``.
    """

    threshold_seconds: float | None = None
    handled: int = 0
    slow: int = 0
    requests: int = 0
    errors: int = 0
    busy: int = 0
    retries: int = 0

    def __post_init__(self) -> None:
        if self.threshold_seconds is not None and not 0 < self.threshold_seconds < math.inf:
            raise ValueError(f"threshold_seconds={self.threshold_seconds} is not a time above 0.")
        for name in COUNTS:
            if not isinstance(value := getattr(self, name), int) or value < 0:
                raise ValueError(f"{name}={value} is not a count.")


def timed(latency: Any, threshold_seconds: float) -> tuple[int, int] | None:
    """Return how many requests a histogram holds and how many were slower; None if it is none."""
    if not isinstance(latency, dict):
        return None
    handled = slow = 0
    for edge, count in latency.items():
        upper = _seconds(edge)
        if upper is None or type(count) is not int or not 0 <= count <= EXACT:
            return None
        handled += count
        if upper > threshold_seconds:
            slow += count
    return handled, slow


@lru_cache(maxsize=1024)
def _seconds(edge: Any) -> float | None:
    try:
        value = float(edge)
    except (TypeError, ValueError):
        return None
    return value if value > 0 else None


@dataclass
class Threshold:
    """Learns where the control's p95 lies, from the histograms of its instances, and then keeps it.

    The threshold is the first bucket edge that 95 % of the control's requests did not exceed, of those it
    has answered since the first look. It is chosen before the first request is held against it, so that the
    choice cannot favour what is judged.
    """

    least_requests: int
    _first: dict[str, Mapping[str, int]] = field(default_factory=dict)
    _last: dict[str, Mapping[str, int]] = field(default_factory=dict)

    def learn(self, histograms: Mapping[str, Any]) -> None:
        """Take in each control instance's histogram; one that fell belongs to a new process."""
        for name, found in histograms.items():
            if timed(found, 0.0) is None:
                continue
            before = self._last.get(name)
            if before is None or any(found.get(edge, 0) < count for edge, count in before.items()):
                self._first[name] = found
            self._last[name] = found

    @property
    def requests(self) -> int:
        return self._answered().total()

    @property
    def seconds(self) -> float | None:
        """The threshold, None as long as too few requests tell it."""
        answered = self._answered()
        if answered.total() < self.least_requests:
            return None
        return quantile_edge(answered, QUANTILE)

    def _answered(self) -> Counter[str]:
        answered: Counter[str] = Counter()
        for name, last in self._last.items():
            first = self._first[name]
            answered.update({edge: count - first.get(edge, 0) for edge, count in last.items()})
        return answered


def quantile_edge(histogram: Mapping[str, int], share: float) -> float | None:
    """Return the first edge in seconds that so many requests did not exceed; None beyond the last one."""
    total, seen = sum(histogram.values()), 0
    for edge in sorted(histogram, key=float):
        seen += histogram[edge]
        if seen >= share * total and total:
            return float(edge) if math.isfinite(float(edge)) else None
    return None
