"""Judge what a burst measured; pure, so kept samples can be judged again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from checks import counters, power, statistics
from checks.report import Finding, Verdict, compare


@dataclass(frozen=True)
class BurstLimits:
    """What a burst is held against.

    ``busy_ratio`` is the share of 503s; ``in_flight_share`` how much of a level must have been in flight
    together for the level to count as one; ``release`` who must have answered, if that is known.
    """

    p99_ms: float = 2000.0
    busy_ratio: float = 0.01
    server_errors: int = 0
    connection_errors: int = 0
    unexpected_answers: int = 0
    deadlocks: int = 0
    in_flight_share: float = 0.9
    release: str | None = None


def judge(measured: Mapping[str, Any], limits: BurstLimits) -> tuple[Finding, ...]:
    """Judge what a burst measured; reads nothing but its arguments."""
    hits = [hit for volley in measured["volleys"] for hit in volley["hits"]]
    return (
        *_answers(hits, limits),
        *_levels(measured["volleys"], limits),
        *_deadlocks(measured, limits),
        *_counters(measured),
        _limits_on(measured["limits"]),
    )


def _answers(hits: Sequence[Sequence[Any]], limits: BurstLimits) -> list[Finding]:
    statuses = Counter(hit[0] for hit in hits)
    errors = Counter(hit[2] for hit in hits if hit[0] is None)
    server = sum(n for status, n in statuses.items() if status is not None and status >= 500) - statuses[503]
    wrong = sum(
        1 for status, _, what, _ in hits if status is not None and status < 500 and what != "accepted"
    )
    seen = f"Answers: {dict(statuses)}."
    found = [
        compare("server_errors", server if hits else None, "<=", limits.server_errors, seen),
        compare("busy_ratio", statuses[503] / len(hits) if hits else None, "<=", limits.busy_ratio, seen),
        compare("connection_errors", sum(errors.values()), "<=", limits.connection_errors, _most(errors)),
        compare("unexpected_answers", wrong, "<=", limits.unexpected_answers, seen),
    ]
    if limits.release is not None:
        others = Counter(hit[3] for hit in hits if hit[0] == 200 and hit[3] != limits.release)
        found.append(compare("foreign_answers", others.total(), "==", 0, f"Answered by {dict(others)}."))
    return found


def _levels(volleys: Sequence[Mapping[str, Any]], limits: BurstLimits) -> list[Finding]:
    found = []
    for level in dict.fromkeys(volley["level"] for volley in volleys):
        of_level = [volley for volley in volleys if volley["level"] == level]
        answered = sorted(hit[1] for volley in of_level for hit in volley["hits"] if hit[0] is not None)
        p99 = percentile(answered, 0.99)
        found.append(compare(f"p99_ms_at_{level}", p99, "<=", limits.p99_ms, "See the latency in the facts."))
        peaks: dict[int, int] = {}
        for volley in of_level:
            peaks[volley["salvo"]] = max(peaks.get(volley["salvo"], 0), volley["in_flight_peak"])
        together = min(peaks.values())
        needed = round(level * limits.in_flight_share)
        held = Verdict.PASSED if together >= needed else Verdict.UNKNOWN
        hint = "The burst was not one; give this machine some rest and fire again."
        found.append(Finding(f"in_flight_at_{level}", together, ">=", needed, held, hint))
    return found


def _deadlocks(measured: Mapping[str, Any], limits: BurstLimits) -> list[Finding]:
    before, after = measured["before"], measured["after"]
    number, why = statistics.deadlocks_between(before["database"], after["database"])
    found = [compare("deadlocks", number, "<=", limits.deadlocks, why or "Postgres's log names the pairs.")]
    if before["instances"]:
        number, why = statistics.raised_between(before["instances"], after["instances"], "40P01")
        hint = why or "Also those that a retry hid. Postgres's log names the pairs."
        found.append(compare("deadlocks_seen_by_instances", number, "<=", limits.deadlocks, hint))
    return found


def _counters(measured: Mapping[str, Any]) -> tuple[Finding, ...]:
    counted = {note_id: counters.Counted(**found) for note_id, found in measured["counted"].items()}
    books = {"notes": measured["notes"]}
    return (*counters.judge(counters.Books(books, books, counted)), counters.drained(counted))


def _limits_on(proof: Mapping[str, Any]) -> Finding:
    """A client without a pass must meet a 429."""
    hint = f"Without a pass, {proof['route']} answered {proof['statuses']}."
    if set(proof["statuses"]) <= {proof["expected"], 429}:
        return compare("requests_before_429", proof["passed"], "<=", proof["limit"], hint)
    return Finding("requests_before_429", None, "<=", proof["limit"], Verdict.UNKNOWN, hint)


def _most(errors: Counter[str]) -> str:
    return "; ".join(f"{n} × {error}" for error, n in errors.most_common(3))


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The value that ``share`` (0 to 1) of the ordered values do not exceed; None of none."""
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else None


def facts(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth knowing besides the findings: latency per level, who answered, what it proves."""
    hits = [hit for volley in measured["volleys"] for hit in volley["hits"]]
    latency = {}
    for level in dict.fromkeys(volley["level"] for volley in measured["volleys"]):
        taken = sorted(
            h[1] for v in measured["volleys"] if v["level"] == level for h in v["hits"] if h[0] is not None
        )
        shares = {f"p{share}": percentile(taken, share / 100) for share in (50, 95, 99)}
        latency[str(level)] = {**shares, "max": taken[-1] if taken else None}
    failed = sum(hit[2] != "accepted" for hit in hits)
    return {
        "requests": len(hits),
        "failed": failed,
        "power": power.in_words(failed, len(hits)),
        "latency_ms": latency,
        "releases": dict(Counter(hit[3] for hit in hits if hit[3])),
    }
