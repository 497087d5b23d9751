"""A window in which nobody old serves, request by request: held against how the service was before.

With nobody beside it harm may be anybody's, so it is held: going back may help, and tells whose it was. A
pass is a proof here as well, of how far the release is above what was before it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from checks.base.report import Finding, held, require
from checks.window.absence import Proof, difference, worst
from checks.window.against_before import AgainstBefore, Asked
from checks.window.before import Before
from checks.window.by_request import doubted, proven
from checks.window.latency import BUCKET_LOG, SLOWER, beyond
from checks.window.limits import WindowLimits
from checks.window.passing import Alive
from checks.window.streams import HARM, Anonymity, Block, Fold, marks_in


@dataclass(frozen=True)
class Sums:
    """What was seen until a time: requests and events for each of errors, unwanted and slow answers."""

    at: float = 0.0
    counts: tuple[float, ...] = (0.0,) * 6

    def plus(self, at: float, counts: tuple[float, ...]) -> "Sums":
        return Sums(at, tuple(a + b for a, b in zip(self.counts, counts, strict=True)))


class ByRequestAlone:
    """Judges the cells of a window without a control, of which it is known how it was before."""

    def __init__(self, limits: WindowLimits, candidate: str, share: int, before: Before) -> None:
        self.limits, self.candidate, self.before = limits, candidate, before
        self.tolerable = limits.tolerable_at(share)
        asked = Asked(
            candidate,
            self.tolerable,
            limits.alpha,
            limits.max_seconds,
            limits.block_seconds,
            limits.shared_seconds,
            max(limits.cold_seconds, limits.warmup_seconds),
            share / 100,
        )
        self.against = AgainstBefore(before, asked)
        self.alive, self.anonymity = Alive(), Anonymity()
        self.fold, self.block = Fold((candidate,)), Block(0.0)
        self.look: dict[str, float] = {}
        self.sums = [Sums()]
        self.elapsed = 0.0
        self._proofs: tuple[Proof, ...] = ()
        self._weighed: tuple[tuple[int, bool], list[Finding]] = ((-1, False), [])

    def carried(self) -> None:
        """Nothing: what is held against the time before begins anew with each window."""

    def add(self, elapsed: float, seconds: float, found: Mapping[str, Any]) -> None:
        """Take in a look of so many seconds that is whole; ``elapsed`` is the window's time at its end."""
        self.elapsed, cells = elapsed, found["cells"]
        self.fold.is_anonymous = self.anonymity.add(elapsed, found.get("clients"))
        before = self._harm()
        self.fold.add(self.block, cells, marks_in(found.get("marks")))
        self.look = {self.candidate: self._harm() - before}
        self.alive.add(elapsed, sum(cell[4] for cell in cells if cell[1] == self.candidate))
        if elapsed - self.block.start >= self.limits.block_seconds - 0.5 * seconds:
            self.block.close()
            self.against.add(elapsed, elapsed - self.block.start, self.block)
            self.sums.append(self.sums[-1].plus(elapsed, self._counts()))
            self.block = Block(elapsed)

    def _harm(self) -> float:
        return sum(self.block.events.get((of, self.candidate), 0.0) for of in HARM)

    def _counts(self) -> tuple[float, ...]:
        block, slot = self.block, self.candidate
        judged, harm = block.requests(slot), self._harm()
        unwanted = sum(n for (of, at), n in block.events.items() if at == slot and of not in HARM)
        return (judged, harm, judged + unwanted, unwanted, *self._slow())

    def _slow(self) -> tuple[float, float]:
        """The block's timed answers, and those that took over twice what 95 % of those before took."""
        edge = self.before.edges.get("slow_p95")
        if edge is None or self.before.level is None or not self.against.is_warm:
            return 0.0, 0.0
        return beyond(
            self.block.buckets[self.candidate],
            (self.before.level + math.log(SLOWER)) / BUCKET_LOG + edge,
        )

    @property
    def timed(self) -> int:
        """The candidate's answers whose latency was compared."""
        return self.against.timed

    def findings(self, is_due: bool) -> Iterator[Finding]:
        """What the evidence came to, and what is not yet proven; anew where a block of time ends."""
        key = (len(self.sums), is_due)
        if self._weighed[0] != key:
            self._weighed = (key, list(self._weigh()))
        yield from self._weighed[1]
        silent = self.alive.silence(self.elapsed)
        yield require("silent_seconds", round(silent, 3), "==", 0, "The slot is not asked any more.")

    def _weigh(self) -> Iterator[Finding]:
        for found in self.against.findings():
            yield doubted(held(found), "Looks worse than before, not yet proven.")
        self._proofs = tuple(self.proofs())
        for proof in self._proofs:
            yield proven(proof, self.per_second)

    def proofs(self) -> Iterator[Proof]:
        """Each kind of harm bounded, the worse of all that was seen and of its second half."""
        end = self.sums[-1]
        middle = next(sums for sums in self.sums if sums.at >= end.at / 2)
        ratios, n = self.before.ratios, self.before.requests
        errors = sum(ratios.get(of, 0.0) for of in HARM)
        usual = {"errors": errors, "unwanted": sum(ratios.values()) - errors, "slow": 0.0}
        for i, (kind, ratio) in enumerate(usual.items()):
            tolerable, found = max(getattr(self.tolerable, kind), ratio), []
            for begin in (self.sums[0], middle):
                trials, events = (end.counts[j] - begin.counts[j] for j in (2 * i, 2 * i + 1))
                found.append(difference(kind, (events, trials), (ratio * n, n), tolerable))
            yield replace(worst(found), beside="what was before the release")

    @property
    def known_proofs(self) -> tuple[Proof, ...]:
        """The proofs as they were last worked out."""
        return self._proofs

    @property
    def per_second(self) -> float:
        """The candidate's requests per second."""
        return self.alive.requests / self.elapsed if self.elapsed else 0.0
