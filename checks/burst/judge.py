"""Judge what a burst measured; pure, so kept samples can be judged again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from checks.base.errors import CannotMeasure
from checks.base.report import Finding, Verdict, compare
from checks.burst import deadlock_counts, like_counts
from checks.burst.facts import percentile
from checks.burst.limits import BurstLimits
from checks.burst.samples import sound
from checks.visitors import view_counts

LOCK_TIMEOUT = "55P03"
DEADLOCK = "40P01"
SEE_LOG = "Postgres's log names the pair."


def judge(measured: Mapping[str, Any], limits: BurstLimits) -> tuple[Finding, ...]:
    """Judge what a burst measured; reads nothing but its arguments. Measurements with a hole are unknown."""
    try:
        sound(measured)
    except CannotMeasure as error:
        return (Finding("measurable", None, "==", 1, Verdict.UNKNOWN, str(error)),)
    hits = [hit for volley in measured["volleys"] for hit in volley["hits"]]
    return (
        *_answers(hits, limits),
        *_levels(measured["volleys"], limits),
        *_deadlocks(measured, limits),
        *_lock_timeouts(measured, len(hits), limits),
        *_connections(measured, limits),
        *_counters(measured),
        _limits_on(measured["limits"]),
        _clock(measured, limits),
    )


def _answers(hits: Sequence[Sequence[Any]], limits: BurstLimits) -> list[Finding]:
    statuses = Counter(hit[0] for hit in hits)
    errors = Counter(hit[2] for hit in hits if hit[0] is None)
    server = sum(n for status, n in statuses.items() if status is not None and status >= 500) - statuses[503]
    wrong = [hit for hit in hits if hit[0] is not None and hit[0] < 500 and hit[2] != "accepted"]
    seen = f"Answers: {dict(statuses)}."
    kinds = f"{seen} Unexpected: {dict(Counter(f'{hit[0]} to a {hit[4]}' for hit in wrong))}."
    found = [
        compare("server_errors", server if hits else None, "<=", limits.server_errors, seen),
        compare("busy_ratio", statuses[503] / len(hits) if hits else None, "<=", limits.busy_ratio, seen),
        compare("connection_errors", sum(errors.values()), "<=", limits.connection_errors, _most(errors)),
        compare("unexpected_answers", len(wrong), "<=", limits.unexpected_answers, kinds),
    ]
    if limits.release is not None:
        others = Counter(hit[3] for hit in hits if hit[2] == "accepted" and hit[3] != limits.release)
        found.append(compare("foreign_answers", others.total(), "==", 0, f"Answered by {dict(others)}."))
    return found


def _levels(volleys: Sequence[Mapping[str, Any]], limits: BurstLimits) -> list[Finding]:
    found = []
    for level in dict.fromkeys(volley["level"] for volley in volleys):
        of_level = [volley for volley in volleys if volley["level"] == level]
        answered = sorted(hit[1] for volley in of_level for hit in volley["hits"] if hit[0] is not None)
        for share, limit in limits.latencies.items():
            late = percentile(answered, share / 100)
            found.append(
                compare(f"p{share}_ms_at_{level}", late, "<=", limit, "See the latency in the facts.")
            )
        peaks: dict[int, int] = {}
        for volley in of_level:
            peaks[volley["salvo"]] = max(peaks.get(volley["salvo"], 0), volley["in_flight_peak"])
        together = min(peaks.values())
        needed = round(level * limits.in_flight_share)
        held = Verdict.PASSED if needed <= together <= level else Verdict.UNKNOWN
        hint = "The burst was not one; give this machine some rest and fire again."
        found.append(Finding(f"in_flight_at_{level}", together, ">=", needed, held, hint))
    return found


def _deadlocks(measured: Mapping[str, Any], limits: BurstLimits) -> list[Finding]:
    """The database's counter, the instances' own, and the log where it can be read: each may see another."""
    before, after, log = measured["before"], measured["after"], measured["log"]
    pairs = " ".join(f"{pair}." for pair in log.get("pairs", ())) or SEE_LOG
    number, why = deadlock_counts.deadlocks_between(before["database"], after["database"])
    found = [compare("deadlocks", number, "<=", limits.deadlocks, why or pairs)]
    if before["instances"]:
        number, why = deadlock_counts.raised_between(before["instances"], after["instances"], DEADLOCK)
        hint = why or "Also those that a retry hid."
        found.append(compare("deadlocks_seen_by_instances", number, "<=", limits.deadlocks, hint))
    if "deadlocks" in log:
        found.append(compare("deadlocks_in_log", log["deadlocks"], "<=", limits.deadlocks))
    elif log["asked"]:
        found.append(compare("deadlocks_in_log", None, "<=", limits.deadlocks, f"{log['error']}."))
    return found


def _lock_timeouts(measured: Mapping[str, Any], requests: int, limits: BurstLimits) -> list[Finding]:
    before, after = measured["before"]["instances"], measured["after"]["instances"]
    if not before:
        return []
    number, why = deadlock_counts.raised_between(before, after, LOCK_TIMEOUT)
    ratio = None if number is None or not requests else number / requests
    hint = why or f"{number} lock timeouts in {requests} requests; what holds the lock so long?"
    return [compare("lock_timeout_ratio", ratio, "<=", limits.lock_timeout_ratio, hint)]


def _connections(measured: Mapping[str, Any], limits: BurstLimits) -> list[Finding]:
    """The most connections that were seen while the burst was under way."""
    seen, settings = measured["peaks"], measured["settings"]
    most = seen["most"] if seen["looks"] and not seen["error"] else {}
    usable = settings["max_connections"] - settings["superuser_reserved_connections"]
    why = seen["error"] or "Nobody looked while the burst was under way."
    hint = f"{limits.connections_share:.0%} of {usable} that Postgres gives; see p12 check budget."
    found = [
        compare(
            "postgres_connections_peak",
            most.get("postgres_connections"),
            "<=",
            int(limits.connections_share * usable),
            hint if most else why,
        )
    ]
    if "max_client_conn" in settings:
        hint = "pgbouncer lets no more in; see p12 check budget." if most else why
        found.append(
            compare(
                "pooler_clients_peak", most.get("pooler_clients"), "<=", settings["max_client_conn"], hint
            )
        )
    return found


def _counters(measured: Mapping[str, Any]) -> tuple[Finding, ...]:
    counted = {note_id: view_counts.Counted(**found) for note_id, found in measured["counted"].items()}
    books = {"notes": measured["booked"]["view"]}
    found = (*view_counts.judge(view_counts.Books(books, books, counted)), view_counts.drained(counted))
    if any(volley["shape"] == "mix" for volley in measured["volleys"]):
        found += like_counts.judge(measured["booked"], measured["tallied"])
    return found


def _limits_on(proof: Mapping[str, Any]) -> Finding:
    """A client without a pass must meet a 429."""
    hint = f"Without a pass, {proof['route']} answered {proof['statuses']}."
    passed = sum(status != 429 for status in proof["statuses"])
    if set(proof["statuses"]) <= {proof["expected"], 429} and proof["statuses"] and passed == proof["passed"]:
        return compare("requests_before_429", passed, "<=", proof["limit"], hint)
    return Finding("requests_before_429", None, "<=", proof["limit"], Verdict.UNKNOWN, hint)


def _clock(measured: Mapping[str, Any], limits: BurstLimits) -> Finding:
    """A clock that was set meanwhile may have moved the day, the pass's expiry and the limiter's minute."""
    began, ended = measured["began"], measured["ended"]
    steady = ended["monotonic"] - began["monotonic"]
    jump = round(abs(ended["wall"] - began["wall"] - steady), 3)
    held = Verdict.PASSED if steady > 0 and jump <= limits.clock_jump_seconds else Verdict.UNKNOWN
    hint = "The clock was set while the burst was under way; fire again."
    return Finding("clock_jump_seconds", jump, "<=", limits.clock_jump_seconds, held, hint)


def _most(errors: Counter[str]) -> str:
    return "; ".join(f"{n} × {error}" for error, n in errors.most_common(3))
