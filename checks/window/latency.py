"""Latency of two slots beside each other: how fast all answers are, and how slow the slow ones.

A process's level wanders, and falls while it warms up; what is left of a tail or of a route once each arm's
own level is taken off does not. So the level is judged as ``levels`` does, and the rest is counted.
"""

import math
from collections import Counter, deque
from collections.abc import Mapping
from typing import Protocol

from checks.window.absence import DOUBT, FEWEST_OF_ROUTE, Proof
from checks.window.carried import Carried
from checks.window.detectors import Dispersion
from checks.window.levels import Shift, Wander, averaging
from checks.window.streams import Block, Timing

BUCKET_LOG = math.log(1.04)
QUANTILES = {"slow_p95": 0.95, "slow_p99": 0.99}
ROUTE_QUANTILE = 0.9
# What the level may differ by before anybody is told, as a ratio.
SLOWER = 2.0
LEVEL_DOUBT = 5e-4
# A quantile is told by so many answers beyond it.
FEWEST_BEYOND = 5
# Blocks with fewer answers of an arm wait for the next.
FEWEST = 8
# So few answers tell nothing of what both slots suffer.
FEWEST_SHARED = 3
# Where slow answers begin is worked out again once so many times as many are known.
LEARNS_AGAIN = 1.25
# The bound of a slow route is sharpest after so many of its answers.
MIXED_AT = 30
# A level follows its arm's last so many answers.
FOLLOWS = 20.0


class Owner(Protocol):
    """Whose latency it is, and who weighs what is counted of it."""

    candidate: str
    control: str
    horizon: float
    block_seconds: float
    cold_seconds: float
    elapsed: float
    scatter: dict[str, Dispersion]
    earlier: Carried

    def weigh(self, of: str, route: str, n_t: float, k_t: float, n_c: float, k_c: float) -> None: ...


