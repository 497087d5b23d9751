"""What a number of clean requests proves, and what it does not."""

import math

CONFIDENCE = 0.95


def upper_bound(failed: int, requests: int, confidence: float = CONFIDENCE) -> float:
    """The failure ratio that so many failures still allow (Clopper and Pearson, one-sided).

    With none failed it is 1 - (1 - confidence)^(1/requests), about 3/requests at 95 %.
    """
    if requests <= 0 or failed >= requests:
        return 1.0
    low, high = failed / requests, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(failed, requests, middle) > 1 - confidence else (low, middle)
    return high


def in_words(failed: int, requests: int) -> str:
    """Say it for a report."""
    bound = upper_bound(failed, requests)
    return (
        f"{failed} of {requests} failed, so at most {bound:.2%} of such requests do ({CONFIDENCE:.0%} sure)"
    )


def _at_most(failed: int, requests: int, ratio: float) -> float:
    """The chance of at most so many failures, from the binomial distribution."""
    if ratio >= 1:
        return 0.0
    whole = math.lgamma(requests + 1)
    return math.fsum(
        math.exp(
            whole
            - math.lgamma(k + 1)
            - math.lgamma(requests - k + 1)
            + k * math.log(ratio)
            + (requests - k) * math.log1p(-ratio)
        )
        if ratio > 0
        else float(k == 0)
        for k in range(failed + 1)
    )
