"""What is worth knowing of a burst besides its findings; pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from checks.base import bounds
from checks.base.errors import CannotMeasure
from checks.burst.limits import BurstLimits
from checks.burst.samples import measured_in


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value that ``share`` (0 to 1) of the ordered values do not exceed; None of none."""
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else None


def facts(measured: Mapping[str, Any], limits: BurstLimits) -> dict[str, Any]:
    """What is worth knowing besides the findings: latency per level, who answered, what it proves."""
    try:
        burst = measured_in(measured)
    except CannotMeasure:
        return {}
    latency = {}
    for level in burst.levels:
        taken = burst.milliseconds(level)
        shares = {f"p{share}": percentile(taken, share / 100) for share in limits.latencies}
        latency[str(level)] = {**shares, "max": taken[-1] if taken else None}
    failed = sum(hit.outcome != "accepted" for hit in burst.hits)
    return {
        "requests": len(burst.hits),
        "failed": failed,
        "power": bounds.in_words(failed, len(burst.hits), limits.wanted_ratio),
        "latency_ms": latency,
        "releases": dict(Counter(hit.release for hit in burst.hits if hit.release)),
        "peaks": burst.peaks.most,
        **({"postgres_log": burst.log.error} if burst.log.error else {}),
    }
