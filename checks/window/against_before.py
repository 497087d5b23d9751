"""A slot against how the service was before the release: errors, latency, missing answers, route by route.

What is worse than it was may be the release's or somebody else's: who uses this says what follows from it.
Bets are on what the site tolerates above what was usual, so that ordinary drift between hours is no harm.
Times in which most fails are left out of the bets, and counted: a storm is not a release, unless it lasts.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from checks.base.report import Finding, compare
from checks.window.absence import Tolerable, upper
from checks.window.before import Before
from checks.window.cells import OTHER, ROUTE_NAMES
from checks.window.detectors import BETS, RESTARTS, SLOW_BETS, Against
from checks.window.latency import BUCKET_LOG, FEWEST, FOLLOWS, QUANTILES, ROUTE_QUANTILE, SLOWER, beyond
from checks.window.levels import Shift, averaging
from checks.window.streams import CLASS_WORDS, CLASSES, HARM, Block, Timing

# Each stream's part of the chance of a false alarm: all routes together, and the routes one by one.
OVERALL = {"failed": 0.4, "busy": 0.1, "cut": 0.05, "not_found": 0.05, "limited": 0.05, "refused": 0.05}
OVERALL |= {"redirected": 0.05, "slow_p95": 0.03, "slow_p99": 0.03}
BY_ROUTE = {"failed": 0.05, "busy": 0.02, "cut": 0.01, "not_found": 0.01, "limited": 0.01, "refused": 0.01}
BY_ROUTE |= {"redirected": 0.01, "slow_p90": 0.05}
LEVELS, MISSING = 0.03, 0.03
WORDS = {
    **CLASS_WORDS,
    "slow_p95": "answers beyond the p95 of before",
    "slow_p99": "answers beyond the p99 of before",
}
STORM, FEWEST_OF_STORM, STORM_MEMORY = 0.03, 3, 600.0
# Blocks of latency and traffic hang together for a while; and so many answers tell of the traffic.
MEMORY, FEWEST_EXPECTED = 0.95, 20.0
HINT = "Nothing of it was there before the release. See ./p12 evidence, the database and the host."


@dataclass(frozen=True)
class Asked:
    """What is asked of whom: for how long at most, with which chance of a false word, and how finely."""

    slot: str
    tolerable: Tolerable
    alpha: float
    seconds: float
    block_seconds: float
    # For how long most may suffer within ten minutes; None where somebody else asks that.
    storm_seconds: float | None
    cold_seconds: float = 0.0
    # The part of all traffic that it is to get.
    share: float = 1.0


class AgainstBefore:
    """Takes blocks of one slot, and finds what was not there before."""

    def __init__(self, before: Before, asked: Asked) -> None:
        self.before, self.asked = before, asked
        horizon = max(int(asked.seconds / asked.block_seconds), 1)
        self.passed = 0
        self.streams: dict[tuple[str, str], tuple[Against, float]] = {}
        self.counts: dict[tuple[str, str], list[float]] = {}
        self.shift = Shift(math.log(SLOWER), horizon, asked.alpha * LEVELS)
        self.lack = Shift(-math.log(1 - asked.tolerable.missing), horizon, asked.alpha * MISSING)
        self.storms: deque[tuple[float, float, str]] = deque()
        self.is_warm, self._recent = not asked.cold_seconds, deque[float](maxlen=3)
        self.now: float | None = before.level and before.level / BUCKET_LOG
        self._timing, self._good, self._seconds = Timing(), 0.0, 0.0
        self.timed, self.elapsed = 0, 0.0

    def add(self, elapsed: float, seconds: float, block: Block) -> None:
        """Take in a block of so many seconds, which ended when so much of the time had gone by."""
        self.elapsed, asked = elapsed, self.asked
        while self.passed < RESTARTS and elapsed * RESTARTS >= (self.passed + 1) * asked.seconds:
            self.passed += 1
            for stream, _ in self.streams.values():
                stream.evidence.restart()
        self._add_traffic(block, seconds)
        if storm := self._storm(block):
            self.storms.append((elapsed, seconds, storm))
        while self.storms and self.storms[0][0] < elapsed - STORM_MEMORY:
            self.storms.popleft()
        if not storm:
            self._add_events(block)
            self._add_latency(block)

    def _storm(self, block: Block) -> str:
        """Name what so much of a block suffers that its counts are no ordinary ones."""
        requests, slot = block.requests(self.asked.slot), self.asked.slot
        for of in HARM:
            events, expected = block.events.get((of, slot), 0.0), requests * self.before.highest.get(of, 0.0)
            above = expected + 5 * math.sqrt(expected) + 2
            if events >= FEWEST_OF_STORM and events > max(STORM * requests, above):
                return of
        timing = block.timed(slot)
        if self.before.level is None or timing.answers < FEWEST_OF_STORM or not self.is_warm:
            return ""
        level = timing.mean * BUCKET_LOG - self.before.level
        edge = (self.before.level + math.log(8)) / BUCKET_LOG
        late = beyond(block.buckets[slot], edge)[1]
        is_late = late >= FEWEST_OF_STORM and late > 0.15 * timing.answers
        return "slow" if is_late or level > max(math.log(SLOWER), 4 * self.before.level_sd) else ""

    def _add_events(self, block: Block) -> None:
        slot = self.asked.slot
        judged = {route: n for (of, route), n in block.judged.items() if of == slot and n}
        for of in CLASSES.values():
            self._weigh(of, "", sum(judged.values()), block.events.get((of, slot), 0.0))
        known = self.before.routes
        for route in {*known, *judged, *(route for _, route, at in block.route_events if at == slot)}:
            # Whoever asks for what was never there gets nothing else: of that only harm tells.
            for of in CLASSES.values() if route in known and route != OTHER else HARM:
                events = block.route_events.get((of, route, slot), 0.0)
                self._weigh(of, route, judged.get(route, 0.0), events)

    def _weigh(self, of: str, route: str, requests: float, events: float) -> None:
        requests += 0 if of in HARM else events
        if not requests and not events:
            return
        key = (of, route)
        if key not in self.streams:
            bets = SLOW_BETS if of.startswith("slow") else BETS
            self.streams[key] = (Against(bets, self.passed), self._allowed(of, route))
            self.counts[key] = [0.0, 0.0]
        stream, allowed = self.streams[key]
        counts, scatter = self.counts[key], self.before.scatter.get(of, 1.0)
        counts[0], counts[1] = counts[0] + max(requests, events), counts[1] + events
        stream.add(requests / scatter, events / scatter, allowed)

    def _allowed(self, of: str, route: str) -> float:
        """What was usual at the most, and as much again or what is tolerated above it."""
        if of.startswith("slow"):
            return 2 * (1 - (QUANTILES.get(of) or ROUTE_QUANTILE))
        usual = self.before.highest.get(of, 0.0)
        if route and (known := self.before.routes.get(route)):
            usual = upper(known.ratios.get(of, 0.0) * known.requests, known.requests, 0.01)
        tolerable = self.asked.tolerable
        tolerated = tolerable.errors if of in HARM else tolerable.unwanted
        return min(usual + max(usual, tolerated), 0.5)

    def _add_latency(self, block: Block) -> None:
        before, timing = self.before, block.timed(self.asked.slot)
        if before.level is None or not timing.answers or not self._warm(timing):
            return
        self.timed += timing.answers
        part = timing.answers / (timing.answers + FOLLOWS)
        self.now = timing.mean if self.now is None else self.now + part * (timing.mean - self.now)
        self._add_tails(block)
        sums = self._timing = self._timing + timing
        if sums.answers < FEWEST:
            return
        self._timing = Timing()
        variance, noise = 2 * before.level_sd**2, max(sums.noise, 25.0 / sums.answers) * BUCKET_LOG**2
        above = sums.mean * BUCKET_LOG - before.level
        self.shift.add(above, noise, lambda n: variance * averaging(n, MEMORY))

    def _warm(self, timing: Timing) -> bool:
        """Whether a new process's latency is level: near that of before, or as it stays."""
        if not self.is_warm and self.before.level is not None and timing.answers >= 3:
            self._recent.append(timing.mean * BUCKET_LOG - self.before.level)
            near = len(self._recent) == 3 and max(self._recent) < math.log(SLOWER) / 2
            self.is_warm = near or self.elapsed >= self.asked.cold_seconds
        return self.is_warm

    def _add_tails(self, block: Block) -> None:
        now, slot = self.now or 0.0, self.asked.slot
        for name, edge in self.before.edges.items():
            self._weigh(name, "", *beyond(block.buckets[slot], now + edge))
        for route, known in self.before.routes.items():
            if known.slow is not None and (buckets := block.route_buckets.get((slot, route))):
                self._weigh("slow_p90", route, *beyond(buckets, now + known.slow))

    def _add_traffic(self, block: Block, seconds: float) -> None:
        """Hold the good answers against those of before, once enough were to be expected."""
        usual = (self.before.good_per_minute or 0.0) * self.asked.share / 60
        self._good += sum(n for (slot, _), n in block.good.items() if slot == self.asked.slot)
        self._seconds += seconds
        expected = usual * self._seconds
        if expected < FEWEST_EXPECTED:
            return
        lack = math.log(expected / (self._good + 0.5))
        self._good = self._seconds = 0.0
        # The whole hour may be a quiet one: no number of blocks makes that surer.
        self.lack.add(lack, 2 / expected, lambda _: self.before.traffic_sd**2)

    def findings(self) -> Iterator[Finding]:
        """What the evidence came to; whatever is failed was not there before."""
        for of in OVERALL | BY_ROUTE:
            if any(name == of for name, _ in self.streams):
                yield self._events(of)
        times = math.exp(self.shift.at_largest)
        said = f"latency: {times:.2g} times that of before the release"
        yield self._level("latency_against_before", self.shift, said)
        part = 1 - math.exp(-max(self.lack.at_largest, 0.0))
        yield self._level("missing_against_before", self.lack, f"good answers: {part:.0%} fewer than before")
        if self.asked.storm_seconds is not None:
            yield self._stormy(self.asked.storm_seconds)

    def _stormy(self, limit: float) -> Finding:
        seconds = sum(length for _, length, _ in self.storms)
        of = self.storms[-1][2] if self.storms else ""
        what = f" ({WORDS.get(of, 'slow answers')})" if of else ""
        said = f"far worse than before the release for {seconds:.0f} s{what} (limit < {limit:g} s)"
        return compare("suffers_against_before_seconds", round(seconds, 3), "<", limit, HINT, said)

    def _events(self, of: str) -> Finding:
        parts = {
            route: stream.evidence.value * self._part(of, route)
            for (name, route), (stream, _) in self.streams.items()
            if name == of
        }
        log_e, route = math.log(sum(parts.values())), max(parts, key=lambda name: parts[name])
        trials, events = self.counts[of, route]
        limit, where = math.log(1 / self.asked.alpha), f" on {route}" if route else ""
        said = (
            f"{WORDS[of]}{where}: {events:.0f} of {trials:.0f}, {self.streams[of, route][1]:.2%} allowed by"
            f" what was before; evidence {log_e:.3g}, fails at {limit:.3g}"
        )
        return compare(f"{of}_against_before_ln_e", round(log_e, 6), "<", round(limit, 6), HINT, said)

    def _part(self, of: str, route: str) -> float:
        """Its part of alpha."""
        return BY_ROUTE.get(of, 0.0) / ROUTE_NAMES if route else OVERALL.get(of, 0.0)

    def _level(self, name: str, shift: Shift, said: str) -> Finding:
        sure = round(max(shift.largest, 0.0), 6)
        return compare(name, sure, "<", 1.0, HINT, f"{said}; evidence {sure:.2g}, fails at 1")
