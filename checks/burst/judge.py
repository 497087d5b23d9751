"""Judge what a burst measured; pure, so kept samples can be judged again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from checks.base.errors import CannotMeasure
from checks.base.report import Finding, compare, require, unmeasurable
from checks.burst import deadlock_counts, like_counts
from checks.burst.facts import percentile
from checks.burst.limits import BurstLimits
from checks.burst.rate_limit_proof import LimitProof
from checks.burst.samples import Answered, Measured, measured_in
from checks.visitors import view_counts

LOCK_TIMEOUT = "55P03"
DEADLOCK = "40P01"
SEE_LOG = "Postgres's log names the pair."


def judge(measured: Mapping[str, Any], limits: BurstLimits) -> tuple[Finding, ...]:
    """Judge what a burst measured; reads nothing but its arguments. Measurements with a hole are unknown."""
    try:
        burst = measured_in(measured)
    except CannotMeasure as error:
        return (unmeasurable(error),)
    return (
        *_answers(burst.hits, limits),
        *_levels(burst, limits),
        *_deadlocks(burst, limits),
        *_lock_timeouts(burst, limits),
        *_connections(burst, limits),
        *_counters(burst),
        _limits_on(burst.limits),
        _clock(burst, limits),
    )


def _answers(hits: Sequence[Answered], limits: BurstLimits) -> list[Finding]:
    statuses = Counter(hit.status for hit in hits)
    errors = Counter(hit.outcome for hit in hits if hit.status is None)
    server = sum(n for status, n in statuses.items() if status is not None and status >= 500) - statuses[503]
    wrong = [h for h in hits if h.status is not None and h.status < 500 and h.outcome != "accepted"]
    seen = f"Answers: {dict(statuses)}; the service's log says why."
    kinds = f"{seen} Unexpected: {dict(Counter(f'{hit.status} to a {hit.kind}' for hit in wrong))}."
    said = "; ".join(f"{n} × {error}" for error, n in errors.most_common(3))
    found = [
        compare("server_errors", server if hits else None, "<=", limits.server_errors, seen),
        compare("busy_ratio", statuses[503] / len(hits) if hits else None, "<=", limits.busy_ratio, seen),
        compare("connection_errors", errors.total(), "<=", limits.connection_errors, said),
        compare("unexpected_answers", len(wrong), "<=", limits.unexpected_answers, kinds),
    ]
    if limits.release is not None:
        others = Counter(h.release for h in hits if h.outcome == "accepted" and h.release != limits.release)
        found.append(compare("foreign_answers", others.total(), "==", 0, f"Answered by {dict(others)}."))
    return found


def _levels(burst: Measured, limits: BurstLimits) -> list[Finding]:
    found = []
    for level in burst.levels:
        answered = burst.milliseconds(level)
        for share, limit in limits.latencies.items():
            late = percentile(answered, share / 100)
            hint = "From the moment the volley was due; see latency_ms in the facts."
            found.append(compare(f"p{share}_ms_at_{level}", late, "<=", limit, hint))
        peaks: dict[int, int] = {}
        for volley in burst.volleys:
            if volley.level == level:
                peaks[volley.salvo] = max(peaks.get(volley.salvo, 0), volley.in_flight_peak)
        needed = round(level * limits.in_flight_share)
        hint = "The burst was not one; give this machine some rest and fire again."
        found.append(require(f"in_flight_at_{level}", min(peaks.values()), ">=", needed, hint))
    return found


def _deadlocks(burst: Measured, limits: BurstLimits) -> list[Finding]:
    """The database's counter, the instances' own, and the log where it can be read: each may see another."""
    before, after, log = burst.before, burst.after, burst.log
    pairs = " ".join(f"{pair}." for pair in log.pairs) or SEE_LOG
    number, why = deadlock_counts.deadlocks_between(before.database, after.database)
    found = [compare("deadlocks", number, "<=", limits.deadlocks, why or pairs)]
    if before.instances:
        number, why = deadlock_counts.raised_between(before.instances, after.instances, DEADLOCK)
        hint = why or f"Also those that a retry hid. {pairs}"
        found.append(compare("deadlocks_seen_by_instances", number, "<=", limits.deadlocks, hint))
    if log.asked or log.deadlocks is not None:
        hint = f"{log.error}." if log.error else pairs
        found.append(compare("deadlocks_in_log", log.deadlocks, "<=", limits.deadlocks, hint))
    return found


def _lock_timeouts(burst: Measured, limits: BurstLimits) -> list[Finding]:
    before, after, requests = burst.before.instances, burst.after.instances, len(burst.hits)
    if not before:
        return []
    number, why = deadlock_counts.raised_between(before, after, LOCK_TIMEOUT)
    ratio = None if number is None else number / requests
    hint = why or f"{number} lock timeouts in {requests} requests; what holds the lock so long?"
    return [compare("lock_timeout_ratio", ratio, "<=", limits.lock_timeout_ratio, hint)]


def _connections(burst: Measured, limits: BurstLimits) -> list[Finding]:
    """The most connections that were seen while the burst was under way."""
    seen, settings = burst.peaks, burst.settings
    most = seen.most if seen.looks and not seen.error else {}
    usable = settings.max_connections - settings.superuser_reserved_connections
    peaks = {
        "postgres": (
            int(limits.connections_share * usable),
            f"{limits.connections_share:.0%} of {usable} that Postgres gives; see p12 check budget.",
        ),
        "pooler": (settings.max_client_conn, "pgbouncer lets no more in; see p12 check budget."),
    }
    names = {"postgres": "postgres_connections", "pooler": "pooler_clients"}
    why = seen.error or "Nobody looked while the burst was under way."
    return [
        compare(f"{names[of]}_peak", most.get(names[of]), "<=", limit, hint if most else why)
        for of, (limit, hint) in peaks.items()
        if limit is not None
    ]


def _counters(burst: Measured) -> tuple[Finding, ...]:
    views = burst.booked["view"]
    found = (*view_counts.judge(views, views, burst.counted), view_counts.drained(burst.counted))
    return found + (like_counts.judge(burst.booked, burst.tallied) if burst.is_mixed else ())


def _limits_on(proof: LimitProof) -> Finding:
    """A client without a pass must meet a 429."""
    hint = f"Without a pass, {proof.route} answered {proof.statuses}; are the rate limits on?"
    passed = sum(status != 429 for status in proof.statuses)
    is_proof = bool(proof.statuses) and {*proof.statuses} <= {proof.expected, 429} and passed == proof.passed
    return compare("requests_before_429", passed if is_proof else None, "<=", proof.limit, hint)


def _clock(burst: Measured, limits: BurstLimits) -> Finding:
    """A clock that was set meanwhile may have moved the day, the pass's expiry and the limiter's minute."""
    steady = burst.ended.monotonic - burst.began.monotonic
    jump = abs(burst.ended.wall - burst.began.wall - steady)
    hint = "The clock was set while the burst was under way; fire again."
    limit = limits.clock_jump_seconds
    return require("clock_jump_seconds", round(jump, 3) if steady > 0 else None, "<=", limit, hint)
