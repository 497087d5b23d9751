"""Two slots beside each other, request by request: who fails more, is slower, or lacks answers.

Takes the cells of the request log look by look, weighs them block by block, and never reads the world. What
both slots suffer at once is nobody's evidence: it is counted apart, and is ``held``.
"""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from checks.window.absence import Tolerable
from checks.window.against_before import AgainstBefore, Asked
from checks.window.before import Before
from checks.window.carried import LARGEST_LN, Carried
from checks.window.cells import ROUTE_NAMES
from checks.window.detectors import (
    BETS,
    RESTARTS,
    SLOW_BETS,
    Against,
    Beside,
    Dispersion,
    most_left_open,
)
from checks.window.latency import Latency
from checks.window.passing import STALLS, Alive, Passing
from checks.window.streams import CLASSES, HARM, Anonymity, Block, Fold, Key

# Each stream's part of the chance of a false alarm: all routes together, and the routes one by one.
OVERALL = {"failed": 0.54, "busy": 0.05, "cut": 0.01, "not_found": 0.02, "limited": 0.03, "refused": 0.01}
OVERALL |= {"redirected": 0.01, "slow_p95": 0.02, "slow_p99": 0.03}
BY_ROUTE = {"failed": 0.07, "busy": 0.02, "cut": 0.01, "not_found": 0.02, "limited": 0.01, "refused": 0.01}
BY_ROUTE |= {"redirected": 0.01, "slow_p90": 0.05}
# The new slot against what the old one had lately: sees few requests, however small the share, fail.
LATELY = 0.08
LATELY_BETS = ((2.5, 0.25), (5.0, 0.3), (10.0, 0.3), (20.0, 0.1), (100.0, 0.05))
LATELY_BLOCKS, LATELY_TRIALS = 720, 100
# What the old slot has just now, with at least so many events in so many blocks, is allowed twice.
NOW_BLOCKS, NOW_EVENTS, NOW_TIMES = 6, 2, 2
# What was that many blocks ago, or longer, and so many requests, tells what is usual; less is never unusual.
PAST_BLOCKS, PAST_TRIALS, LEAST_RATIO = 30, 300, 0.003
# A balancer that answers for want of a slot is rarer still.
LEAST_UNSERVED = 0.0015
# Control harm beyond this in a block is not what a slot does by itself; nor is what comes right after it.
AFTER_BLOCKS = 6
SHARED_RATIO, SHARED_EVENTS = 0.03, 3
# However much of it there is, no more is learnt to be usual: else a storm would be after a few blocks.
MOST_USUAL = 0.06
SHARED_MEMORY_BLOCKS = 60
UNSERVED = "unserved"


# The chance of taking either slot wrongly for worse than before the release.
BEFORE_DOUBT = 1e-3


