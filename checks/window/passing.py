"""What a window must have shown before it may pass: that no harm beyond what the site tolerates is there.

Of all that was seen and of its second half alone, so that early good minutes do not hide late bad ones.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from checks.window.absence import FEWEST_OF_ROUTE, Proof, Tolerable, difference, worst
from checks.window.cells import ROUTE_NAMES
from checks.window.levels import Shift
from checks.window.streams import HARM, Block

# Good answers of the candidate to expect before its part of them is looked at.
FEWEST_EXPECTED = 20.0
# The chance of saying wrongly that answers are missing.
MISSING_DOUBT = 5e-4
# Where a few requests hang, their slot is full and the others go elsewhere: until these have ended nobody
# knows whether answers are missing. So they must be for that many times as long as both slots may suffer, and
# of a block no more is believed, as ln.
STALLS, MOST_LACK = 2.0, 1.0
# How far the parts that two healthy slots get stray, as a standard deviation of ln.
SHARE_SD, SHARE_MEMORY = 0.1, 0.7
KINDS = ("errors", "unwanted", "slow")
# What may come on top where the control has much of it already.
PARTS_OF_BASELINE = {"errors": 1.0, "unwanted": 0.5, "slow": 1.0}
# What one route may have more of errors, as a part of its own requests, once enough of them were asked.
ROUTE_ERRORS, ROUTE_TIMES = 0.15, 5.0
# Every arm is silent now and then; for so many times its usual pause it is not.
SILENT_PAUSES, SILENT_SECONDS = 12.0, 15.0


@dataclass
class Lack:
    """How many good answers a candidate lacks of its part, as ln of how many times too few."""

    share: float
    shift: Shift
    # So many blocks a stall may last.
    stall: int = 1
    values: list[tuple[float, float]] = field(default_factory=list)
    _good: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _blocks: int = 0
    _since: int = 0

    def add(self, new: float, old: float) -> None:
        """Take in both arms' good answers of a block, once enough were to be expected of each."""
        new, old = self._good = [self._good[0] + new, self._good[1] + old]
        self._blocks += 1
        expected = (new + old) * self.share
        if min(expected, new + old - expected) < FEWEST_EXPECTED:
            return
        is_longer = self._blocks - self._since >= self.stall
        self._good, self._since = [0.0, 0.0], self._blocks
        lack = math.log(self.share / (1 - self.share)) - math.log((new + 0.5) / (old + 0.5))
        noise = 1 / expected + 1 / (old + 0.5)
        self.values.append((lack, noise))
        # What few ask for is known by the minute: that is longer than a stall by itself.
        self.shift.least = max(math.ceil(self.stall * len(self.values) / self._blocks), 1)
        believed = lack if is_longer else min(lack, MOST_LACK)
        self.shift.add(believed, noise, lambda n: 2 * SHARE_SD**2 / max(n * (1 - SHARE_MEMORY), 1.0))


