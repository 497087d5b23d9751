"""Latencies kept in few numbers, however many: a histogram with edges 5 % apart."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

FINEST_MS = 0.1
GROWTH = 1.05


@dataclass
class Latencies:
    """Milliseconds, counted by bucket; a percentile is its bucket's upper edge, so at most 5 % too high."""

    buckets: Counter[int] = field(default_factory=Counter)
    max_ms: float = 0.0

    def add(self, milliseconds: float) -> None:
        bucket = max(0, math.ceil(math.log(max(milliseconds, FINEST_MS) / FINEST_MS, GROWTH)))
        self.buckets[bucket] += 1
        self.max_ms = max(self.max_ms, milliseconds)

    def percentile(self, share: float) -> float | None:
        """The latency in ms that ``share`` (0 to 1) of the requests did not exceed; None without any."""
        total = self.buckets.total()
        if not total:
            return None
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= share * total:
                return round(min(FINEST_MS * GROWTH**bucket, self.max_ms), 2)
        return round(self.max_ms, 2)

    def summary(self) -> dict[str, float | None]:
        """p50, p95, p99 and max in ms."""
        shares = {f"p{share}": self.percentile(share / 100) for share in (50, 95, 99)}
        return shares | {"max": round(self.max_ms, 2) if self.buckets else None}

    def to_dict(self) -> dict[str, int]:
        return {str(bucket): count for bucket, count in sorted(self.buckets.items())}

    @classmethod
    def from_dict(cls, buckets: Mapping[str, int], max_ms: float) -> "Latencies":
        return cls(Counter({int(bucket): int(count) for bucket, count in buckets.items()}), max_ms)