class Latency:
    """Latency of both arms beside each other: all answers, each route against the rest, and the tail."""

    def __init__(self, owner: Owner, usual: float | None) -> None:
        self.owner = owner
        self.horizon = max(int(owner.horizon / owner.block_seconds), 1)
        self.wander = Wander(0.2, 0.1)
        self.shift = Shift(math.log(SLOWER), self.horizon, LEVEL_DOUBT)
        self.waiting = [0.0] * 6
        self._unlearned = Timing()
        self.now: dict[str, float] = {}
        self.usual = usual
        self.is_warm = owner.earlier.is_warm
        self._recent: deque[float] = deque(maxlen=6)
        self._tails: dict[tuple[str, str], Counter[int]] = {}
        self.edges = {key: edge for key, (edge, _) in owner.earlier.tails.items()}
        self._learned = {key: answers for key, (_, answers) in owner.earlier.tails.items()}
        self.routes: dict[str, list[Timing]] = {}
        self.timed = 0.0

    def is_slow(self, block: Block, slot: str, part: float = 1.0) -> bool:
        """Whether a slot's answers are far slower than the control's usually are."""
        timing = block.timed(slot)
        if self.usual is None or timing.answers < FEWEST_SHARED:
            return False
        level, usual = timing.mean * BUCKET_LOG, self.usual
        above = part * max(math.log(SLOWER), 4 * math.sqrt(self.wander.variance))
        if level - usual > above:
            return True
        edge = (usual + math.log(8.0)) / BUCKET_LOG
        late = sum(count for bucket, count in block.buckets[slot].items() if bucket > edge)
        return late >= FEWEST_SHARED and late > 0.15 * part * timing.answers

    def far_slower(self, block: Block) -> dict[str, tuple[float, float]]:
        """Each arm's timed answers, and those that took over twice what 95 % of the control's take."""
        edge = self.edges.get(("slow_p95", ""))
        if edge is None or not self.is_warm or self.usual is None:
            return {}
        at = self.usual / BUCKET_LOG + edge + math.log(SLOWER) / BUCKET_LOG
        return {slot: beyond(buckets, at) for slot, buckets in block.buckets.items()}

    def add(self, block: Block) -> None:
        """Take in a block that both slots were well in."""
        owner = self.owner
        new, old = block.timed(owner.candidate), block.timed(owner.control)
        self._learn(old)
        if not self._warm(new, old):
            return
        self.timed += new.answers
        for slot, timing in ((owner.candidate, new), (owner.control, old)):
            if timing.answers:
                level, before = timing.mean, self.now.get(slot)
                part = timing.answers / (timing.answers + FOLLOWS)
                self.now[slot] = level if before is None else before + part * (level - before)
        self._add_tails(block, new.answers, old.answers)
        overall = self._settled(new, old)
        if overall is not None:
            variance, memory = 2 * self.wander.variance, self.wander.memory
            self.shift.add(*overall, lambda n: variance * averaging(n, memory))

    def _learn(self, old: Timing) -> None:
        """Take in how fast the control usually is, and how far that strays."""
        sums = self._unlearned = self._unlearned + old
        if sums.answers < FEWEST:
            return
        self._unlearned = Timing()
        level = sums.mean * BUCKET_LOG
        self.wander.add(level, sums.noise * BUCKET_LOG**2)
        usual = level if self.usual is None else self.usual
        self.usual = usual + (level - usual) / min(self.wander.values, 60)

    def _settled(self, new: Timing, old: Timing) -> tuple[float, float] | None:
        """Both arms' difference in ln of latency, and its noise, once enough answers of both were timed."""
        sums = self.waiting
        for i, timing in ((0, new), (3, old)):
            sums[i] += timing.answers
            sums[i + 1] += timing.total
            sums[i + 2] += timing.squares
        n_t, n_c = sums[0], sums[3]
        if n_t < FEWEST or n_c < FEWEST:
            return None
        self.waiting = [0.0] * 6
        mean_t, mean_c = sums[1] / n_t, sums[4] / n_c
        spread = (sums[2] - n_t * mean_t**2 + sums[5] - n_c * mean_c**2) / (n_t + n_c - 2)
        noise = max(spread, 25.0) * (1 / n_t + 1 / n_c) * BUCKET_LOG**2
        return (mean_t - mean_c) * BUCKET_LOG, noise

    def _warm(self, new: Timing, old: Timing) -> bool:
        """Whether the candidate's latency is level: near the control's, or as it stays."""
        if not self.is_warm and new.answers >= 3 and old.answers >= 3:
            self._recent.append((new.mean - old.mean) * BUCKET_LOG)
            last = list(self._recent)[-3:]
            near = len(last) == 3 and sum(last) / 3 < math.log(SLOWER) / 2 and max(last) < math.log(SLOWER)
            self.is_warm = near
        self.is_warm = self.is_warm or self.owner.elapsed >= self.owner.cold_seconds
        return self.is_warm

    def _add_tails(self, block: Block, answers: int, control_answers: int) -> None:
        """Count answers far above their own arm's level: a slow tail, or a slow route."""
        owner = self.owner
        if not answers or not control_answers:
            return
        for name, quantile in QUANTILES.items():
            self._count(name, "", quantile, block.buckets)
        arms = (owner.candidate, owner.control)
        for route in {route for _, route in block.timing}:
            timings = self.routes.setdefault(route, [Timing(), Timing()])
            for i, slot in enumerate(arms):
                timings[i] = timings[i] + block.timing[slot, route]
            buckets = {slot: block.route_buckets.get((slot, route), {}) for slot in arms}
            self._count("slow_p90", route, ROUTE_QUANTILE, buckets)

    def _count(
        self, name: str, route: str, quantile: float, buckets: Mapping[str, Mapping[int, int]]
    ) -> None:
        owner, edge = self.owner, self.edges.get((name, route))
        if edge is not None:
            (n_t, k_t), (n_c, k_c) = (
                beyond(buckets[slot], self.now[slot] + edge) for slot in (owner.candidate, owner.control)
            )
            if not route:
                owner.scatter[name].add(n_c, k_c)
            owner.weigh(name, route, n_t, k_t, n_c, k_c)
        self._learn_edge((name, route), quantile, buckets[owner.control])

    def _learn_edge(self, key: tuple[str, str], quantile: float, buckets: Mapping[int, int]) -> None:
        """Find where the control's slow answers begin from all it gave so far; it holds from the next block.

        So the bet stays fair: where the edge lies was known before anybody was held against it.
        """
        tail, level = self._tails.setdefault(key, Counter()), self.now[self.owner.control]
        for bucket, count in buckets.items():
            tail[math.ceil(bucket - level)] += count
        answers = tail.total()
        if answers * (1 - quantile) >= FEWEST_BEYOND and answers >= LEARNS_AGAIN * self._learned.get(key, 0):
            self.edges[key], self._learned[key] = edge_of(tail, quantile), answers

    @property
    def tails(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Where slow answers begin, and from how many that was learned."""
        return {key: (edge, self._learned[key]) for key, edge in self.edges.items()}

    def _together(self) -> tuple[Timing, Timing]:
        """Both arms' answers, all routes together."""
        new, old = (sum((timings[i] for timings in self.routes.values()), Timing()) for i in (0, 1))
        return new, old

    def _routes_with(self, fewest: int) -> dict[str, list[Timing]]:
        """The routes of which both arms gave so many answers."""
        return {r: ts for r, ts in self.routes.items() if min(t.answers for t in ts) >= fewest}

    def slowed_most(self) -> tuple[str, float]:
        """The route that is slowed far more than the rest, and how many times; "" where none is."""
        new, old = self._together()
        alike = (new.mean - old.mean) * BUCKET_LOG
        known = self._routes_with(FEWEST)
        slower = {route: (t.mean - c.mean) * BUCKET_LOG for route, (t, c) in known.items()}
        route = max(slower, key=lambda name: slower[name], default="")
        stands_out = bool(route) and slower[route] > max(alike, 0.0) + math.log(SLOWER)
        return (route, math.exp(slower[route])) if stands_out else ("", 1.0)

    def slowest_route(self) -> Proof | None:
        """Bound how many times as slow as beside it, in the control, the slowest route can be.

        Of routes with enough answers to tell, each bounded with its part of the doubt at whatever time it is
        looked at (Robbins' normal mixture); what makes all routes slower alike is judged by itself.
        """
        known = self._routes_with(FEWEST_OF_ROUTE)
        if not known:
            return None
        new, old = self._together()
        alike = min(max((new.mean - old.mean) * BUCKET_LOG, 0.0), math.log(SLOWER) / 2)
        doubt = DOUBT / len(known)
        bounds = {}
        for route, (t, c) in known.items():
            n, noise = t.answers / MIXED_AT, (t.noise + c.noise) * BUCKET_LOG**2
            sure = math.sqrt(noise * (1 + 1 / n) * (math.log1p(n) + 2 * math.log(1 / (2 * doubt))))
            bounds[route] = ((t.mean - c.mean) * BUCKET_LOG - alike + sure, sure)
        route, (at_most, sure) = max(bounds.items(), key=lambda item: item[1][0])
        left = math.log(SLOWER) - (at_most - sure)
        more = math.ceil(new.answers * ((sure / left) ** 2 - 1)) if 0 < left < sure else None
        is_proven = at_most <= math.log(SLOWER)
        return Proof(f"slow {route}", round(math.exp(at_most), 3), SLOWER, 0 if is_proven else more)


def beyond(buckets: Mapping[int, int], edge: float) -> tuple[int, int]:
    return sum(buckets.values()), sum(count for bucket, count in buckets.items() if bucket > edge)


def edge_of(histogram: Mapping[int, int], quantile: float) -> int:
    """The first bucket that such a part of the answers did not exceed."""
    seen, wanted = 0, quantile * sum(histogram.values())
    for edge in sorted(histogram):
        seen += histogram[edge]
        if seen >= wanted:
            return edge
    return max(histogram)
