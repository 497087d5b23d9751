"""Whether a level has shifted that wanders by itself: latency, and the share of good answers.

Blocks that lie near each other hang together, so that neither a count nor an ordinary mean knows how sure it
is. A shift is told from the means of the last 1, 2, 4, … blocks, each against what an AR(1) of the learned
spread and memory would wander to; the chance of a false word is shared out among all of those means
(a union bound; after Waudby-Smith et al. 2021, time-uniform central limit theory, for finite windows).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

# What is assumed of the spread and the memory of a level until so many blocks have shown it.
PRIOR_BLOCKS = 12.0
LEAST_MEMORY = 0.7


@dataclass
class Wander:
    """Learns how far a level strays, from its own values: standard deviation, and memory of the AR(1)."""

    prior_sd: float
    least_sd: float
    values: int = 0
    _mean: float = 0.0
    _squares: float = 0.0
    _noise: float = 0.0
    _products: float = 0.0
    _last: float | None = None

    def add(self, value: float, noise: float) -> None:
        """Take in a block's level; ``noise`` is the variance that its number of requests alone explains."""
        before = self._mean
        self.values += 1
        self._mean += (value - before) / self.values
        self._squares += (value - before) * (value - self._mean)
        self._noise += noise
        if self._last is not None:
            self._products += (value - self._mean) * (self._last - self._mean)
        self._last = value

    @property
    def variance(self) -> float:
        found = max(self._squares - self._noise, 0.0)
        shrunk = (PRIOR_BLOCKS * self.prior_sd**2 + found) / (PRIOR_BLOCKS + self.values)
        return max(shrunk, self.least_sd**2)

    @property
    def memory(self) -> float:
        spread = max(self._squares - self._noise, 1e-9)
        found = self._products / spread if self.values > PRIOR_BLOCKS else 0.0
        return round(min(max(found + 3 / max(self.values, 8), LEAST_MEMORY), 0.99), 2)


@dataclass
class Shift:
    """The level's mean over the last blocks, above what is tolerated and what wandering explains.

    ``horizon`` is how many blocks the window may have at most, ``doubt`` the chance of a false word; means of
    fewer than ``least`` blocks say nothing.
    """

    tolerated: float
    horizon: int
    doubt: float
    least: int = 1
    seen: int = 0
    largest: float = -math.inf
    at_largest: float = 0.0
    _sums: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])

    def add(self, value: float, noise: float, wander: Callable[[int], float]) -> None:
        """Take in a block; ``wander`` is the variance of a mean over so many blocks, noise left aside."""
        total, noises = self._sums[-1]
        self._sums.append((total + value, noises + noise))
        self.seen += 1
        self._look(wander)

    def _look(self, wander: Callable[[int], float]) -> None:
        """Keep the surest of the means: how many times the allowed number of errors it is away."""
        (total, noises), length = self._sums[-1], self.least
        while length <= self.seen:
            before, noises_before = self._sums[-1 - length]
            mean = (total - before) / length
            error = math.sqrt((noises - noises_before) / length**2 + wander(length))
            sure = (mean - self.tolerated) / error / _errors_needed(self.horizon, length, self.doubt)
            if sure > self.largest:
                self.largest, self.at_largest = sure, mean
            length *= 2

    @property
    def found(self) -> bool:
        return self.largest >= 1


@lru_cache(maxsize=4096)
def _errors_needed(horizon: int, length: int, doubt: float) -> float:
    means = 2 * max(horizon / length, 1.0) * max(math.log2(max(horizon, 2)), 1.0)
    return math.sqrt(2 * math.log(means / doubt))


@lru_cache(maxsize=16384)
def averaging(length: int, memory: float) -> float:
    """What part of an AR(1)'s variance is left in the mean of so many values."""
    lost = memory**length
    return (1 + 2 * memory / (1 - memory) - 2 * memory * (1 - lost) / (length * (1 - memory) ** 2)) / length
