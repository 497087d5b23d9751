"""Evidence that stays valid however often it is looked at: e-processes on counts.

Ordinary tests looked at after every sample alarm falsely; an e-process may be looked at as often as one
likes. Its value E is a bet against "nothing is wrong": when nothing is, the chance that E ever reaches
1/alpha is at most alpha (Ville's inequality). Each class bets on several sizes of harm at once and takes
the mean of the bets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

# How many times worse the candidate is taken to be, one bet each.
HARM = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
# Being 1.3 times as often slow is noise between two healthy processes; being 10 times as often is not.
SLOW_HARM = (2.0, 3.0, 5.0, 10.0, 20.0, 50.0)


@dataclass
class AgainstControl:
    """Two arms at the same time: given all events of a block, which share of them is the candidate's?

    With n requests and k events per arm, θ0 = n_t/(n_t+n_c) is the candidate's share if both are equal and
    θ_r = r·n_t/(r·n_t+n_c) if it is r times worse. What happens to both arms alike cancels out.
    """

    harm: Sequence[float] = HARM
    _log_bets: list[float] = field(init=False)
    _pending: list[int] = field(init=False)
    _log_e: float | None = 0.0

    def __post_init__(self) -> None:
        self._log_bets = [0.0] * len(self.harm)
        self._pending = [0, 0, 0, 0]

    def add(self, requests: int, events: int, control_requests: int, control_events: int) -> bool:
        """Add a segment's counts; tell whether they were weighed.

        Counts wait until both arms have had a request: an arm without one compares with nothing. Events
        above the requests count as requests, since a refused connection may not be counted as one.
        """
        added = (requests, events, control_requests, control_events)
        self._pending = [a + b for a, b in zip(self._pending, added, strict=True)]
        n_t, k_t, n_c, k_c = self._pending
        n_t, n_c = max(n_t, k_t), max(n_c, k_c)
        if not (n_t and n_c):
            return False
        self._pending = [0, 0, 0, 0]
        if not (k_t or k_c):
            return True
        share = n_t / (n_t + n_c)
        for i, r in enumerate(self.harm):
            worse = r * n_t / (r * n_t + n_c)
            self._log_bets[i] += k_t * math.log(worse / share) + k_c * math.log((1 - worse) / (1 - share))
        self._log_e = None
        return True

    @property
    def log_e(self) -> float:
        """ln E; 0 when there is no evidence either way."""
        if self._log_e is None:
            self._log_e = log_mean(self._log_bets)
        return self._log_e


@dataclass
class AgainstRatio:
    """One arm against an allowed ratio p0 of events to requests, each request a Bernoulli trial."""

    allowed: float
    harm: Sequence[float] = HARM
    _log_bets: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self._log_bets = [0.0] * len(self.harm)

    def add(self, requests: int, events: int) -> None:
        """Add a segment's counts; events above the requests count as requests."""
        fine = max(requests - events, 0)
        for i, r in enumerate(self.harm):
            worse = min(r * self.allowed, (1 + self.allowed) / 2)
            self._log_bets[i] += events * math.log(worse / self.allowed)
            self._log_bets[i] += fine * math.log((1 - worse) / (1 - self.allowed))

    @property
    def log_e(self) -> float:
        """ln E; 0 when there is no evidence either way."""
        return log_mean(self._log_bets)


def log_mean(logs: Sequence[float]) -> float:
    """ln of the mean of exp(logs), without overflow."""
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs) / len(logs))
