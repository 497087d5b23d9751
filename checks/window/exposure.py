"""What a window judged by the request can prove and find at this traffic, and how many visitors that costs.

Expected times: the evidence of ``evidence.Evidence`` grown as it is expected to grow. It comes in steps of
whole errors, so that about half of all windows take longer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from checks.base.bounds import first, upper_bound
from checks.window.absence import difference, duration
from checks.window.detectors import BETS, FRESH
from checks.window.evidence import LATELY, LATELY_BETS, LATELY_BLOCKS, LATELY_TRIALS, OVERALL
from checks.window.limits import WindowLimits

# What is usual, as ratios: errors, answers that nobody wanted, slow ones.
USUAL = {"errors": 0.001, "unwanted": 0.02, "slow": 0.01}
# The fault whose cost is told, and those that little traffic may still show.
FAULT, WORSE = 0.05, (0.1, 0.2, 0.5)
# Shares that steps may have, and how much of the site's window one must last that is proven sooner.
SHARES, LEAST_OF_WINDOW = (1, 2, 5, 10, 25, 50), 0.2
FOREVER_MINUTES = 60 * 24 * 365.0


@dataclass(frozen=True)
class Traffic:
    """Requests per minute of both slots together, and how many percent of them the candidate gets."""

    limits: WindowLimits
    per_minute: float
    share: int

    @property
    def candidate(self) -> float:
        return self.per_minute * self.share / 100

    @property
    def control(self) -> float:
        return self.per_minute - self.candidate

    def minutes_to_find(self, ratio: float) -> float:
        """About how many minutes pass until a candidate that fails so many requests is turned back."""
        wanted = math.log(1 / self.limits.alpha)
        found = first(lambda minutes: self._log_e(minutes, ratio) >= wanted, 0.0, FOREVER_MINUTES)
        burning = self.limits.breaker_errors / max(self.candidate * ratio, 1e-9)
        if ratio > self.limits.burning_ratio and 60 * burning <= self.limits.breaker_seconds:
            found = min(found, burning)
        return found + self.limits.block_seconds / 120 if found < 0.99 * FOREVER_MINUTES else math.inf

    def visitors_until_found(self, ratio: float = FAULT) -> float:
        """How many visitors fail until then, if each asks once."""
        return self.candidate * ratio * self.minutes_to_find(ratio)

    def visitors_at_most(self, ratio: float) -> float:
        """How many visitors fail until then, or until the window ends."""
        return self.candidate * ratio * min(self.minutes_to_find(ratio), self.limits.max_seconds / 60)

    def minutes_to_prove(self) -> float:
        """About how many minutes pass until a healthy candidate has proven that it does no harm."""
        return max(self._minutes_of_proof(), self.limits.seconds / 60)

    @property
    def is_provable(self) -> bool:
        """Whether a healthy candidate can prove it before the window must end."""
        return 60 * self.minutes_to_prove() <= self.limits.max_seconds

    def seconds_of_proof(self) -> float:
        """How long a window is that ends as soon as there can be a proof; not longer than the site's."""
        return min(
            max(60 * self._minutes_of_proof(), self.limits.seconds * LEAST_OF_WINDOW), self.limits.seconds
        )

    def _minutes_of_proof(self) -> float:

        def holds(minutes: float) -> bool:
            # What is proven must hold of the window's second half alone.
            new, old = self.candidate * minutes / 2, self.control * minutes / 2
            tolerable = self.limits.tolerable_at(self.share)
            return all(
                difference(kind, (usual * new, new), (usual * old, old), getattr(tolerable, kind)).holds
                for kind, usual in USUAL.items()
            )

        found = first(holds, 0.0, FOREVER_MINUTES)
        return found if found < 0.99 * FOREVER_MINUTES else math.inf

    def _log_e(self, minutes: float, ratio: float) -> float:
        """ln E of errors that rose from what is usual: beside the control, and against what it had lately."""
        if not (self.candidate and self.control):
            return 0.0
        usual, share = USUAL["errors"], self.share / 100
        failed, old_failed = self.candidate * ratio * minutes, self.control * usual * minutes
        logs = []
        for harm, part in BETS:
            theta = harm * share / (harm * share + 1 - share)
            log = failed * math.log(theta / share) + old_failed * math.log((1 - theta) / (1 - share))
            logs.append(log + math.log(part * FRESH * OVERALL["failed"]))
        lately = min(self.control * minutes, self.control * LATELY_BLOCKS * self.limits.block_seconds / 60)
        if lately >= LATELY_TRIALS:
            allowed = min(upper_bound(math.ceil(usual * lately), math.floor(lately)), 0.5)
            fine = self.candidate * minutes - failed
            for harm, part in LATELY_BETS:
                worse = min(harm * allowed, (1 + allowed) / 2)
                log = failed * math.log(worse / allowed) + fine * math.log((1 - worse) / (1 - allowed))
                logs.append(log + math.log(part * FRESH * LATELY))
        largest = max(logs)
        return largest + math.log(sum(math.exp(log - largest) for log in logs))


def claim(limits: WindowLimits, per_minute: float, share: int) -> str:
    """Say what a window can prove, or at least notice, at this traffic."""
    traffic, most = Traffic(limits, per_minute, share), limits.max_seconds / 60
    noticed = [ratio for ratio in (FAULT, *WORSE) if traffic.minutes_to_find(ratio) <= most]
    if not noticed:
        every = (
            "only a release that fails every request" if traffic.minutes_to_find(1.0) <= most else "nothing"
        )
        return f"so little traffic: {every} would be noticed"
    points = f"errors at most {100 * limits.tolerable_at(share).errors:.2g} points above the old slot"
    minutes = traffic.minutes_to_prove()
    if minutes <= most:
        return f"can prove {points} in about {duration(minutes)} at this rate"
    in_time = duration(traffic.minutes_to_find(noticed[0]))
    return (
        f"too little traffic to prove {points} in {duration(most)} (about {duration(minutes)});"
        f" {100 * noticed[0]:.0f} % of errors are noticed in about {in_time}"
    )


def steps(limits: WindowLimits, per_minute: float, given: Sequence[int], most: float) -> list[int]:
    """Shares that rise as fast as no more than so many visitors are expected to fail, and can be proven well.

    A first step may meet a fault of ``FAULT``; a later one what the step before it did not rule out. Where no
    share is as cheap, it is the next of the ``given`` steps.
    """
    found: list[int] = []
    fault, last = FAULT, 0
    while fault > limits.tolerable_errors:
        ways = [Traffic(limits, per_minute, share) for share in (*SHARES, *given) if last < share < 100]
        cheap = [way.share for way in ways if way.visitors_at_most(fault) <= most and way.is_provable]
        others = [way.share for way in ways if way.share in given]
        if not (cheap or others):
            break
        last = max(cheap) if cheap else min(others)
        found.append(last)
        fault = limits.tolerable_at(last).errors
    return found


def cost(limits: WindowLimits, per_minute: float | None, share: int) -> str:
    """Say what a step would cost if the release were bad; empty where nobody can tell."""
    if not per_minute or share >= 100 or not limits.by_request:
        return ""
    traffic = Traffic(limits, per_minute, share)
    if 60 * traffic.minutes_to_find(FAULT) > limits.max_seconds:
        return ""
    visitors = traffic.visitors_until_found()
    return (
        f"at {share} %: about {math.ceil(visitors)} visitors fail until a {100 * FAULT:.0f} % fault is found"
    )
