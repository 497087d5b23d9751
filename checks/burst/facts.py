"""What is worth knowing of a burst besides its findings; pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from checks.base import bounds
from checks.base.errors import CannotMeasure
from checks.burst.limits import BurstLimits
from checks.burst.samples import sound


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value that ``share`` (0 to 1) of the ordered values do not exceed; None of none."""
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else None


def facts(measured: Mapping[str, Any], limits: BurstLimits) -> dict[str, Any]:
    """What is worth knowing besides the findings: latency per level, who answered, what it proves."""
    try:
        sound(measured)
    except CannotMeasure:
        return {}
    hits = [hit for volley in measured["volleys"] for hit in volley["hits"]]
    latency = {}
    for level in dict.fromkeys(volley["level"] for volley in measured["volleys"]):
        taken = sorted(
            h[1] for v in measured["volleys"] if v["level"] == level for h in v["hits"] if h[0] is not None
        )
        shares = {f"p{share}": percentile(taken, share / 100) for share in limits.latencies}
        latency[str(level)] = {**shares, "max": taken[-1] if taken else None}
    failed = sum(hit[2] != "accepted" for hit in hits)
    log = measured["log"].get("error")
    return {
        "requests": len(hits),
        "failed": failed,
        "power": bounds.in_words(failed, len(hits), limits.wanted_ratio),
        "latency_ms": latency,
        "releases": dict(Counter(hit[3] for hit in hits if hit[3])),
        "peaks": measured["peaks"]["most"],
        **({"postgres_log": log} if log else {}),
    }