@dataclass
class Evidence:
    """What a window's requests say of the candidate beside the control; ``horizon`` is its longest time."""

    candidate: str
    control: str
    share: float
    horizon: float
    block_seconds: float = 10.0
    cold_seconds: float = 150.0
    before: Before | None = None
    tolerable: Tolerable = field(default_factory=Tolerable)
    # For how long both slots may suffer.
    shared_limit: float = 0.0
    earlier: Carried = field(default_factory=Carried)

    def __post_init__(self) -> None:
        blocks = max(int(self.horizon / self.block_seconds), 1)
        self.passing = Passing(
            self.candidate,
            self.control,
            self.share,
            blocks,
            self.tolerable,
            max(math.ceil(STALLS * self.shared_limit / self.block_seconds), 1),
            self.earlier.sums,
        )
        self.alive = {self.candidate: Alive(), self.control: Alive()}
        self.fold = Fold((self.candidate, self.control))
        self.block: Block | None = None
        self.elapsed, self.blocks, self.passed = 0.0, 0, 0
        self.streams: dict[tuple[str, str], Beside] = {}
        # The routes that were asked for in the first block: most of what there is.
        self.routes: frozenset[str] = frozenset()
        self.counts: dict[tuple[str, str], list[float]] = {}
        self.scatter: dict[str, Dispersion] = {name: Dispersion() for name in OVERALL | BY_ROUTE}
        self.lately = Against(LATELY_BETS, before=self.earlier.evidence("lately"))
        self.worse = Against(LATELY_BETS)
        # Requests that no slot had, since HAProxy answered them itself.
        self.unserved = Against(LATELY_BETS)
        self.unserved_counts = [0.0, 0.0]
        for key in self.earlier.streams:
            if key[0] in self.scatter:
                self._begin(*key)
        self._past: list[tuple[float, float]] = [(0.0, 0.0)]
        self._old_lately: deque[tuple[float, float]] = deque()
        self._old_sums = [0.0, 0.0]
        self.levels = Latency(self, self.before.level if self.before else self.earlier.usual)
        self.shared: deque[tuple[float, float, str]] = deque()
        self.ratios: dict[str, list[float]] = {name: [1.0, 100.0] for name in HARM}
        # Failed requests of each arm in the last look, as evidence counts them.
        self.look: dict[str, float] = {}
        self.anonymity = Anonymity()
        self.since = dict(self._since())

    def _since(self) -> Iterator[tuple[str, AgainstBefore]]:
        """What holds each arm against how the service was before the release, if that is known."""
        if self.before is None or not self.before.requests:
            return
        for slot, share in ((self.candidate, self.share), (self.control, 1 - self.share)):
            asked = Asked(
                slot,
                self.tolerable,
                BEFORE_DOUBT,
                self.horizon,
                self.block_seconds,
                None,
                self.cold_seconds if slot == self.candidate else 0.0,
                share,
            )
            yield slot, AgainstBefore(self.before, asked)

    def add(self, elapsed: float, seconds: float, found: Mapping[str, Any]) -> None:
        """Take in a look of so many seconds; ``elapsed`` is the window's time at its end."""
        self.elapsed = elapsed
        block = self.block = self.block or Block(elapsed - seconds)
        cells = found["cells"]
        self.fold.is_anonymous = self.anonymity.add(elapsed, found.get("clients"))
        before = self._harm(block)
        self.fold.add(block, cells, found.get("marks") or {}, elapsed)
        self.look = {slot: n - before[slot] for slot, n in self._harm(block).items()}
        asked = Counter[str]()
        for cell in cells:
            asked[cell[1]] += cell[4]
        for slot, alive in self.alive.items():
            alive.add(elapsed, asked[slot])
        if elapsed - block.start >= self.block_seconds - 0.5 * seconds:
            self._close(block)
            self.block = None

    def _harm(self, block: Block) -> dict[str, float]:
        arms = (self.candidate, self.control)
        return {slot: sum(block.events.get((of, slot), 0.0) for of in HARM) for slot in arms}

    def _close(self, block: Block) -> None:
        self.blocks += 1
        self.routes = self.routes or frozenset(route for _, route in block.judged)
        block.close()
        due = min(int(self.elapsed * RESTARTS / self.horizon), RESTARTS) - self.passed
        self.passed += due
        for evidence in (
            *(test.evidence for test in (self.lately, self.worse, self.unserved)),
            *(stream.evidence for stream in self.streams.values()),
        ):
            evidence.restart(due)
        for since in self.since.values():
            since.add(self.elapsed, self.elapsed - block.start, block)
        trouble = self._shared(block)
        if trouble:
            self.shared.append((self.elapsed, self.elapsed - block.start, trouble))
        while self.shared and self.shared[0][0] < self.elapsed - SHARED_MEMORY_BLOCKS * self.block_seconds:
            self.shared.popleft()
        self._weigh_unserved(block)
        if trouble is None:
            self._compare_with_past(block)
        after = self.elapsed - self.shared[-1][0] if self.shared else math.inf
        is_counted = trouble is None and after >= AFTER_BLOCKS * self.block_seconds
        self.fold.settle(is_counted)
        judged, arms = _judged(block), (self.candidate, self.control)
        self._weigh_events(block, judged, [of for of in CLASSES.values() if is_counted or of not in HARM])
        if not is_counted:
            return
        self._weigh_lately(*((judged[slot, ""], block.events.get(("failed", slot), 0.0)) for slot in arms))
        self.levels.add(block)
        self.passing.add(self.elapsed, block, self.levels.far_slower(block))

    def _shared(self, block: Block) -> str | None:
        """Name what both slots suffer in a block; "" where only the control does, None where it is well."""
        requests = block.requests(self.control)
        for of in HARM:
            events, trials = block.events.get((of, self.control), 0.0), self.ratios[of]
            expected = requests * (self.before.ratios.get(of, 0.0) if self.before else trials[0] / trials[1])
            trials[0] += min(events, MOST_USUAL * requests)
            trials[1] += requests
            harmed = events >= SHARED_EVENTS and events > SHARED_RATIO * requests
            if harmed and events > expected + 5 * math.sqrt(expected) + 2:
                return of if self._suffers(block, of) else ""
        requests, events = self._unserved(block)
        if events >= SHARED_EVENTS and events > SHARED_RATIO * requests:
            return UNSERVED
        if self.levels.is_slow(block, self.control):
            return "slow" if self._suffers(block, "slow") else ""
        return None

    def _suffers(self, block: Block, of: str) -> bool:
        """Whether the candidate suffers it too; one that too few asked may."""
        requests = block.requests(self.candidate)
        if requests < 3:
            return True
        if of == "slow":
            return self.levels.is_slow(block, self.candidate, 0.8)
        return block.events.get((of, self.candidate), 0.0) > SHARED_RATIO * requests / 2

    @property
    def per_second(self) -> float:
        """The candidate's requests per second."""
        return self.alive[self.candidate].requests / self.elapsed if self.elapsed else 0.0

    @property
    def shared_seconds(self) -> float:
        """For how long both slots suffered lately."""
        return sum(seconds for _, seconds, trouble in self.shared if trouble)

    def _weigh_events(self, block: Block, judged: Mapping[Key, float], classes: Collection[str]) -> None:
        """Weigh these classes; what nobody wants but no database gives tells even while both slots suffer."""
        arms = (self.candidate, self.control)
        for of in classes:
            k_t, k_c = (block.events.get((of, slot), 0.0) for slot in arms)
            n_t, n_c = (
                judged[slot, ""] + (0 if of in HARM else k) for slot, k in zip(arms, (k_t, k_c), strict=True)
            )
            self.scatter[of].add(n_c, k_c)
            self.weigh(of, "", n_t, k_t, n_c, k_c)
        routes = {(of, route) for of, route, _ in block.route_events if of in classes}
        routes |= {
            key for key, stream in self.streams.items() if key[0] in classes and key[1] and stream.is_waiting
        }
        for of, route in routes:
            k_t, k_c = (block.route_events.get((of, route, slot), 0.0) for slot in arms)
            n_t, n_c = (
                judged[slot, route] + (0 if of in HARM else k)
                for slot, k in zip(arms, (k_t, k_c), strict=True)
            )
            self.weigh(of, route, n_t, k_t, n_c, k_c)

    def _unserved(self, block: Block) -> tuple[float, float]:
        """A block's requests, and those of them that HAProxy failed itself, for want of a slot that could."""
        events = sum(block.events.get((of, ""), 0.0) for of in ("failed", "busy"))
        return sum(block.requests(slot) for slot in self.alive) + events, events

    def _weigh_unserved(self, block: Block) -> None:
        """Hold what no slot answered against what it was before the release, else against what is usual."""
        requests, events = self._unserved(block)
        usual = 2 * self.before.ratios.get(UNSERVED, 0.0) if self.before else 0.0
        self.unserved.add(requests, events, min(max(usual, LEAST_UNSERVED), 0.5))
        for i, n in enumerate((requests, events)):
            self.unserved_counts[i] += n

    def _compare_with_past(self, block: Block) -> None:
        """Hold the control's failures against what they were before the release, or a while ago."""
        trials, events = block.requests(self.control), self._harm(block)[self.control]
        before = self._past[max(len(self._past) - 1 - PAST_BLOCKS, 0)]
        allowed = most_left_open(before[1], before[0]) if before[0] >= PAST_TRIALS else 0.0
        if self.before:
            allowed = 2 * sum(self.before.ratios.values())
        if allowed:
            self.worse.add(trials, events, min(max(allowed, LEAST_RATIO), 0.5))
        self._past.append((self._past[-1][0] + trials, self._past[-1][1] + events))

    def _weigh_lately(self, new: tuple[float, float], old: tuple[float, float]) -> None:
        """Hold the candidate's failures against the most that the control's lately leave open."""
        self._old_lately.append(old)
        self._old_sums = [a + b for a, b in zip(self._old_sums, old, strict=True)]
        if len(self._old_lately) > LATELY_BLOCKS:
            gone = self._old_lately.popleft()
            self._old_sums = [a - b for a, b in zip(self._old_sums, gone, strict=True)]
        trials, events = self._old_sums
        if trials < LATELY_TRIALS:
            return
        now = [self._old_lately[-i] for i in range(1, min(NOW_BLOCKS, len(self._old_lately)) + 1)]
        requests_now, events_now = (sum(values) for values in zip(*now, strict=True))
        allowed = most_left_open(events, trials)
        if events_now >= NOW_EVENTS:
            allowed = max(allowed, NOW_TIMES * events_now / max(requests_now, events_now))
        self.lately.add(*new, min(allowed, 0.5))

    def _begin(self, of: str, route: str) -> Beside:
        bets, before = SLOW_BETS if of.startswith("slow") else BETS, self.earlier.evidence(of, route)
        stream = self.streams[of, route] = Beside(bets, self.passed, before)
        self.counts.setdefault((of, route), self.earlier.counts(of, route))
        return stream

    def weigh(self, of: str, route: str, n_t: float, k_t: float, n_c: float, k_c: float) -> None:
        counts = self.counts.setdefault((of, route), [0.0] * 4)
        for i, n in enumerate((n_t, k_t, n_c, k_c)):
            counts[i] += n
        stream = self.streams.get((of, route))
        if stream is None:
            if not (k_t or k_c):
                return
            stream = self._begin(of, route)
        scatter = self.scatter[of].factor
        stream.add(n_t, k_t / scatter, n_c, k_c / scatter)

    def log_e(self, of: str) -> tuple[float, str]:
        """ln E of a class, its streams weighted by their parts of alpha, and the route that says most."""
        parts = {
            route: stream.evidence.value * (BY_ROUTE[of] * self._part(of, route) if route else OVERALL[of])
            for (name, route), stream in self.streams.items()
            if name == of
        }
        if of == "failed":
            parts[""] = parts.get("", OVERALL[of]) + LATELY * self.lately.evidence.value
        if not parts:
            return math.log(OVERALL.get(of) or BY_ROUTE[of]), ""
        return math.log(sum(parts.values())), max(parts, key=lambda route: parts[route])

    def _part(self, of: str, route: str) -> float:
        """A route's part of what all have together; of harm half is for the first, half for any to come.

        Not of slow answers: those of a route hang together, and a few in a row are no proof.
        """
        if of not in HARM:
            return 1 / ROUTE_NAMES
        return 0.5 / ROUTE_NAMES + (0.5 / len(self.routes) if route in self.routes else 0.0)

    def carried(self, above: Sequence[str] = ()) -> Carried:
        """What the release's next window begins with; ``above`` is what lies beyond the tolerable."""
        streams = {
            key: (_ln(stream.evidence.value), self.counts[key]) for key, stream in self.streams.items()
        }
        streams["lately", ""] = (_ln(self.lately.evidence.value), [0.0] * 4)
        levels = self.levels
        return Carried(streams, self.passing.sums, tuple(above), levels.tails, levels.is_warm, levels.usual)


def _judged(block: Block) -> Mapping[Key, float]:
    """A block's judged requests per (slot, route); the route "" is all of them."""
    judged: dict[Key, float] = defaultdict(float)
    for (slot, route), n in block.judged.items():
        judged[slot, route] += n
        judged[slot, ""] += n
    return judged


def _ln(evidence: float) -> float:
    return min(max(math.log(max(evidence, 1e-300)), -LARGEST_LN), LARGEST_LN)
