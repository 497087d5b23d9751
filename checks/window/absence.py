"""What a window proves is absent: confidence sequences, valid at whatever moment it ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from checks.base.bounds import first

# The chance that what a pass says is wrong.
DOUBT = 0.05
# So few requests as a small holdback has prove no less of what visitors may ask for.
LEAST_UNWANTED = 0.03
# With fewer requests of a route in an arm nothing is said of it.
FEWEST_OF_ROUTE = 50


@dataclass(frozen=True)
class Tolerable:
    """What a site tolerates: more errors and slow answers by requests, missing answers."""

    errors: float = 0.003
    slow: float = 0.03
    missing: float = 0.25

    @property
    def unwanted(self) -> float:
        """Answers that nobody wants but that visitors may ask for, such as 404s, vary more than errors."""
        return max(2 * self.errors + 0.01, LEAST_UNWANTED)


@dataclass(frozen=True)
class Proof:
    """How far one kind of harm can at most reach, and how far a site tolerates it; both ratios.

    ``needs`` more requests of the candidate would prove it, if they were as those before; None where no
    number would.
    """

    name: str
    at_most: float
    tolerable: float
    needs: int | None
    beside: str = "the old slot"

    @property
    def holds(self) -> bool:
        return self.at_most <= self.tolerable

    def needed(self, per_second: float) -> str:
        """Say how many more requests prove it, and when they are there."""
        if self.holds:
            return ""
        if self.needs is None:
            return "more requests like those before would not prove less"
        wait = f", {duration(self.needs / per_second / 60)} at this rate" if per_second else ""
        return f"needs about {self.needs} more requests{wait}"


def worst(proofs: Sequence[Proof]) -> Proof:
    """The proof that is farthest from holding."""
    return max(proofs, key=lambda proof: (not proof.holds, proof.at_most / proof.tolerable))


def points(ratio: float) -> str:
    """A ratio in percent, or in percentage points, in few characters."""
    return f"{100 * ratio:.2g}" if ratio < 0.0995 else f"{100 * ratio:.0f}"


def duration(minutes: float) -> str:
    """So many minutes in few characters."""
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    if minutes < 100:
        return f"{minutes:.2g} min"
    return f"{minutes / 60:.2g} h" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"


def upper(events: float, trials: float, wanted: float) -> float:
    """The largest ratio that so many events of so many trials leave open, at any time they are looked at.

    The mixture of likelihoods over a Beta(a, b) prior, over the likelihood of p, is a test martingale; p is
    left out once it reaches 1/DOUBT (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon 2021, beta-binomial
    mixture). The prior's mean lies at ``wanted`` / 4, where it is sharpest for what is to be proven.
    """
    if trials <= 0 or events >= trials:
        return 1.0
    a = 0.5
    b = a * max(4 / max(wanted, 1e-6) - 1, 1.0)
    mixture = _log_beta(events + a, trials - events + b) - _log_beta(a, b) - math.log(1 / DOUBT)

    def is_out(p: float) -> bool:
        return p >= 1 or mixture >= events * math.log(p) + (trials - events) * math.log1p(-p)

    return first(is_out, max(events / trials, 1e-12), 1.0)


def difference(
    name: str, candidate: tuple[float, float], control: tuple[float, float], tolerable: float
) -> Proof:
    """Bound how far the candidate's ratio lies above the control's, each given as (events, trials).

    The bounds of both are put together as Zou and Donner (2008) do: each counts by how far it is from its own
    ratio, so that two bounds do not add up to twice the doubt.
    """
    (k_t, n_t), (k_c, n_c) = candidate, control
    if n_t <= 0 or n_c <= 0:
        return Proof(name, 1.0, tolerable, math.ceil(3 / tolerable))
    new, old = min(k_t / n_t, 1.0), min(k_c / n_c, 1.0)
    above = upper(k_t, n_t, old + tolerable) - new
    below = old - (1 - upper(n_c - k_c, n_c, 1 - old)) if k_c else 0.0
    at_most = min(max(new - old + math.hypot(above, below), 0.0), 1.0)
    if at_most <= tolerable:
        return Proof(name, at_most, tolerable, 0)
    needs = _more(k_t, n_t, old + tolerable)
    return Proof(name, at_most, tolerable, needs if needs is None else max(needs, 1))


def _more(events: float, trials: float, allowed: float) -> int | None:
    """How many more trials with the same ratio of events would bound it by ``allowed``."""
    ratio = events / trials if trials else 0.0
    if ratio >= 0.9 * allowed:
        return None
    total = max(trials, 1.0)
    while upper(ratio * total, total, allowed) > allowed:
        total *= 1.25
        if total > 1e9:
            return None
    return math.ceil(total - trials)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
