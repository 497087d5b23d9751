"""Evidence that finds a late fault as soon as an early one, and that counts one client's trouble once.

``eprocess`` bets from the window's first request on, so that each clean hour digs a hole that a later fault
must climb out of. Here the bet is begun anew every so often: with M the sum over beginnings j of w_j · Π e_i
(i ≥ j) and Σ w_j ≤ 1, M plus the weight not yet spent is a nonnegative supermartingale, so that the chance
that M ever reaches 1/α is at most α (e-detectors: Shin, Ramdas and Rinaldo, 2022). ``FRESH`` of the weight
lies on the window's beginning, the rest is spread evenly, since a window has an end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

FRESH, RESTARTS = 0.8, 720
LARGEST = 1e250
# Errors that follow each other within so many seconds may be one client's that tries again.
RUN_SECONDS = 3.0
# How much of the bet lies on each size of harm; most where errors that matter usually are.
BETS = ((2.0, 0.05), (3.0, 0.05), (5.0, 0.2), (10.0, 0.35), (20.0, 0.25), (50.0, 0.1))
SLOW_BETS = ((2.0, 0.3), (3.0, 0.3), (5.0, 0.2), (10.0, 0.1), (30.0, 0.1))
# Blocks that a learned dispersion is shrunk by towards that of independent counts.
PRIOR_BLOCKS = 8.0
# So many standard errors of a mean of χ² of one degree of freedom are chance.
SURE = 2.0


@dataclass
class Restarting:
    """Bets that are begun anew ``RESTARTS`` times in a window; ``passed`` of those are over already.

    Of what is there at the beginning, half lies on the evidence of the windows ``before``, if there were any.
    """

    parts: Sequence[float]
    passed: int = 0
    before: float = 1.0
    _sums: list[float] = field(init=False)

    def __post_init__(self) -> None:
        begun = FRESH * (1 + min(self.before, LARGEST)) / 2 + self.passed * (1 - FRESH) / RESTARTS
        self._sums = [begun] * len(self.parts)

    def restart(self, times: int = 1) -> None:
        self._sums = [value + times * (1 - FRESH) / RESTARTS for value in self._sums]

    def multiply(self, logs: Sequence[float]) -> None:
        """Multiply each bet by exp of its log."""
        for i, log in enumerate(logs):
            self._sums[i] = min(self._sums[i] * math.exp(min(log, 500.0)), LARGEST)

    @property
    def value(self) -> float:
        """The evidence E, the mean of the bets."""
        return sum(part * value for part, value in zip(self.parts, self._sums, strict=True))


@dataclass
class Beside:
    """Which part of the events is the candidate's, given both arms' requests of the same time?

    As ``eprocess.AgainstControl``, restarting. Counts may be parts of one: events that hang together count
    as fewer, in both arms alike, which keeps the bet fair however they depend on each other, for the
    geometric mean of fair bets is at most their mean.
    """

    bets: Sequence[tuple[float, float]] = BETS
    passed: int = 0
    before: float = 1.0
    evidence: Restarting = field(init=False)
    _waiting: list[float] = field(default_factory=lambda: [0.0] * 4)

    def __post_init__(self) -> None:
        self.evidence = Restarting([part for _, part in self.bets], self.passed, self.before)
        self._sizes = [(r, math.log(r)) for r, _ in self.bets]

    @property
    def is_waiting(self) -> bool:
        """Whether events wait until both arms have had a request."""
        return bool(self._waiting[1] or self._waiting[3])

    def add(self, requests: float, events: float, control_requests: float, control_events: float) -> None:
        """Weigh a block; one in which an arm had no request waits for the next."""
        waiting = self._waiting
        if not (events or control_events or self.is_waiting):
            return
        added = (max(requests, events), events, max(control_requests, control_events), control_events)
        n_t, k_t, n_c, k_c = (a + b for a, b in zip(waiting, added, strict=True))
        if not (n_t and n_c):
            self._waiting = [n_t, k_t, n_c, k_c]
            return
        self._waiting = [0.0] * 4
        # Of events r times as likely in the candidate, r · share of r · share + 1 - share are its own.
        share = n_t / (n_t + n_c)
        self.evidence.multiply(
            [k_t * log_r - (k_t + k_c) * math.log1p(share * (r - 1)) for r, log_r in self._sizes]
        )


@dataclass
class Against:
    """One arm's events against an allowed ratio of them, as ``eprocess.AgainstRatio``, restarting."""

    bets: Sequence[tuple[float, float]] = BETS
    passed: int = 0
    before: float = 1.0
    evidence: Restarting = field(init=False)

    def __post_init__(self) -> None:
        self.evidence = Restarting([part for _, part in self.bets], self.passed, self.before)

    def add(self, requests: float, events: float, allowed: float) -> None:
        """Weigh a block; what is allowed may be learned, but not from this arm's events of it."""
        fine, p = max(requests - events, 0.0), allowed
        worse = [min(r * p, (1 + p) / 2) for r, _ in self.bets]
        self.evidence.multiply([events * math.log(w / p) + fine * math.log((1 - w) / (1 - p)) for w in worse])


@dataclass
class Runs:
    """How many clients' trouble some events are, when only distinct clients of each second are known.

    Who fails second after second may be one client that tries again: of seconds that follow each other the
    clients that were there all along count once, and only those above them anew.
    """

    _last: float = -math.inf
    _base: int = 0

    def pieces(self, second: float, clients: int) -> int:
        """The pieces of evidence that so many distinct clients in this second are."""
        is_run = second - self._last <= RUN_SECONDS
        self._last = max(self._last, second)
        if not is_run:
            self._base = clients
            return clients
        new = max(0, clients - self._base)
        self._base = min(self._base, clients)
        return new


@dataclass
class Dispersion:
    """How much more a control's counts scatter than independent ones: variance over mean, at least 1.

    Learned from blocks with at least one event expected, each held against the ratio of those before it.
    """

    _trials: float = 0.0
    _events: float = 0.0
    _block: tuple[float, float] = (0.0, 0.0)
    _sum: float = PRIOR_BLOCKS
    _blocks: float = PRIOR_BLOCKS

    def add(self, trials: float, events: float) -> None:
        trials, events = self._block[0] + trials, self._block[1] + events
        expected = trials * self._events / self._trials if self._trials else 0.0
        self._block = (trials, events)
        if self._trials and expected < 1:
            return
        self._block = (0.0, 0.0)
        if expected:
            self._sum += min((events - expected) ** 2 / expected, 100.0)
            self._blocks += 1
        self._trials, self._events = self._trials + trials, self._events + max(events, 0.5)

    @property
    def factor(self) -> float:
        """What is surely there of it; less is taken for chance, or all evidence would be worth less."""
        return max(1.0, self._sum / self._blocks - SURE * math.sqrt(2 / self._blocks))


def most_left_open(events: float, trials: float) -> float:
    """The ratio that so many events leave open at 95 %: Poisson's, as Wilson and Hilferty (1931) have it."""
    k = events + 1
    return float(k * (1 - 1 / (9 * k) + 1.645 / (3 * math.sqrt(k))) ** 3 / trials)
