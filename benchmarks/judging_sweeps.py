"""What no single window shows: whole rollouts, blind windows, and that worse is never judged better."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from checks.base.report import Verdict
from checks.window.judge import Judgement, WindowJudge
from checks.window.limits import WindowLimits
from tests import simulated_causes as causes
from tests.simulated_causes import Make, answers, slower
from tests.simulated_requests import NEW, OLD, World, samples
from tests.simulated_sight import SPOILED, Spoil

JUDGING: Mapping[str, Any] = {"scrape_gap_seconds": 15, "watch_database": False, "by_request": True}
STOPPED = (Verdict.FAILED, Verdict.HELD)
# A whole rollout: the share of each window, and its minutes.
ROLLOUT = ((5, 10.0), (25, 10.0), (98, 60.0))
# What grows worse in a sweep: how a new slot is with so much of it, from healthy on.
RATIOS: Mapping[str, Sequence[float]] = {
    **dict.fromkeys(("5xx", "503"), (0.001, 0.004, 0.016, 0.064, 0.256)),
    **dict.fromkeys(("404", "429", "3xx"), (0.01, 0.04, 0.16, 0.64)),
    "slower": (1.0, 2.0, 4.0, 8.0),
}
# So much better a worse release may look by chance, of all of its windows.
CHANCE = 0.1


@dataclass(frozen=True)
class Sweep:
    """Windows at one share and traffic whose new slot gets worse in one way."""

    of: str
    share: int
    per_minute: float
    minutes: float = 10.0

    @property
    def name(self) -> str:
        return f"{self.of}, {self.share} %, {self.per_minute:g}/min"

    def make(self, ratio: float) -> Make:
        def make(*_: Any) -> World:
            plain = slower(ratio) if self.of == "slower" else answers({self.of: ratio})
            world = plain(random.Random(0))
            world.coupled = True
            return world

        return make


def sweeps() -> Iterator[Sweep]:
    for of in RATIOS:
        for share in (5, 25, 50):
            for per_minute in (120, 600):
                yield Sweep(of, share, per_minute)


def window(make: Make, share: int, per_minute: float, minutes: float, seed: int, **more: Any) -> Judgement:
    """One window, to its verdict."""
    return watched(make, share, per_minute, minutes, seed, **more).judgement


def watched(
    make: Make,
    share: int,
    per_minute: float,
    minutes: float,
    seed: int,
    spoil: Spoil = lambda taken: taken,
    earlier: Mapping[str, Any] | None = None,
) -> WindowJudge:
    most = 60 * minutes * (3 if minutes <= 10 else 1)
    limits = WindowLimits(60 * minutes, most, 100, 0.01, **JUDGING)
    judging = WindowJudge(limits, NEW, OLD, share=share, earlier=earlier)
    world = make(random.Random(seed), share / 100)
    for sample in spoil(samples(seed, most, per_minute, share / 100, world)):
        if judging.add(sample).verdict is not None:
            break
    return judging


def swept(sweep: Sweep, runs: int) -> dict[str, Any]:
    """How many windows pass and are stopped, ratio by ratio; the same chance for each ratio."""
    passed, stopped = [], []
    for ratio in RATIOS[sweep.of]:
        found = Counter(
            window(sweep.make(ratio), sweep.share, sweep.per_minute, sweep.minutes, seed).verdict
            for seed in range(runs)
        )
        passed.append(found[Verdict.PASSED] / runs)
        stopped.append(sum(found[verdict] for verdict in STOPPED) / runs)
    holds = all(a >= b - CHANCE for a, b in pairwise(passed))
    holds &= all(a <= b + CHANCE for a, b in pairwise(stopped))
    return row("monotone", sweep.name, runs, holds, passed=passed, stopped=stopped)


def blinded(name: str, runs: int) -> dict[str, Any]:
    """Windows that cannot see: unknown, with the reason."""
    spoil, reason = SPOILED[name]
    told = 0
    verdicts: Counter[Verdict] = Counter()
    for seed in range(runs):
        judgement = window(causes.quiet, 25, 600, 10, seed, spoil=spoil)
        verdicts[judgement.verdict or Verdict.UNKNOWN] += 1
        told += reason in reasons(judgement)
    holds = verdicts[Verdict.UNKNOWN] == told == runs
    return row("blind", name, runs, holds, named={reason: told}, verdicts=verdicts)


def reasons(judgement: Judgement) -> str:
    """All that a window says of why it is unknown."""
    unknown = [str(found) for found in judgement.findings if found.verdict is Verdict.UNKNOWN]
    return "; ".join([*judgement.broken, *unknown])


def rollout(seed: int) -> Verdict:
    """A healthy release through all of its windows, each beginning with what those before saw."""
    earlier: Mapping[str, Any] | None = None
    for place, (share, minutes) in enumerate(ROLLOUT):
        judging = watched(causes.quiet, share, 600, minutes, 10 * seed + place, earlier=earlier)
        earlier = judging.carried()
        if judging.judgement.verdict is not Verdict.PASSED:
            return judging.judgement.verdict or Verdict.UNKNOWN
    return Verdict.PASSED


def rollouts(runs: int) -> dict[str, Any]:
    verdicts = Counter(rollout(seed) for seed in range(runs))
    failed = verdicts[Verdict.FAILED]
    holds = failed <= max(0.01 * runs, 1 if runs < 100 else 0)
    return row("healthy", "whole rollout: 5 %, 25 %, last window", runs, holds, verdicts=verdicts)


def row(kind: str, case: str, runs: int, holds: bool, **more: Any) -> dict[str, Any]:
    """A row as the table of cases has it."""
    shown = dict(more)
    verdicts = shown.pop("verdicts", None)
    parts = {verdict: verdicts[verdict] / runs for verdict in Verdict} if verdicts is not None else None
    return {"kind": kind, "case": case, "runs": runs, "holds": holds, "verdicts": parts, **shown}


def rows() -> Iterator[tuple[str, Callable[[int], dict[str, Any]]]]:
    """Each row's kind and name, and what measures it in so many windows."""
    yield "healthy whole rollout", rollouts
    for name in SPOILED:
        yield f"blind {name}", lambda runs, name=name: blinded(name, min(runs, 20))
    for sweep in sweeps():
        yield f"monotone {sweep.name}", lambda runs, sweep=sweep: swept(sweep, runs)
