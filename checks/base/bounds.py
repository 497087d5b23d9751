"""What a number of clean requests proves, and what it does not."""

import math
from collections.abc import Callable

CONFIDENCE = 0.95
# What is looked for between two numbers is found to within this part of it.
CLOSE = 1e-12


def upper_bound(failed: int, requests: int, confidence: float = CONFIDENCE) -> float:
    """The failure ratio that so many failures still allow (Clopper and Pearson, one-sided).

    With none failed it is 1 - (1 - confidence)^(1/requests), about 3/requests at 95 %.
    """
    if requests <= 0 or failed >= requests:
        return 1.0
    return first(lambda p: _at_most(failed, requests, p) <= 1 - confidence, failed / requests, 1.0)


def first(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest number between two from which on something holds; ``high`` if it holds nowhere below."""
    while high - low > CLOSE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def clean_requests(ratio: float, confidence: float = CONFIDENCE) -> int:
    """How many requests without a failure show that fewer than ``ratio`` (0 to 1) of such requests fail."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-ratio)) if 0 < ratio < 1 else 1


def in_words(failed: int, requests: int, wanted: float) -> str:
    """Say for a report what so many requests can show, did show, and how many would show ``wanted``."""
    sure = f"({CONFIDENCE:.0%} sure)"
    return (
        f"{requests} requests can only show < {_percent(upper_bound(0, requests))} errors {sure};"
        f" {failed} failed, so at most {_percent(upper_bound(failed, requests))} of such requests do;"
        f" {clean_requests(wanted)} clean ones would show < {_percent(wanted)}"
    )


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.2g} %"


def _at_most(failed: int, requests: int, ratio: float) -> float:
    """The chance of at most so many failures, from the binomial distribution.

    Summed downwards from ``failed``, until what is left no longer tells: the ratio that is asked about lies
    above failed/requests, so each chance is smaller than the one before.
    """
    if not 0 < ratio < 1:
        return float(ratio <= 0)
    chance = math.exp(
        math.lgamma(requests + 1)
        - math.lgamma(failed + 1)
        - math.lgamma(requests - failed + 1)
        + failed * math.log(ratio)
        + (requests - failed) * math.log1p(-ratio)
    )
    total, odds = chance, (1 - ratio) / ratio
    for k in range(failed, 0, -1):
        chance *= k / (requests - k + 1) * odds
        total += chance
        if chance < total * 1e-17:
            break
    return total
