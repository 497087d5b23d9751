"""Judge a window: numbers in, verdict out. Reads no clock, no network and no file but a kept one.

A window fails at any sample, passes only at its end and only on enough evidence, and is unknown when
``max_seconds`` have gone by without enough. What could not be seen is never taken for zero: its time does
not count as watched, and a window whose candidate started anew in it cannot pass, since what the process
had counted is gone.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.base.report import Finding, Verdict, combine, compare, held, observe, require
from checks.window.absence import Proof
from checks.window.baseline import COUNTS, Baseline, Threshold
from checks.window.before import Before
from checks.window.bodies import Bodies
from checks.window.by_request import ByRequest
from checks.window.by_request_alone import ByRequestAlone
from checks.window.comparisons import Alone, BesideControl
from checks.window.leaks import Leaks
from checks.window.limits import WindowLimits
from checks.window.requests import Requests
from checks.window.segments import Deltas, Segment
from checks.window.signals import Signals
from checks.window.tripwires import Breaker, Database, Memory

REASONS_KEPT = 5
# A process of the service names its database sessions by this and its own name.
SESSION_PREFIX = "paste12-"
# The old slot burns as well if its part of errors is so much of the new one's.
BURNS_TOO = 0.3
# It does not if, were it as bad, the chance of as few errors as it had were so small.
TELLS_BY_CHANCE = 1e-3


@dataclass(frozen=True)
class Judgement:
    """Where a window stands. ``verdict`` is None while it is open; the findings say why in either case.

    ``broken`` names the last reasons why time did not count as watched. ``baseline`` is what the control
    arm came to, for a window that has none. ``failing`` names the routes that failed a window. ``proofs`` say
    how far each harm can at most reach; the candidate had so many requests ``per_second``.
    """

    verdict: Verdict | None
    findings: tuple[Finding, ...]
    elapsed_seconds: float = 0.0
    watched_seconds: float = 0.0
    requests: int = 0
    errors: int = 0
    broken_segments: int = 0
    broken: tuple[str, ...] = ()
    baseline: Baseline | None = None
    failing: str = ""
    proofs: tuple[Proof, ...] = ()
    per_second: float = 0.0


@dataclass
class WindowJudge:
    """A window being watched: ``add`` samples as they come; the first verdict stays.

    A sample is ``{"at": unix seconds, "servers": {name: {"slot", "requests", "errors", "up"}},
    "instances": {name: {"started", "deadlocks", "busy", "unjudged", "retries", "retried", "latency",
    "resident_mb", "open_files", "open_files_limit", "connections", "connections_limit"}},
    "database": a reading as in ``tripwires``, "requests": as in ``requests``,
    "visitors": as in ``bodies``, "paused": whether somebody holds the release up}``,
    counters cumulative, an instance left out when it could not be scraped. While it is paused the window's
    time stands still, and only harm ends it. ``latency`` is a histogram as in ``baseline``, ``retried`` the
    retries by SQLSTATE.
    """

    limits: WindowLimits
    candidate: str
    control: str | None = None
    baseline: Baseline | None = None
    share: int = 0
    # What the windows before of the same release came to; see ``carried``.
    earlier: Mapping[str, Any] | None = None
    before: Before | None = None
    judgement: Judgement = field(default=Judgement(None, ()), init=False)

    def __post_init__(self) -> None:
        if self.candidate == self.control:
            raise ValueError(f"candidate and control are both {self.candidate}; they must be two slots.")
        self._deltas = Deltas(self.candidate, self.control, self.limits.scrape_gap_seconds)
        self._comparing = (
            BesideControl(self.limits, self.candidate, self.control)
            if self.control is not None
            else Alone(self.limits, self.candidate, self.baseline)
        )
        # Beside a holdback the old slot answers too little to tell much: what the limits and the steps say
        # holds as well, and as it may be everybody's trouble, what breaks them is held.
        self._by_limits = Alone(self.limits, self.candidate, self.baseline) if self._is_last else None
        # How the window is judged whose samples hold what the request log brought.
        self._by_request = self._judge_of_requests()
        self._has_requests = False
        self._threshold = Threshold(self.limits.baseline_requests)
        self._database = Database(self.limits, self.control is None or self._is_last)
        self._breaker, self._old_breaker = Breaker(self.limits), Breaker(self.limits)
        self._memory = Memory(self.limits)
        self._bodies = Bodies(self.limits, self.candidate, self.control)
        self._leaks = Leaks(self.limits, self.candidate)
        self._signals = Signals(
            self.limits.signals, self.limits.max_seconds, is_first=not (self.control or self.baseline)
        )
        self._requests = Requests(self.candidate)
        self._totals: Counter[tuple[str, str]] = Counter()
        self._evidence = self._unweighed = self._dead = self._samples = self._broken_segments = 0
        self._elapsed = self._watched = self._stood_still = 0.0
        self._is_paused = False
        self._broken: deque[str] = deque(maxlen=REASONS_KEPT)
        self._lost: list[str] = []
        self._restarted: list[str] = []
        self._retried: dict[str, dict[str, Any]] = {}

    @property
    def _is_last(self) -> bool:
        """Whether the control is a holdback: only then is there a baseline beside it."""
        return self.control is not None and self.baseline is not None

    def _judge_of_requests(self) -> ByRequest | ByRequestAlone | None:
        """Where neither a control nor the time before is known, requests have nothing to be held against."""
        limits, before = self.limits, self.before
        if not (limits.by_request and self.share):
            return None
        if self.control is not None:
            return ByRequest(limits, self.candidate, self.control, self.share, before, self.earlier)
        return ByRequestAlone(limits, self.candidate, self.share, before) if before else None

    def add(self, sample: Mapping[str, Any]) -> Judgement:
        """Take one sample in and say where the window stands now."""
        if self.judgement.verdict is None:
            self._take(sample if isinstance(sample, Mapping) else {})
            self.judgement = self._judge()
        return self.judgement

    def add_all(self, samples: Iterable[Mapping[str, Any]]) -> Judgement:
        """Take samples in until there is a verdict."""
        for sample in samples:
            if self.add(sample).verdict is not None:
                break
        return self.judgement

    def carried(self) -> dict[str, Any] | None:
        """What the next window of the same release begins with; None where no request was judged."""
        return self._by_request.carried() if self._by_request and self._has_requests else None

    def _take(self, sample: Mapping[str, Any]) -> None:
        segment = self._deltas.add(sample)
        unread = self._requests.add(sample)
        unread += self._database.add(sample) if self.limits.watch_database else []
        broken = [*segment.broken, *unread]
        self._elapsed += segment.elapsed
        self._is_paused = bool(sample.get("paused"))
        self._stood_still += segment.elapsed if self._is_paused else 0.0
        self._watched += 0.0 if unread or self._is_paused else segment.seconds
        self._dead = max(self._dead, len(segment.dead))
        self._lost += segment.lost
        self._restarted += segment.restarted
        if broken and self._samples:
            self._broken_segments += 1
            self._broken.extend(broken)
        self._samples += 1
        for key, count in segment.counts.items():
            self._totals[key] += count
        requests, errors = (segment.count(self.candidate, name) for name in ("requests", "errors"))
        self._has_requests = self._has_requests or isinstance(sample.get("requests"), Mapping)
        if self._by_request and isinstance(sample.get("requests"), Mapping):
            errors = self._take_requests(self._by_request, sample["requests"], segment, bool(broken))
        self._breaker.add(self._elapsed, requests, errors)
        self._weigh(segment, requests)
        self._bodies.add(sample.get("visitors"))
        self._note_instances(sample)
        self._leaks.add(self._elapsed, sample, self._deltas.arm_of)
        self._signals.add(sample)
        if self._deltas.threshold_seconds is None:
            self._settle_threshold(sample)

    def _take_requests(
        self, judging: ByRequest | ByRequestAlone, found: Mapping[str, Any], segment: Segment, is_broken: bool
    ) -> int:
        """Judge a look's requests where every one is known; return how many of the candidate's failed."""
        look: Mapping[str, float] = {}
        if not is_broken:
            judging.add(self._elapsed, segment.elapsed, {**found, "cells": self._requests.cells})
            look = judging.look
        old = str(self.control)
        self._old_breaker.add(self._elapsed, segment.count(old, "requests"), round(look.get(old, 0.0)))
        return round(look.get(self.candidate, 0.0))

    def _weigh(self, segment: Segment, requests: int) -> None:
        self._unweighed += requests if segment.seconds else 0
        is_weighed = self._comparing.add(segment)
        if self._by_limits:
            is_weighed = self._by_limits.add(segment)
        if is_weighed:
            self._evidence += self._unweighed
            self._unweighed = 0

    def _settle_threshold(self, sample: Mapping[str, Any]) -> None:
        """Freeze from when a request is slow, once the warm-up is over and the baseline says it."""
        known = self.baseline.threshold_seconds if self.baseline else None
        seconds: float | None = known or self.limits.slow_seconds
        if self.control is not None and known is None:
            self._threshold.learn(self._deltas.histograms(sample, self.control))
            seconds = self._threshold.seconds
        if seconds is not None and self._elapsed >= self.limits.warmup_seconds:
            self._deltas.begin_timing(seconds, sample)

    def _note_instances(self, sample: Mapping[str, Any]) -> None:
        instances = sample.get("instances")
        for name, instance in instances.items() if isinstance(instances, dict) else ():
            if self._deltas.arm_of(name) == self.candidate and isinstance(instance, dict):
                self._memory.add(name, instance)
                found = instance.get("retried")
                self._retried.setdefault(name, {"first": found})["last"] = found

    def _judge(self) -> Judgement:
        judging = self._by_request if self._has_requests else None
        found = self._tripwires() + self._compared() + self._sufficiency()
        findings = tuple(found)
        if self._signals.observed or self.limits.observe:
            findings = tuple(observe(one) if self._is_observed(one.name) else one for one in found)
        verdict = self._verdict(combine(finding.verdict for finding in findings))
        return Judgement(
            verdict=verdict,
            findings=findings,
            elapsed_seconds=self._elapsed,
            watched_seconds=self._watched,
            requests=self._totals[self.candidate, "requests"],
            errors=self._totals[self.candidate, "errors"],
            broken_segments=self._broken_segments,
            broken=tuple(self._broken),
            baseline=self._baseline(),
            failing=self._requests.failing() if verdict in (Verdict.FAILED, Verdict.HELD) else "",
            proofs=judging.known_proofs if judging else (),
            per_second=judging.per_second if judging else 0.0,
        )

    def _is_observed(self, name: str) -> bool:
        return name in self._signals.observed or self.limits.is_observed(name)

    def _verdict(self, so_far: Verdict) -> Verdict | None:
        if self._is_paused and so_far not in (Verdict.FAILED, Verdict.HELD):
            return None
        if so_far is not Verdict.UNKNOWN:
            return so_far
        hopeless = bool(self._lost) and self._counted >= self.limits.seconds
        return Verdict.UNKNOWN if hopeless or self._counted >= self.limits.max_seconds else None

    @property
    def _counted(self) -> float:
        """The window's own time: what went by while it was paused is none of it."""
        return self._elapsed - self._stood_still

    def _tripwires(self) -> list[Finding]:
        deadlocks = self._totals[self.candidate, "deadlocks"]
        return [
            compare("deadlocks", deadlocks, "<=", self.limits.deadlocks, "See the instances' logs."),
            compare(
                "dead_instances", self._dead, "<=", self.limits.dead_instances, "The balancer saw them down."
            ),
            compare("restarts", len(self._restarted), "<=", self.limits.restarts, self._who_restarted()),
            self._burning(),
            self._memory.finding(),
            *self._bodies.findings(),
            *self._leaks.findings(),
            *self._signals.findings(),
            *self._database.findings(self._is_candidates if self._is_by_request else None),
            *self._shared_deadlocks(),
        ]

    @property
    def _is_by_request(self) -> bool:
        """Whether the balancer's requests are judged, and what is everybody's trouble only holds."""
        return self.limits.by_request and self._has_requests

    def _is_candidates(self, session: str) -> bool:
        return self._deltas.arm_of(session.removeprefix(SESSION_PREFIX)) == self.candidate

    def _shared_deadlocks(self) -> list[Finding]:
        """The old slot's deadlocks may be with the new one's transactions, whoever was the victim."""
        if not self._is_by_request or self.control is None:
            return []
        count = self._totals[self.control, "deadlocks"]
        hint = "Its victims were the old slot's; who else locks these rows?"
        return [held(compare("old_slot_deadlocks", count, "<=", self.limits.deadlocks, hint))]

    def _burning(self) -> Finding:
        """What burns in both slots, or beside too few requests of the old one, may not be the candidate's."""
        found = self._breaker.finding(self.candidate)
        old, new = self._old_breaker, self._breaker
        cannot_tell = at_most(old.errors, old.requests * new.ratio) > TELLS_BY_CHANCE
        both = cannot_tell or old.ratio > BURNS_TOO * new.ratio
        return held(found) if self._by_request and self._has_requests and both else found

    def _who_restarted(self) -> str:
        times = Counter(self._restarted).most_common()
        return (
            f"Started anew: {', '.join(f'{name} {n} times' for name, n in times)}; see the instances' logs."
        )

    def _compared(self) -> list[Finding]:
        threshold = self._deltas.threshold_seconds or 0
        details = {"slow": f" over {1000 * threshold:.3g} ms", "retries": self._states()}
        judging, comparing = self._by_request, self._comparing
        by_limits = self._by_limits.findings(self._totals, details) if self._by_limits else []
        on_hold = [held(finding) for finding in by_limits]
        counted = comparing.findings(self._totals, details)
        if judging is None or not self._has_requests:
            return [*counted, *on_hold]
        # Whoever stalls the database has one slot try again a moment before the other one does.
        retries = [held(finding) for finding in counted if finding.name.startswith("retries")]
        return [*retries, *judging.findings(self._counted >= self.limits.seconds), *on_hold]

    def _sufficiency(self) -> list[Finding]:
        why = f" Not counted: {'; '.join(self._broken)}." if self._broken else ""
        traffic = "Send more traffic or give the window more time." + why
        found = [
            require("requests", self._evidence, ">=", self.limits.min_requests, traffic),
            require("watched_seconds", round(self._watched, 3), ">=", self.limits.seconds, why.strip()),
            require("lost_counters", len(self._lost), "==", 0, "; ".join(self._lost[:REASONS_KEPT])),
        ]
        beside = isinstance(self._comparing, BesideControl) and not self._is_last
        known = f" {self._learning()}" if beside and not self._deltas.threshold_seconds else ""
        timed = (self._by_limits or self._comparing).timed
        if self._by_request and self._has_requests:
            timed, known = self._by_request.timed, ""
        found.append(require("timed_requests", timed, ">=", 1, traffic + known))
        if beside:
            return found
        # Too many errors for a pass that are too few for a proof: inconclusive, so watch on.
        requests, errors = (self._totals[self.candidate, name] for name in ("requests", "errors"))
        hint = f"{errors} of {requests} requests failed."
        ratio = errors / requests if requests else None
        return [*found, require("error_ratio", ratio, "<=", self.limits.max_error_ratio, hint)]

    def _learning(self) -> str:
        return f"{self._threshold.requests} of {self.limits.baseline_requests} requests tell the old p95."

    def _states(self) -> str:
        states: Counter[str] = Counter()
        for kept in self._retried.values():
            first, last = kept["first"], kept["last"]
            if isinstance(first, Mapping) and isinstance(last, Mapping):
                numbers = {s: n for s, n in last.items() if isinstance(s, str) and isinstance(n, int)}
                states.update({s: n - b for s, n in numbers.items() if isinstance(b := first.get(s, 0), int)})
        named = ", ".join(f"{state} {count}" for state, count in states.most_common() if count > 0)
        return f" ({named})" if named else ""

    def _baseline(self) -> Baseline | None:
        if self.control is None:
            return self.baseline
        counts = {name: self._totals[self.control, name] for name in COUNTS}
        return Baseline(self._deltas.threshold_seconds, **counts)


def at_most(events: int, expected: float) -> float:
    """The chance of at most so many events where so many are expected (Poisson's)."""
    if events >= expected:
        return 1.0
    log = math.log(expected)
    return sum(math.exp(n * log - expected - math.lgamma(n + 1)) for n in range(events + 1))


def judge(
    limits: WindowLimits,
    samples: Iterable[Mapping[str, Any]],
    candidate: str,
    control: str | None = None,
    baseline: Baseline | None = None,
    share: int = 0,
) -> Judgement:
    """Judge a window from its samples; the same samples always give the same judgement."""
    return WindowJudge(limits, candidate, control, baseline, share).add_all(samples)
