"""Judge a window: numbers in, verdict out. Reads no clock, no network and no file but a kept one.

A window fails at any sample, passes only at its end and only on enough evidence, and is unknown when
``max_seconds`` have gone by without enough. What could not be seen is never taken for zero: its time does
not count as watched, and a window whose candidate started anew in it cannot pass, since what the process
had counted is gone.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.deltas import Deltas, Segment
from checks.eprocess import SLOW_HARM, AgainstControl, AgainstRatio
from checks.limits import WindowLimits
from checks.report import Finding, Verdict, combine, compare

# How alpha is split over what is compared with the control arm; half of it to errors.
ALPHA_SHARE: Mapping[str, float] = {"errors": 0.5, "busy": 0.25, "slow": 0.25}
# What each of these events is counted out of.
TRIALS: Mapping[str, str] = {"errors": "requests", "busy": "requests", "slow": "handled"}
REASONS_KEPT = 5

__all__ = ["Judgement", "Window", "WindowLimits", "judge"]


@dataclass(frozen=True)
class Judgement:
    """Where a window stands. ``verdict`` is None while it is open; the findings say why in either case.

    ``broken`` names the last reasons why time did not count as watched.
    """

    verdict: Verdict | None
    findings: tuple[Finding, ...]
    elapsed_seconds: float = 0.0
    watched_seconds: float = 0.0
    requests: int = 0
    errors: int = 0
    broken_segments: int = 0
    broken: tuple[str, ...] = ()


@dataclass
class Window:
    """A window being watched: ``add`` samples as they come; the first verdict stays.

    A sample is ``{"at": unix seconds, "servers": {name: {"slot", "requests", "errors", "up"}},
    "instances": {name: {"started", "deadlocks", "busy"}}}``, counters cumulative, an instance left out when
    it could not be scraped. ``slow`` and ``handled`` (requests over the baseline's p95, of all) are optional.
    """

    limits: WindowLimits
    candidate: str
    control: str | None = None
    judgement: Judgement = field(default=Judgement(None, ()), init=False)

    def __post_init__(self) -> None:
        if self.candidate == self.control:
            raise ValueError(f"candidate and control are both {self.candidate}; they must be two slots.")
        self._deltas = Deltas(self.candidate, self.control, self.limits.scrape_gap_seconds)
        self._against_control = {
            name: AgainstControl(SLOW_HARM) if name == "slow" else AgainstControl() for name in ALPHA_SHARE
        }
        self._measured = {"errors"}
        self._against_slo = AgainstRatio(self.limits.max_error_ratio)
        self._totals = dict.fromkeys(
            ("requests", "errors", "deadlocks", "control_requests", "control_errors"), 0
        )
        self._evidence = self._unweighed = self._dead = self._samples = self._broken_segments = 0
        self._elapsed = self._watched = 0.0
        self._broken: deque[str] = deque(maxlen=REASONS_KEPT)
        self._lost: list[str] = []
        self._recent: deque[tuple[float, int, int]] = deque()

    def add(self, sample: Mapping[str, Any]) -> Judgement:
        """Take one sample in and say where the window stands now."""
        if self.judgement.verdict is None:
            self._take(self._deltas.add(sample if isinstance(sample, Mapping) else {}))
            self.judgement = self._judge()
        return self.judgement

    def _take(self, segment: Segment) -> None:
        self._elapsed += segment.elapsed
        self._watched += segment.seconds
        self._dead = max(self._dead, len(segment.dead))
        self._lost += segment.lost
        if segment.broken and self._samples:
            self._broken_segments += 1
            self._broken.extend(segment.broken)
        self._samples += 1
        for name in ("requests", "errors", "deadlocks"):
            self._totals[name] += segment.count(self.candidate, name)
        for name in ("requests", "errors"):
            self._totals[f"control_{name}"] += segment.count(self.control or "", name)
        self._remember_recent(segment)
        self._weigh(segment)

    def _remember_recent(self, segment: Segment) -> None:
        requests, errors = (segment.count(self.candidate, name) for name in ("requests", "errors"))
        self._recent.append((self._elapsed, requests, errors))
        while self._recent[0][0] < self._elapsed - self.limits.breaker_seconds:
            self._recent.popleft()

    def _weigh(self, segment: Segment) -> None:
        requests = segment.count(self.candidate, "requests")
        self._unweighed += requests if segment.seconds else 0
        if self.control is None:
            self._against_slo.add(requests, segment.count(self.candidate, "errors"))
            weighed = True
        else:
            weighed = self._weigh_against(self.control, segment)
        if weighed:
            self._evidence += self._unweighed
            self._unweighed = 0

    def _weigh_against(self, control: str, segment: Segment) -> bool:
        weighed = False
        for name, test in self._against_control.items():
            arms = (self.candidate, control)
            # Who has errors and requests is the balancer's word; the rest is only comparable where the
            # instances of both arms were scraped, for an unseen arm would look free of events.
            if name != "errors":
                if not segment.seconds or not all((arm, name) in segment.counts for arm in arms):
                    continue
                self._measured.add(name)
            counts = [segment.count(arm, counter) for arm in arms for counter in (TRIALS[name], name)]
            weighed |= test.add(*counts) and name == "errors"
        return weighed

    def _judge(self) -> Judgement:
        findings = tuple(self._tripwires() + self._comparisons() + self._sufficiency())
        return Judgement(
            verdict=self._verdict(combine(finding.verdict for finding in findings)),
            findings=findings,
            elapsed_seconds=self._elapsed,
            watched_seconds=self._watched,
            requests=self._totals["requests"],
            errors=self._totals["errors"],
            broken_segments=self._broken_segments,
            broken=tuple(self._broken),
        )

    def _verdict(self, so_far: Verdict) -> Verdict | None:
        if so_far is not Verdict.UNKNOWN:
            return so_far
        hopeless = bool(self._lost) and self._elapsed >= self.limits.seconds
        return Verdict.UNKNOWN if hopeless or self._elapsed >= self.limits.max_seconds else None

    def _tripwires(self) -> list[Finding]:
        limits = self.limits
        requests = sum(n for _, n, _ in self._recent)
        errors = sum(k for _, _, k in self._recent)
        burning = errors if errors > limits.burning_ratio * max(requests, errors) else 0
        where = f"{self.candidate}: {errors} of {requests} requests failed in {limits.breaker_seconds:g} s."
        return [
            compare(
                "deadlocks", self._totals["deadlocks"], "<=", limits.deadlocks, "See the instances' logs."
            ),
            compare("dead_instances", self._dead, "<=", limits.dead_instances, "The balancer saw them down."),
            compare("burning_errors", burning, "<", limits.breaker_errors, where),
        ]

    def _comparisons(self) -> list[Finding]:
        hint = self._counted()
        if self.control is None:
            found = [_evidence("errors_against_slo_ln_e", self._against_slo.log_e, self.limits.alpha, hint)]
            return [*found, self._ratio(hint)]
        return [
            _evidence(f"{name}_against_control_ln_e", test.log_e, self.limits.alpha * ALPHA_SHARE[name], hint)
            for name, test in self._against_control.items()
            if name in self._measured
        ]

    def _ratio(self, hint: str) -> Finding:
        """Too many errors for a pass that are too few for a proof: inconclusive, so watch on."""
        requests = self._totals["requests"]
        ratio = self._totals["errors"] / requests if requests else None
        return _enough("error_ratio", ratio, "<=", self.limits.max_error_ratio, hint)

    def _sufficiency(self) -> list[Finding]:
        why = f" Not counted: {'; '.join(self._broken)}." if self._broken else ""
        traffic = "Send more traffic or give the window more time." + why
        return [
            _enough("requests", self._evidence, ">=", self.limits.min_requests, traffic),
            _enough("watched_seconds", round(self._watched, 3), ">=", self.limits.seconds, why.strip()),
            _enough("lost_counters", len(self._lost), "==", 0, "; ".join(self._lost[:REASONS_KEPT])),
        ]

    def _counted(self) -> str:
        t = self._totals
        counted = f"{self.candidate}: {t['errors']} errors in {t['requests']} requests"
        if self.control is None:
            return counted
        return f"{counted}; {self.control}: {t['control_errors']} in {t['control_requests']}"


def judge(
    limits: WindowLimits, samples: Iterable[Mapping[str, Any]], candidate: str, control: str | None = None
) -> Judgement:
    """Judge a window from its samples; the same samples always give the same judgement."""
    window = Window(limits, candidate, control)
    for sample in samples:
        if window.add(sample).verdict is not None:
            break
    return window.judgement


def _evidence(name: str, log_e: float, alpha: float, hint: str) -> Finding:
    return compare(name, log_e, "<", round(math.log(1 / alpha), 6), hint)


def _enough(name: str, measured: float | None, operator: str, limit: float, hint: str) -> Finding:
    """A condition for passing: where it does not hold yet, the window is unknown, not failed."""
    finding = compare(name, measured, operator, limit, hint)
    verdict = Verdict.PASSED if finding.verdict is Verdict.PASSED else Verdict.UNKNOWN
    return Finding(name, finding.measured, operator, limit, verdict, hint)
