"""Latencies in few numbers are nearly what they were."""

import random
from collections import Counter

from checks.visitors import histogram


def test_percentiles_are_at_most_five_percent_too_high() -> None:
    chance = random.Random(3)
    taken = sorted(chance.lognormvariate(3, 1) for _ in range(5000))
    buckets = Counter(map(histogram.bucket_of, taken))

    for share in (0.5, 0.95, 0.99):
        exact = taken[int(share * len(taken)) - 1]
        seen = histogram.percentile(buckets, taken[-1], share) or 0
        assert exact <= seen * 1.001 <= exact * 1.06
    assert histogram.summary(buckets, taken[-1])["max"] == round(taken[-1], 2)


def test_no_latency_is_none_and_not_zero() -> None:
    assert set(histogram.summary({}, 0.0).values()) == {None}
