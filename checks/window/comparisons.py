"""What is compared in a window: errors, busy and slow answers, retries; each with its part of alpha."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from checks.base.bounds import upper_bound
from checks.base.report import Finding, compare
from checks.window.baseline import Baseline
from checks.window.eprocess import HARM, SLOW_HARM, AgainstControl, AgainstRatio
from checks.window.limits import WindowLimits
from checks.window.segments import Segment

# What each of these events is counted out of.
TRIALS: Mapping[str, str] = {
    "errors": "requests",
    "busy": "requests",
    "slow": "handled",
    "retries": "requests",
}
HINTS = {
    "errors": "What failed is in the new slot's log: ./p12 evidence",
    "busy": "What the 503s waited for is in the new slot's log: ./p12 evidence",
    "slow": "What takes its time is in the new slot's log: ./p12 evidence",
    "retries": "What collides is in the logs of the new slot and of Postgres: ./p12 evidence",
}
Counts = Counter[tuple[str, str]]


class BesideControl:
    """Candidate and control at the same time; what happens to both alike cancels out."""

    def __init__(self, limits: WindowLimits, candidate: str, control: str) -> None:
        self.limits, self.arms = limits, (candidate, control)
        self.tests = {name: AgainstControl(_harm(name)) for name in TRIALS}
        self.measured = {"errors"}
        self.timed = 0
        self._waiting: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in TRIALS}
        self._untimed = 0

    def add(self, segment: Segment) -> bool:
        """Weigh a segment; tell whether its errors were, together with those that had to wait."""
        weighed = False
        for name, test in self.tests.items():
            counts = self._comparable(name, segment)
            if not counts:
                continue
            self.measured.add(name)
            done = test.add(*counts)
            weighed |= done and name == "errors"
            if name == "slow":
                self._untimed += counts[0]
                if done:
                    self.timed, self._untimed = self.timed + self._untimed, 0
        return weighed

    def _comparable(self, name: str, segment: Segment) -> list[int]:
        """Return both arms' counts since they were last weighed; none while one of them is unseen.

        Who has errors and requests is the balancer's word. The rest waits until the instances of both arms
        were scraped, for an unseen arm would look free of events, and is given up where a process that
        began anew took a part of it along.
        """
        wanted = [(arm, counter) for arm in self.arms for counter in (TRIALS[name], name)]
        waiting = self._waiting[name]
        waiting.update({key: segment.counts.get(key, 0) for key in wanted})
        if name != "errors":
            if segment.is_torn:
                waiting.clear()
            if not segment.seconds or not all((arm, name) in segment.counts for arm in self.arms):
                return []
        counts = [waiting[key] for key in wanted]
        waiting.clear()
        return counts

    def findings(
        self, totals: Counts, details: Mapping[str, str], names: Iterable[str] = TRIALS
    ) -> list[Finding]:
        """What the evidence came to; ``totals`` are both arms' counts, ``details`` what they are of."""
        found = []
        for name in names:
            test = self.tests[name]
            (new, trials), (old, old_trials) = ((totals[a, name], totals[a, TRIALS[name]]) for a in self.arms)
            counted = f"new {new} of {trials}, old {old} of {old_trials}{details.get(name, '')}"
            if name in self.measured:
                found.append(_evidence(f"{name}_against_control_ln_e", test.log_e, self.limits, counted))
        return found


class Alone:
    """The candidate by itself: errors against the SLO, the rest against what the steps had shown.

    An old slot that broke the SLO itself is no reason to go back to it: then its own upper bound is what
    errors are held against. That the SLO is kept is asked for a pass all the same. Of the rest, what the
    site allows is allowed, however good the old slot was, and all there is where no old slot was beside it.
    """

    def __init__(self, limits: WindowLimits, candidate: str, baseline: Baseline | None) -> None:
        self.limits, self.candidate = limits, candidate
        known = baseline or Baseline()
        allowed = {
            "errors": limits.max_error_ratio,
            "busy": max(_shown(known.busy, known.requests), limits.max_busy_ratio),
            "slow": max(_shown(known.slow, known.handled), limits.max_slow_ratio),
            "retries": max(_shown(known.retries, known.requests), limits.max_retry_ratio),
        }
        self.against = dict.fromkeys(TRIALS, "limit" if baseline is None else "baseline") | {"errors": "slo"}
        if known.requests and known.errors / known.requests > limits.max_error_ratio:
            allowed["errors"] = _shown(known.errors, known.requests)
            self.against["errors"] = "baseline"
        self.tests = {name: AgainstRatio(ratio, _harm(name)) for name, ratio in allowed.items()}
        self.timed = 0

    def add(self, segment: Segment) -> bool:
        """Weigh a segment; there is nobody to wait for."""
        for name, test in self.tests.items():
            test.add(segment.count(self.candidate, TRIALS[name]), segment.count(self.candidate, name))
        self.timed += segment.count(self.candidate, "handled")
        return True

    def findings(self, totals: Counts, details: Mapping[str, str]) -> list[Finding]:
        """What the evidence came to; ``totals`` are the candidate's counts, ``details`` what they are of."""
        found = []
        for name, test in self.tests.items():
            counted, trials = (totals[self.candidate, of] for of in (name, TRIALS[name]))
            said = f"{counted} of {trials}{details.get(name, '')}, {test.allowed:.2%} allowed"
            kind = self.against[name]
            found.append(_evidence(f"{name}_against_{kind}_ln_e", test.log_e, self.limits, said))
        return found


def _evidence(name: str, log_e: float, limits: WindowLimits, counted: str) -> Finding:
    what = name.partition("_")[0]
    limit = limits.evidence_of(what)
    sentence = f"{what}: {counted}; evidence {log_e:.3g}, fails at {limit:.3g}"
    return compare(name, log_e, "<", limit, HINTS[what], sentence)


def _harm(name: str) -> Sequence[float]:
    return SLOW_HARM if name == "slow" else HARM


def _shown(events: int, trials: int) -> float:
    """The ratio that a baseline still allows; nothing where there was none."""
    return min(upper_bound(events, trials), 0.99) if trials else 0.0
