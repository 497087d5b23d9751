"""Say before a window opens what it can see at this traffic, and how soon."""

import math
from dataclasses import dataclass

from checks.base.bounds import first
from checks.window import exposure
from checks.window.absence import duration
from checks.window.eprocess import HARM, log_mean
from checks.window.limits import WindowLimits

# What is declared: this ratio of errors rising to that one.
HEALTHY, HARMED = 0.001, 0.01
# Rises that a short window may still see, when that one is beyond it.
WORSE = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
FOREVER_MINUTES = 60 * 24 * 365.0


@dataclass(frozen=True)
class Rates:
    """Requests per minute of the candidate, and of the control if there is one."""

    candidate: float
    control: float | None = None


def minutes_to_find(limits: WindowLimits, rates: Rates, before: float, after: float) -> float:
    """About how many minutes pass until errors that rose from one ratio to another fail the window.

    The time at which the evidence E, grown as it is expected to grow, reaches 1/alpha. Evidence comes in
    steps of whole errors, so about half of all windows take longer. Infinite if E does not grow.
    """
    growth = _growth(rates, before, after)
    needed = limits.evidence_of("errors")
    if max(growth) <= 0:
        return math.inf
    found = first(lambda minutes: log_mean([g * minutes for g in growth]) >= needed, 0.0, FOREVER_MINUTES)
    return found if found < 0.99 * FOREVER_MINUTES else math.inf


def _growth(rates: Rates, before: float, after: float) -> list[float]:
    """How much ln of each bet grows in a minute, by expectation; the bets are those of ``eprocess``."""
    if rates.control is None:
        allowed, failed = before, rates.candidate * after
        fine = rates.candidate - failed
        worse = [min(r * allowed, (1 + allowed) / 2) for r in HARM]
        return [failed * math.log(w / allowed) + fine * math.log((1 - w) / (1 - allowed)) for w in worse]
    candidate, control = rates.candidate, rates.control
    if not (candidate > 0 and control > 0):
        return [0.0]
    share = candidate / (candidate + control)
    thetas = [r * candidate / (r * candidate + control) for r in HARM]
    return [
        candidate * after * math.log(t / share) + control * before * math.log((1 - t) / (1 - share))
        for t in thetas
    ]


def claim(limits: WindowLimits, per_minute: float | None, share: int, has_control: bool) -> str:
    """Say in one sentence what a window of this traffic and share can see."""
    if not per_minute or per_minute <= 0:
        return "without traffic it can see nothing, and ends unknown"
    if limits.by_request and has_control:
        return exposure.claim(limits, per_minute, share)
    candidate = per_minute * share / 100
    rates = Rates(candidate, per_minute - candidate if has_control else None)
    before, after = (
        (HEALTHY, HARMED) if has_control else (limits.max_error_ratio, min(2 * limits.max_error_ratio, 1.0))
    )
    minutes, most = minutes_to_find(limits, rates, before, after), limits.max_seconds / 60
    length = limits.seconds / 60
    rate = f"{candidate:.0f}" if candidate >= 10 else f"{candidate:.2g}"
    said = f"at {rate} requests a minute errors of {_percent(before)} → {_percent(after)} "
    if minutes <= length:
        return f"{said}are found in about {duration(minutes)}"
    said += f"would take {duration(minutes)}" if minutes <= most else "are beyond this window"
    for worse in (ratio for ratio in WORSE if ratio > after):
        found = minutes_to_find(limits, rates, before, worse)
        if found <= length:
            return f"{said}; it can see {_percent(before)} → {_percent(worse)}, in about {duration(found)}"
    return f"{said}; it can see a release that fails altogether, a deadlock and a dead instance"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:g} %"
