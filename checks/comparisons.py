"""What is compared in a window: errors, busy and slow answers, retries; each with its part of alpha."""

from collections.abc import Mapping

from checks.baseline import Baseline
from checks.deltas import Segment
from checks.eprocess import SLOW_HARM, AgainstControl, AgainstRatio
from checks.limits import WindowLimits
from checks.power import upper_bound
from checks.report import Finding, compare

# What each of these events is counted out of.
TRIALS: Mapping[str, str] = {
    "errors": "requests",
    "busy": "requests",
    "slow": "handled",
    "retries": "requests",
}


class BesideControl:
    """Candidate and control at the same time; what happens to both alike cancels out."""

    def __init__(self, limits: WindowLimits, candidate: str, control: str) -> None:
        self.limits, self.arms = limits, (candidate, control)
        self.tests = {
            name: AgainstControl(SLOW_HARM) if name == "slow" else AgainstControl() for name in TRIALS
        }
        self.measured = {"errors"}
        self.timed = 0
        self._untimed = 0

    def add(self, segment: Segment) -> bool:
        """Weigh a segment; tell whether its errors were, together with those that had to wait."""
        weighed = False
        for name, test in self.tests.items():
            # Who has errors and requests is the balancer's word; the rest is only comparable where the
            # instances of both arms were scraped, for an unseen arm would look free of events.
            if name != "errors":
                if not segment.seconds or not all((arm, name) in segment.counts for arm in self.arms):
                    continue
                self.measured.add(name)
            counts = [segment.count(arm, counter) for arm in self.arms for counter in (TRIALS[name], name)]
            done = test.add(*counts)
            weighed |= done and name == "errors"
            if name == "slow":
                self._note_timed(counts[0], done)
        return weighed

    def _note_timed(self, handled: int, weighed: bool) -> None:
        self._untimed += handled
        if weighed:
            self.timed += self._untimed
            self._untimed = 0

    def findings(self, hints: Mapping[str, str]) -> list[Finding]:
        return [
            compare(
                f"{name}_against_control_ln_e",
                test.log_e,
                "<",
                self.limits.evidence_of(name),
                hints.get(name, hints["errors"]),
            )
            for name, test in self.tests.items()
            if name in self.measured
        ]


class Alone:
    """The candidate by itself: errors against the SLO, slow answers against what the steps had shown.

    An old slot that broke the SLO itself is no reason to go back to it: then its own upper bound is what
    errors are held against. That the SLO is kept is asked for a pass all the same.
    """

    def __init__(self, limits: WindowLimits, candidate: str, baseline: Baseline | None) -> None:
        self.limits, self.candidate = limits, candidate
        known = baseline or Baseline()
        self.allowed_errors = limits.max_error_ratio
        if known.requests and known.errors / known.requests > limits.max_error_ratio:
            self.allowed_errors = min(upper_bound(known.errors, known.requests), 0.99)
        self.errors = AgainstRatio(self.allowed_errors)
        self.slow: AgainstRatio | None = None
        if known.threshold_seconds is not None and known.handled:
            shown = min(upper_bound(known.slow, known.handled), 0.99)
            self.slow = AgainstRatio(max(shown, limits.max_slow_ratio), SLOW_HARM)
        self.timed = 0

    def add(self, segment: Segment) -> bool:
        """Weigh a segment; there is nobody to wait for."""
        self.errors.add(segment.count(self.candidate, "requests"), segment.count(self.candidate, "errors"))
        if self.slow is not None and segment.seconds:
            handled = segment.count(self.candidate, "handled")
            self.slow.add(handled, segment.count(self.candidate, "slow"))
            self.timed += handled
        return True

    def findings(self, hints: Mapping[str, str]) -> list[Finding]:
        against = "slo" if self.allowed_errors == self.limits.max_error_ratio else "baseline"
        found = [self._finding("errors", against, self.errors, hints["errors"])]
        if self.slow is not None:
            found.append(self._finding("slow", "baseline", self.slow, hints["slow"]))
        return found

    def _finding(self, name: str, against: str, test: AgainstRatio, hint: str) -> Finding:
        said = f"{hint} (at most {test.allowed:.2%} allowed)."
        return compare(f"{name}_against_{against}_ln_e", test.log_e, "<", self.limits.evidence_of(name), said)