@dataclass
class Passing:
    """Sums up blocks; ``share`` is the candidate's part of the traffic, 0 to 1."""

    candidate: str
    control: str
    share: float
    horizon: int
    tolerable: Tolerable
    # Fewer blocks than these a stall may last.
    stall: int = 1
    # What the windows before summed up to.
    earlier: tuple[float, ...] = (0.0,) * 12
    # Per block: the time, and for each arm its requests and, for each of KINDS, trials and events.
    _sums: list[tuple[float, ...]] = field(default_factory=lambda: [(0.0,) * 13])

    def __post_init__(self) -> None:
        if any(self.earlier):
            self._sums.append((0.0, *self.earlier))
        tolerated = -math.log(1 - self.tolerable.missing)
        self.missing = Lack(self.share, Shift(tolerated, self.horizon, MISSING_DOUBT), self.stall)
        self.route_missing: dict[str, Lack] = {}
        # Per route and slot its requests, and how many of them failed.
        self.routes: dict[str, dict[str, list[float]]] = {}

    def add(self, at: float, block: Block, slow: Mapping[str, tuple[float, float]]) -> None:
        """Take in a block; ``slow`` is each arm's timed answers and the slow ones of them."""
        row = [at]
        for slot in (self.candidate, self.control):
            judged = block.requests(slot)
            errors = sum(block.events.get((of, slot), 0.0) for of in HARM)
            unwanted = sum(
                n for (of, at_slot), n in block.events.items() if at_slot == slot and of not in HARM
            )
            row += [judged, errors, judged + unwanted, unwanted, *slow.get(slot, (0.0, 0.0))]
        last = self._sums[-1]
        self._sums.append((at, *(a + b for a, b in zip(last[1:], row[1:], strict=True))))
        self._add_share(block)
        for (slot, route), n in block.judged.items():
            self._route(route, slot)[0] += n
        for (of, route, slot), k in block.route_events.items():
            self._route(route, slot)[1] += k if of in HARM else 0.0

    def _route(self, route: str, slot: str) -> list[float]:
        return self.routes.setdefault(route, {}).setdefault(slot, [0.0, 0.0])

    def _add_share(self, block: Block) -> None:
        routes = {route for _, route in block.good}
        for route in routes:
            lack = self.route_missing.get(route)
            if lack is None:
                tolerated, doubt = self.missing.shift.tolerated, MISSING_DOUBT / ROUTE_NAMES
                lack = self.route_missing[route] = Lack(
                    self.share, Shift(tolerated, self.horizon, doubt), self.stall
                )
            lack.add(block.good.get((self.candidate, route), 0.0), block.good.get((self.control, route), 0.0))
        self.missing.add(
            *(
                sum(n for (of, _), n in block.good.items() if of == slot)
                for slot in (self.candidate, self.control)
            )
        )

    @property
    def sums(self) -> tuple[float, ...]:
        """Of each arm its requests, and trials and events of each of ``KINDS``."""
        return self._sums[-1][1:]

    def most_missing(self) -> tuple[Shift, str]:
        """The surest lack of answers, and the route if it is one route's."""
        found = {"": self.missing.shift} | {route: lack.shift for route, lack in self.route_missing.items()}
        route = max(found, key=lambda name: found[name].largest)
        return found[route], route

    def proofs(self) -> Iterator[Proof]:
        """Each kind of harm bounded, the worse of all that was seen and of its second half."""
        end = self._sums[-1]
        middle = next(row for row in self._sums if row[0] >= end[0] / 2)
        for i, kind in enumerate(KINDS):
            found = []
            for begin in (self._sums[0], middle):
                n_t, k_t, n_c, k_c = (end[j + 2 * i] - begin[j + 2 * i] for j in (1, 2, 7, 8))
                tolerated = getattr(self.tolerable, kind)
                baseline = PARTS_OF_BASELINE[kind] * k_c / n_c if n_c else 0.0
                found.append(difference(kind, (k_t, n_t), (k_c, n_c), max(tolerated, baseline)))
            yield worst(found)
        yield self._missing()

    def worst_route(self) -> Proof | None:
        """Bound how far errors of one route can lie above its control's, of routes with enough requests."""
        tolerable = max(ROUTE_ERRORS, ROUTE_TIMES * self.tolerable.errors)
        found = []
        for route, slots in self.routes.items():
            (n_t, k_t), (n_c, k_c) = (slots.get(slot, (0.0, 0.0)) for slot in (self.candidate, self.control))
            if min(n_t, n_c) >= FEWEST_OF_ROUTE:
                found.append(difference(f"errors on {route}", (k_t, n_t), (k_c, n_c), tolerable))
        return worst(found) if found else None

    def _missing(self) -> Proof:
        """Bound the part of good answers that the candidate lacks, given its part of the traffic."""
        tolerable, n = self.tolerable.missing, len(self.missing.values)
        if not n:
            return Proof("missing", 1.0, tolerable, math.ceil(2 * FEWEST_EXPECTED))
        at_most = 0.0
        for lacks in (self.missing.values, self.missing.values[n // 2 :]):
            mean = sum(lack for lack, _ in lacks) / len(lacks)
            error = math.sqrt(sum(noise for _, noise in lacks)) / len(lacks)
            at_most = max(at_most, 1 - math.exp(-max(mean + 1.645 * error, 0.0)))
        return Proof("missing", at_most, tolerable, None if at_most > tolerable else 0)


@dataclass
class Alive:
    """Whether an arm is still asked: its longest pause that is none, from how often it was asked before."""

    requests: float = 0.0
    since: float | None = None
    last: float = 0.0

    def add(self, at: float, requests: float) -> None:
        self.since = at if self.since is None else self.since
        if requests:
            self.requests += requests
            self.last = at

    def silence(self, at: float) -> float:
        """Seconds that the arm has been silent for, 0 while that is a usual pause."""
        watched = max((self.last or at) - (self.since or 0.0), 1.0)
        pause = watched / self.requests if self.requests else watched
        silent = at - max(self.last, self.since or 0.0)
        return silent if silent > max(SILENT_SECONDS, SILENT_PAUSES * pause) else 0.0
