"""Latencies kept in few numbers, however many: a histogram with edges 5 % apart.

Counts by bucket; a percentile is its bucket's upper edge, so at most 5 % too high.
"""

import math
from collections.abc import Mapping

FINEST_MS = 0.1
GROWTH = 1.05


def bucket_of(milliseconds: float) -> int:
    return max(0, math.ceil(math.log(max(milliseconds, FINEST_MS) / FINEST_MS, GROWTH)))


def percentile(buckets: Mapping[int, int], max_ms: float, share: float) -> float | None:
    """The latency in ms that ``share`` (0 to 1) of the requests did not exceed; None without any."""
    total, seen = sum(buckets.values()), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= share * total:
            return round(min(FINEST_MS * GROWTH**bucket, max_ms), 2)
    return None


def summary(buckets: Mapping[int, int], max_ms: float) -> dict[str, float | None]:
    """p50, p95, p99 and max in ms."""
    shares = {f"p{share}": percentile(buckets, max_ms, share / 100) for share in (50, 95, 99)}
    return shares | {"max": round(max_ms, 2) if buckets else None}
