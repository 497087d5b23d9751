"""A window is judged from its samples alone: it fails early, passes only at the end, and never on a gap."""

import copy
import json
import math
import random
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.base.report import Verdict
from checks.window import comparisons
from checks.window.baseline import Baseline
from checks.window.judge import Judgement, WindowJudge, judge
from checks.window.limits import WindowLimits

GIVEN: dict[str, Any] = {
    **{"seconds": 60, "max_seconds": 180, "min_requests": 300, "max_error_ratio": 0.01},
    **{"scrape_gap_seconds": 12, "warmup_seconds": 10},
}
LIMITS = WindowLimits(**GIVEN)
EDGES = ("0.1", "0.2", "+Inf")
Sample = dict[str, Any]


def window(
    seconds: int = 60, every: int = 5, errors: float = 0, control_errors: float = 0, control: bool = True
) -> list[Sample]:
    """Samples of two slots with 100 requests and so many errors per slot and sample, counters at 1000."""

    def at(i: int) -> Sample:
        servers = {
            f"{slot}-1@app1": {"slot": slot, "requests": 1000 + 100 * i, "errors": int(bad * i), "up": True}
            for slot, bad in (("green", errors), ("blue", control_errors))
            if control or slot == "green"
        }
        instances = {name: instance(100 * i) for name in servers}
        at = 1000.0 + every * i
        return {"at": at, "servers": servers, "instances": instances, "database": reading(at)}

    return [at(i) for i in range(seconds // every + 1)]


def instance(handled: int = 0, slow: int = 0) -> dict[str, Any]:
    """What is scraped of a healthy process: so many requests, of which so many took over 0.1 s."""
    counters = dict.fromkeys(("deadlocks", "busy", "unjudged", "retries"), 0)
    latency = {edge: n for edge, n in zip(EDGES, (handled - slow, slow), strict=False) if n}
    return {
        "started": 900.0,
        **counters,
        "retried": {"55P03": 0},
        "resident_mb": 80.0,
        "latency": latency,
    }


def reading(at: float, **found: float) -> dict[str, Any]:
    """What a database says that has nothing to complain about."""
    numbers = dict.fromkeys(
        ("deadlocks", "pooler_waiting", "lock_wait_seconds", "transaction_seconds", "queue_lag_seconds"), 0
    )
    known = {"started": "1", "stats_reset": "never", "connections": 10, "connection_limit": 100}
    return {"at": at, **known, **numbers, **found}


def held(samples: list[Sample], control: str | None = "blue", limits: WindowLimits = LIMITS) -> Judgement:
    return judge(limits, samples, "green", control)


def names(judgement: Judgement, verdict: Verdict) -> set[str]:
    return {finding.name for finding in judgement.findings if finding.verdict is verdict}


def test_a_clean_window_passes_at_its_end_and_not_before() -> None:
    samples = window()

    assert held(samples[:-1]).verdict is None
    assert held(samples).verdict is Verdict.PASSED


def test_the_time_of_a_pause_is_none_of_the_windows_and_only_harm_ends_it() -> None:
    seconds = int(LIMITS.max_seconds) + 60
    samples = [{**each, "paused": n > 10} for n, each in enumerate(window(seconds))]
    bad = [{**each, "paused": True} for each in window(errors=5)]

    assert held(samples).verdict is None
    assert held(samples).watched_seconds == 50
    assert held(bad).verdict is Verdict.FAILED


def test_a_clean_window_without_a_control_passes_against_the_slo() -> None:
    assert held(window(control=False), control=None).verdict is Verdict.PASSED


def test_a_worse_candidate_fails_long_before_the_window_ends() -> None:
    judgement = held(window(errors=5, control_errors=0.2))

    assert judgement.verdict is Verdict.FAILED
    assert names(judgement, Verdict.FAILED) == {"errors_against_control_ln_e"}
    assert judgement.elapsed_seconds < 30


def test_errors_that_hit_both_arms_alike_do_not_fail_the_candidate() -> None:
    assert held(window(errors=4, control_errors=4)).verdict is Verdict.PASSED


def test_a_candidate_over_the_slo_fails_without_a_control() -> None:
    judgement = held(window(errors=5, control=False), control=None)

    assert names(judgement, Verdict.FAILED) == {"errors_against_slo_ln_e"}


def test_a_ratio_over_the_slo_that_proves_nothing_keeps_the_window_open_then_unknown() -> None:
    samples = window(seconds=180, control=False)
    for i, sample in enumerate(samples):
        sample["servers"]["green-1@app1"] |= {"errors": 5 if i > 10 else 0, "requests": 1000 + 10 * i}
    limits = WindowLimits(**GIVEN | {"min_requests": 100})

    assert held(samples[:20], None, limits).verdict is None
    assert held(samples, None, limits).verdict is Verdict.UNKNOWN


def test_ten_errors_at_a_burning_rate_trip_the_breaker_even_when_the_control_fails_too() -> None:
    judgement = held(window(errors=40, control_errors=40)[:2])

    assert names(judgement, Verdict.FAILED) == {"burning_errors"}


def test_nine_errors_do_not_trip_the_breaker() -> None:
    samples = window()[:2]
    samples[1]["servers"]["green-1@app1"] |= {"requests": 1009, "errors": 9}

    assert "burning_errors" not in names(held(samples), Verdict.FAILED)


def test_errors_late_in_a_long_clean_window_still_trip_the_breaker() -> None:
    samples = window(seconds=55)
    last = copy.deepcopy(samples[-1])
    last["at"] += 1
    last["database"]["at"] += 1
    for name in last["servers"]:
        last["servers"][name]["requests"] += 200
        last["servers"][name]["errors"] += 190

    judgement = held([*samples, last])

    assert names(judgement, Verdict.FAILED) == {"burning_errors"}


def test_one_deadlock_of_the_candidate_fails_the_window_at_once() -> None:
    samples = window()
    samples[3]["instances"]["green-1@app1"]["deadlocks"] = 1

    judgement = held(samples)

    assert names(judgement, Verdict.FAILED) == {"deadlocks"}
    assert judgement.elapsed_seconds == 15


def test_a_deadlock_hidden_by_a_missing_scrape_is_counted_when_the_instance_is_seen_again() -> None:
    samples = window()
    del samples[3]["instances"]["green-1@app1"]
    for sample in samples[4:]:
        sample["instances"]["green-1@app1"]["deadlocks"] = 1

    assert names(held(samples), Verdict.FAILED) == {"deadlocks"}


def test_deadlocks_of_the_old_slot_do_not_fail_the_new_one() -> None:
    samples = window()
    for i, sample in enumerate(samples):
        sample["instances"]["blue-1@app1"]["deadlocks"] = i

    assert held(samples).verdict is Verdict.PASSED


def test_a_dead_candidate_instance_fails_and_a_dead_control_does_not() -> None:
    candidate, control = window(), window()
    candidate[2]["servers"]["green-1@app1"]["up"] = False
    control[2]["servers"]["blue-1@app1"]["up"] = False

    assert names(held(candidate), Verdict.FAILED) == {"dead_instances"}
    assert held(control).verdict is Verdict.PASSED


def test_more_busy_answers_than_the_control_fail() -> None:
    samples = window()
    for i, sample in enumerate(samples):
        sample["instances"]["green-1@app1"]["busy"] = 6 * i

    assert names(held(samples), Verdict.FAILED) == {"busy_against_control_ln_e"}


def timed(samples: list[Sample], slow: int, control_slow: int = 5) -> list[Sample]:
    """The same samples, so many of each hundred requests slow."""
    for i, sample in enumerate(samples):
        for name, share in (("green-1@app1", slow), ("blue-1@app1", control_slow)):
            if name in sample["instances"]:
                sample["instances"][name]["latency"] = instance(100 * i, share * i)["latency"]
    return samples


def test_more_slow_answers_than_the_control_fail() -> None:
    judgement = held(timed(window(), slow=40))

    (found,) = [f for f in judgement.findings if f.verdict is Verdict.FAILED]
    assert found.name == "slow_against_control_ln_e"
    assert " over 100 ms; evidence 14.3, fails at 6.5. What takes its time" in str(found)


def test_as_many_slow_answers_as_the_control_pass() -> None:
    judgement = held(timed(window(), slow=5))

    assert judgement.verdict is Verdict.PASSED
    assert "slow_against_control_ln_e" in names(judgement, Verdict.PASSED)


def test_a_third_more_slow_answers_than_the_control_are_noise() -> None:
    assert held(timed(window(), slow=9, control_slow=7)).verdict is Verdict.PASSED


def test_slowness_of_the_warm_up_is_not_held_against_the_candidate() -> None:
    samples = timed(window(), slow=5)
    for i, sample in enumerate(samples):
        early = 100 * min(i, 2)
        sample["instances"]["green-1@app1"]["latency"] = instance(100 * i, early)["latency"]

    assert held(samples).verdict is Verdict.PASSED


def test_where_the_old_p95_lies_is_settled_once_and_then_stays() -> None:
    live = WindowJudge(LIMITS, "green", "blue")
    samples = timed(window(), slow=5)
    for i, sample in enumerate(samples[4:], 4):  # later the old slot is slow all the time
        sample["instances"]["blue-1@app1"]["latency"] = instance(100 * i, 60 * i)["latency"]

    seen = {live.add(s).baseline.threshold_seconds for s in samples}  # type: ignore[union-attr]

    assert seen - {None} == {0.1}


@pytest.mark.parametrize(
    "latency", [None, {}, {"0.1": -1}, {"0.1": 1.5}, {"soon": 3}, {"nan": 3}, [], "fast"]
)
@pytest.mark.parametrize("slot", ["green", "blue"])
def test_latency_that_cannot_be_read_never_passes(slot: str, latency: Any) -> None:
    samples = window(seconds=200)
    for sample in samples:
        sample["instances"][f"{slot}-1@app1"]["latency"] = latency

    assert held(samples).verdict is Verdict.UNKNOWN


def test_too_few_requests_of_the_old_slot_do_not_tell_its_p95() -> None:
    judgement = held(window(seconds=200), limits=WindowLimits(**GIVEN | {"baseline_requests": 10**6}))

    assert judgement.verdict is Verdict.UNKNOWN
    assert "timed_requests" in names(judgement, Verdict.UNKNOWN)


def test_more_retries_than_the_control_fail_and_their_sqlstates_are_named() -> None:
    samples = window()
    for i, sample in enumerate(samples):
        sample["instances"]["green-1@app1"] |= {"retries": 9 * i, "retried": {"55P03": 8 * i, "40001": i}}

    (found,) = [f for f in held(samples).findings if f.verdict is Verdict.FAILED]

    assert found.name == "retries_against_control_ln_e"
    assert " (55P03 16, 40001 2); evidence 10.8, fails at 6.5. What" in str(found)


def test_limited_requests_are_neither_requests_nor_errors() -> None:
    samples = window()
    for i, sample in enumerate(samples):
        sample["instances"]["green-1@app1"]["unjudged"] = 90 * i

    judgement = held(samples)

    assert judgement.requests == 10 * (len(samples) - 1)
    assert judgement.errors == 0
    assert judgement.verdict is None  # 120 requests are not yet the 300 it takes


def test_a_limited_request_that_the_balancer_counts_a_moment_later_is_taken_out_once() -> None:
    samples = window()
    for i, sample in enumerate(samples):
        sample["instances"]["green-1@app1"]["unjudged"] = 100 * (i + 1)

    assert held(samples).requests == 0


def test_the_parts_of_alpha_add_up_to_it() -> None:
    spent = sum(math.exp(-LIMITS.evidence_of(name)) for name in LIMITS.alpha_weights)
    assert spent == pytest.approx(LIMITS.alpha)
    assert LIMITS.alpha_weights["errors"] == 0.5
    assert set(LIMITS.alpha_weights) == set(comparisons.TRIALS)


# Alone: at 100 % there is nobody beside the candidate.


STEPS = Baseline(threshold_seconds=0.1, handled=2000, slow=100, requests=2000, errors=2)


def alone(samples: list[Sample], baseline: Baseline | None = STEPS) -> Judgement:
    return judge(LIMITS, samples, "green", None, baseline)


def test_alone_a_release_is_as_fast_as_the_steps_had_shown_the_old_one() -> None:
    assert alone(timed(window(control=False), slow=5)).verdict is Verdict.PASSED


def test_alone_a_release_that_is_slower_than_the_site_allows_fails() -> None:
    judgement = alone(timed(window(control=False), slow=60))

    assert names(judgement, Verdict.FAILED) == {"slow_against_baseline_ln_e"}


def test_alone_latency_that_the_steps_judged_must_be_read_too() -> None:
    samples = window(seconds=200, control=False)
    for sample in samples:
        del sample["instances"]["green-1@app1"]["latency"]

    assert alone(samples).verdict is Verdict.UNKNOWN
    assert alone(samples, None).verdict is Verdict.UNKNOWN


def test_alone_with_nothing_shown_before_a_release_is_held_against_what_the_site_allows() -> None:
    slow = timed(window(control=False), slow=60)
    for sample in slow:
        latency = sample["instances"]["green-1@app1"]["latency"]
        sample["instances"]["green-1@app1"]["latency"] = {
            "2" if e == EDGES[1] else e: n for e, n in latency.items()
        }

    assert alone(timed(window(control=False), slow=60), None).verdict is Verdict.PASSED  # all within a second
    assert names(alone(slow, None), Verdict.FAILED) == {"slow_against_limit_ln_e"}


@pytest.mark.parametrize("event", ["busy", "retries"])
def test_alone_503s_and_retries_are_judged_as_well(event: str) -> None:
    def troubled(each: int) -> list[Sample]:
        samples = timed(window(control=False), slow=5)
        for i, sample in enumerate(samples):
            sample["instances"]["green-1@app1"][event] = each * i
        return samples

    assert alone(troubled(0)).verdict is Verdict.PASSED
    assert names(alone(troubled(50)), Verdict.FAILED) == {f"{event}_against_baseline_ln_e"}
    assert names(alone(troubled(50), None), Verdict.FAILED) == {f"{event}_against_limit_ln_e"}


def test_alone_as_many_retries_as_the_old_slot_had_are_allowed() -> None:
    samples = timed(window(control=False), slow=5)
    for i, sample in enumerate(samples):
        sample["instances"]["green-1@app1"]["retries"] = 30 * i

    assert alone(samples, replace(STEPS, retries=600)).verdict is Verdict.PASSED
    assert alone(samples).verdict is Verdict.FAILED


def test_an_old_slot_that_broke_the_objective_is_no_reason_to_go_back_to_it() -> None:
    broken = Baseline(0.1, 2000, 100, requests=2000, errors=80)
    samples = window(seconds=200, control=False, errors=4)

    assert alone(samples).verdict is Verdict.FAILED
    assert alone(samples, broken).verdict is Verdict.UNKNOWN  # and nothing passes that breaks it


# Beside a holdback: an old slot that is asked too little to tell much.


def beside_holdback(errors: float, slow: int = 5, control_each: int = 0) -> Judgement:
    samples = timed(window(errors=errors), slow=slow)
    for i, sample in enumerate(samples):
        sample["servers"]["blue-1@app1"]["requests"] = 1000 + control_each * i
        sample["servers"]["blue-1@app1"]["errors"] = 0
    return judge(LIMITS, samples, "green", "blue", STEPS)


@pytest.mark.parametrize("control_each", [0, 2])
def test_beside_a_holdback_a_clean_window_passes_however_little_the_old_slot_is_asked(
    control_each: int,
) -> None:
    judgement = beside_holdback(0, control_each=control_each)

    assert judgement.verdict is Verdict.PASSED, judgement.findings
    assert judgement.requests == 1200


def test_beside_a_holdback_what_breaks_the_objective_is_held_if_the_old_slot_cannot_tell() -> None:
    judgement = beside_holdback(errors=5, control_each=2)

    assert judgement.verdict is Verdict.HELD
    assert "errors_against_slo_ln_e" in names(judgement, Verdict.HELD)


def test_beside_a_holdback_answers_slower_than_the_steps_had_shown_are_held() -> None:
    judgement = beside_holdback(0, slow=60, control_each=2)

    assert names(judgement, Verdict.HELD) == {"slow_against_baseline_ln_e"}


def test_a_step_leaves_what_the_old_slot_came_to() -> None:
    judgement = held(timed(window(control_errors=1), slow=5))

    assert judgement.baseline == Baseline(0.1, handled=1000, slow=50, requests=1200, errors=12)


@pytest.mark.parametrize("event", ["slow", "busy", "retries"])
def test_what_happened_while_a_scrape_was_missing_is_weighed_as_soon_as_it_is_seen(event: str) -> None:
    """A candidate that stalls is the very one that is not scraped just then."""
    samples = timed(window(seconds=400), slow=5)
    stalled = 0
    for i, sample in enumerate(samples):
        found = sample["instances"]["green-1@app1"]
        stalled += 50 if i % 4 == 1 else 0
        if event == "slow":
            found["latency"] = {EDGES[0]: 100 * i - 5 * i, EDGES[1]: 5 * i + stalled}
        else:
            found[event] = stalled
        if i % 4 == 1:
            del sample["instances"]["green-1@app1"]

    assert names(held(samples), Verdict.FAILED) == {f"{event}_against_control_ln_e"}


def test_a_process_that_tells_nothing_of_its_memory_passes_no_window() -> None:
    for told in (None, math.nan, -1.0):
        samples = window(seconds=200)
        for sample in samples:
            sample["instances"]["green-1@app1"]["resident_mb"] = told

        assert names(held(samples), Verdict.UNKNOWN) == {"resident_mb"}


# The database.


IN_TROUBLE = (
    ({"connections": 81}, "connections_ratio"),
    ({"lock_wait_seconds": 11}, "lock_wait_seconds"),
    ({"transaction_seconds": 121}, "transaction_seconds"),
    ({"queue_lag_seconds": 61}, "queue_lag_seconds"),
)


@pytest.mark.parametrize(("trouble", "name"), IN_TROUBLE)
def test_a_database_in_trouble_fails_the_window_at_once(trouble: dict[str, float], name: str) -> None:
    samples = window()
    samples[3]["database"] |= trouble

    judgement = held(samples)

    assert names(judgement, Verdict.FAILED) == {name}
    assert judgement.elapsed_seconds == 15


def by_request(samples: list[Sample]) -> Judgement:
    """Judge a window whose samples hold what the balancer's log brought, here nothing."""
    for sample in samples:
        sample["requests"] = {"cells": [], "clients": {}, "broken": [], "failures": []}
    return judge(replace(LIMITS, by_request=True), samples, "green", "blue", share=25)


HOLDER = {"pid": 77, "user": "reports", "application": "psql", "state": "active", "seconds": 300.0}
HOLDER |= {"query": "SELECT everything", "is_blocking": True}


@pytest.mark.parametrize(("trouble", "name"), IN_TROUBLE)
def test_a_database_in_trouble_holds_a_window_and_names_who_holds_it(
    trouble: dict[str, float], name: str
) -> None:
    samples = window()
    samples[3]["database"] |= {**trouble, "holders": [HOLDER]}

    judgement = by_request(samples)

    assert judgement.verdict is Verdict.HELD
    assert names(judgement, Verdict.HELD) == {name}
    found = next(str(each) for each in judgement.findings if each.name == name)
    who = "Held by pid 77 (reports, psql, active) for 300 s: SELECT everything" in found
    assert who == (name in ("lock_wait_seconds", "transaction_seconds"))


@pytest.mark.parametrize(("session", "verdict"), [("green-1@app1", "failed"), ("blue-1@app1", "held")])
def test_a_process_of_the_candidate_that_holds_others_up_fails_its_window(session: str, verdict: str) -> None:
    samples = window()
    holder = {**HOLDER, "application": f"paste12-{session}"}
    samples[3]["database"] |= {"lock_wait_seconds": 11, "holders": [holder]}

    assert by_request(samples).verdict == verdict


def test_deadlocks_whose_victim_is_the_old_slot_hold_a_window() -> None:
    samples = window()
    samples[-1]["instances"]["blue-1@app1"]["deadlocks"] = 1

    judgement = by_request(samples)

    assert names(judgement, Verdict.HELD) == {"old_slot_deadlocks"}


def test_clients_may_wait_for_the_pooler_but_not_without_a_pause() -> None:
    samples, paused = window(), window()
    for sample in [*samples[1:], *paused[1:]]:
        sample["database"]["pooler_waiting"] = 3
    paused[5]["database"]["pooler_waiting"] = 0
    paused[10]["database"]["pooler_waiting"] = 0

    judgement = held(samples)

    assert names(judgement, Verdict.FAILED) == {"pooler_waiting_seconds"}
    assert judgement.elapsed_seconds == 35
    assert held(paused).verdict is Verdict.PASSED


def test_deadlocks_of_the_database_count_only_when_the_candidate_is_alone_on_it() -> None:
    beside, by_itself = window(), window(control=False)
    for sample in (beside[-1], by_itself[-1]):
        sample["database"]["deadlocks"] = 1

    assert held(beside).verdict is Verdict.PASSED
    assert names(held(by_itself, None), Verdict.FAILED) == {"database_deadlocks"}


DATABASE_BREAKS: dict[str, Any] = {
    "it was not read": lambda s: s.pop("database"),
    "it says nothing": lambda s: s.update(database={}),
    "it is words": lambda s: s.update(database="fine"),
    "a number is missing": lambda s: s["database"].pop("connections"),
    "a number is none": lambda s: s["database"].update(lock_wait_seconds=math.nan),
    "a number is negative": lambda s: s["database"].update(pooler_waiting=-1),
    "it gives no connections": lambda s: s["database"].update(connection_limit=0),
    "its answer is old": lambda s: s["database"].update(at=s["at"] - 60),
    "its answer is of tomorrow": lambda s: s["database"].update(at=s["at"] + 86400),
    "it was restarted": lambda s: s["database"].update(started=f"{s['at']}"),
    "its statistics were reset": lambda s: s["database"].update(stats_reset=f"{s['at']}"),
}


@pytest.mark.parametrize("mutation", DATABASE_BREAKS)
def test_a_database_that_cannot_be_read_is_not_a_healthy_one(mutation: str) -> None:
    once, mostly = window(), window(seconds=200)
    DATABASE_BREAKS[mutation](once[6])
    for sample in [*mostly[2::4], *mostly[3::4], *mostly[4::4]]:
        DATABASE_BREAKS[mutation](sample)

    assert held(once).verdict is None
    assert held(mostly).verdict is Verdict.UNKNOWN


def test_a_database_that_was_never_read_ends_unknown_and_is_named() -> None:
    samples = window(seconds=200)
    for sample in samples:
        del sample["database"]

    judgement = held(samples)

    assert judgement.verdict is Verdict.UNKNOWN
    assert "connections_ratio" in names(judgement, Verdict.UNKNOWN)
    assert held(samples, limits=WindowLimits(**GIVEN | {"watch_database": False})).verdict is Verdict.PASSED


def test_too_little_traffic_extends_the_window_and_ends_unknown() -> None:
    samples = window(seconds=180)
    for i, sample in enumerate(samples):
        sample["servers"]["green-1@app1"]["requests"] = 1000 + i

    assert held(samples[:20]).verdict is None
    assert held(samples).verdict is Verdict.UNKNOWN
    assert names(held(samples), Verdict.UNKNOWN) == {"requests"}


def test_a_control_without_traffic_proves_nothing() -> None:
    samples = window(seconds=180)
    for sample in samples:
        sample["servers"]["blue-1@app1"]["requests"] = 0

    assert held(samples).verdict is Verdict.UNKNOWN


def test_late_traffic_lets_an_extended_window_pass() -> None:
    samples = window(seconds=100)
    for i, sample in enumerate(samples):
        sample["servers"]["green-1@app1"]["requests"] = 1000 + (i if i < 15 else 100 * i)

    assert held(samples).verdict is Verdict.PASSED


def test_a_scrape_missed_once_is_watched_longer_and_then_passes() -> None:
    samples = window(seconds=75)
    samples[4]["instances"] = {}

    at_the_usual_end = held(samples[:13])

    assert at_the_usual_end.verdict is None
    assert at_the_usual_end.watched_seconds == 50
    assert held(samples).verdict is Verdict.PASSED


def test_a_candidate_that_started_anew_can_never_pass() -> None:
    samples = window(seconds=180)
    for sample in samples[5:]:
        sample["instances"]["green-1@app1"]["started"] = 1024.0

    judgement = held(samples)

    assert judgement.verdict is Verdict.UNKNOWN
    assert judgement.elapsed_seconds == 60
    assert "lost_counters" in names(judgement, Verdict.UNKNOWN)


def test_a_candidate_that_does_not_stay_up_fails_and_is_named() -> None:
    samples = window(seconds=180)
    for i, started in ((5, 1024.0), (9, 1044.0)):
        for sample in samples[i:]:
            sample["instances"]["green-1@app1"]["started"] = started

    judgement = held(samples)

    assert judgement.verdict is Verdict.FAILED
    (finding,) = [f for f in judgement.findings if f.verdict is Verdict.FAILED]
    assert (finding.name, finding.measured) == ("restarts", 2)
    assert "green-1@app1 2 times" in finding.hint


def without(sample: Sample, part: str) -> None:
    sample[part] = {}


def not_a_number(sample: Sample, part: str, counter: str) -> None:
    sample[part]["green-1@app1"][counter] = math.nan


BREAKS: dict[str, Any] = {
    "nothing was scraped": lambda s: without(s, "instances"),
    "no server was seen": lambda s: without(s, "servers"),
    "the sample is empty": dict.clear,
    "requests are not a number": lambda s: not_a_number(s, "servers", "requests"),
    "errors are not a number": lambda s: not_a_number(s, "servers", "errors"),
    "deadlocks are not a number": lambda s: not_a_number(s, "instances", "deadlocks"),
    "busy is missing": lambda s: s["instances"]["green-1@app1"].pop("busy"),
    "started is missing": lambda s: s["instances"]["green-1@app1"].pop("started"),
    "nobody knows whether it is up": lambda s: s["servers"]["green-1@app1"].pop("up"),
    "requests are text": lambda s: s["servers"]["green-1@app1"].update(requests="100"),
    "requests are negative": lambda s: s["servers"]["green-1@app1"].update(requests=-1),
    "requests fell": lambda s: s["servers"]["green-1@app1"].update(requests=0),
    "the time is not a number": lambda s: s.update(at=math.nan),
    "the clock went back": lambda s: s.update(at=s["at"] - 10),
    "the clock went ahead": lambda s: s.update(at=s["at"] + 3600),
    "the control is not seen": lambda s: s["servers"].pop("blue-1@app1"),
    "retries are missing": lambda s: s["instances"]["green-1@app1"].pop("retries"),
    "limited requests are missing": lambda s: s["instances"]["green-1@app1"].pop("unjudged"),
    "another process answers": lambda s: s["instances"]["green-1@app1"].update(started=901.0),
    "the deadlock counter fell": lambda s: s["instances"]["green-1@app1"].update(deadlocks=-0.5),
}


@pytest.mark.parametrize("mutation", BREAKS)
@pytest.mark.parametrize("where", [1, 6, 12])
def test_a_broken_sample_never_lets_the_window_pass_on_time(mutation: str, where: int) -> None:
    samples = window()
    BREAKS[mutation](samples[where])

    assert held(samples).verdict is not Verdict.PASSED


@pytest.mark.parametrize("mutation", BREAKS)
def test_a_break_in_every_second_sample_never_passes(mutation: str) -> None:
    samples = window(seconds=400)
    for sample in samples[2::2]:
        BREAKS[mutation](sample)

    # What nobody saw is no harm either; only a process that is another one each time is.
    harmful = mutation == "another process answers"
    assert held(samples).verdict in ((Verdict.FAILED,) if harmful else (Verdict.UNKNOWN, None))


def test_a_hole_between_samples_is_not_watched_time() -> None:
    samples = window()
    del samples[3:8]

    assert held(samples).verdict is None
    assert held(samples).watched_seconds == 30


def test_no_samples_are_an_open_window() -> None:
    assert held([]).verdict is None


def test_empty_samples_end_unknown() -> None:
    samples: list[Sample] = [{"at": 1000.0 + 5 * i, "servers": {}, "instances": {}} for i in range(60)]

    assert held(samples).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "wrong",
    [
        *({"min_requests": 0}, {"seconds": 0}, {"seconds": math.nan}, {"max_seconds": 1}, {"alpha": 0}),
        *(
            {"max_seconds": math.inf},
            {"baseline_requests": 0},
            {"max_slow_ratio": 1},
            {"alpha": 5e-324},
            {"warmup_seconds": 181},
        ),
        *({"connections_ratio": 0}, {"lock_wait_seconds": math.inf}, {"deadlocks": math.nan}),
        *({"alpha_weights": {"errors": 1}}, {"alpha_weights": dict.fromkeys(comparisons.TRIALS, 0.5)}),
    ],
    ids=str,
)
def test_limits_that_would_pass_on_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.* is not a window limit"):
        WindowLimits(**(GIVEN | wrong))


def test_a_candidate_is_not_judged_beside_itself() -> None:
    with pytest.raises(ValueError, match="two slots"):
        WindowJudge(LIMITS, "green", "green")


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda children: (
        st.lists(children, max_size=2) | st.dictionaries(st.text(max_size=3), children, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(where=st.integers(0, 12), data=st.data())
def test_nothing_that_stands_where_a_number_should_makes_the_judge_stumble(
    where: int, data: st.DataObject
) -> None:
    samples = window()
    part = data.draw(st.sampled_from(["at", "servers", "instances", "server", "instance"]))
    value = data.draw(anything)
    if part in ("at", "servers", "instances"):
        samples[where][part] = value
    else:
        field = data.draw(
            st.sampled_from(["requests", "errors", "up", "slot", "started", "deadlocks", "busy"])
        )
        samples[where][f"{part}s"]["green-1@app1"][field] = value

    judgement = held(samples)

    assert judgement.verdict in (None, *Verdict)
    json.dumps([str(finding) for finding in judgement.findings])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), rate=st.floats(0, 0.1))
def test_a_verdict_once_given_stays_and_a_window_judged_twice_says_the_same(seed: int, rate: float) -> None:
    samples = simulated(random.Random(seed), 120, rate, 0.005)
    live = WindowJudge(LIMITS, "green", "blue")

    told = [live.add(sample).verdict for sample in samples]

    decided = [verdict for verdict in told if verdict is not None]
    assert len(set(decided)) <= 1
    assert held(samples) == live.judgement
    assert held(json.loads(json.dumps(samples))) == live.judgement


EVERY_BREAK = BREAKS | DATABASE_BREAKS


@settings(max_examples=150, deadline=None)
@given(
    broken=st.lists(
        st.tuples(st.sampled_from(sorted(EVERY_BREAK)), st.integers(1, 12)), min_size=1, max_size=4
    )
)
def test_no_mixture_of_breaks_lets_a_window_pass_on_time(broken: list[tuple[str, int]]) -> None:
    samples = window()
    for mutation, where in broken:
        with suppress(
            LookupError, AttributeError, TypeError
        ):  # what is gone already cannot be broken once more
            EVERY_BREAK[mutation](samples[where])

    assert held(samples).verdict is not Verdict.PASSED


def simulated(chance: random.Random, seconds: int, candidate: float, control: float) -> list[Sample]:
    """Two slots at a 20/80 share of 100 requests per second, sampled every 5 s, with these error ratios."""
    totals = {"green": [0, 0], "blue": [0, 0]}
    samples = []
    for at in range(0, seconds + 1, 5):
        servers = {
            f"{slot}-1@app1": {"slot": slot, "requests": n, "errors": k, "up": True}
            for slot, (n, k) in totals.items()
        }
        instances = {name: instance(totals[name.split("-")[0]][0]) for name in servers}
        samples.append(
            {
                "at": 1000.0 + at,
                "servers": servers,
                "instances": instances,
                "database": reading(1000.0 + at),
            }
        )
        for slot, mean, ratio in (("green", 100, candidate), ("blue", 400, control)):
            arrived = max(1, round(chance.gauss(mean, math.sqrt(mean))))
            totals[slot][0] += arrived
            totals[slot][1] += sum(chance.random() < ratio for _ in range(arrived))
    return samples


def test_healthy_windows_are_hardly_ever_failed_however_often_they_are_looked_at() -> None:
    chance = random.Random(7)

    failed = sum(held(simulated(chance, 60, 0.008, 0.008)).verdict is Verdict.FAILED for _ in range(200))

    assert failed <= 6  # the 99.9th percentile of a binomial of 200 at alpha 0.01


def test_a_candidate_ten_times_worse_is_found_in_nearly_every_window() -> None:
    chance = random.Random(11)

    failed = sum(held(simulated(chance, 60, 0.05, 0.005)).verdict is Verdict.FAILED for _ in range(40))

    assert failed >= 38


def test_the_slo_alone_hardly_ever_fails_a_candidate_that_just_meets_it() -> None:
    chance = random.Random(13)

    failed = sum(held(simulated(chance, 60, 0.01, 0.01), None).verdict is Verdict.FAILED for _ in range(200))

    assert failed <= 6


def test_importing_the_judge_imports_nothing_slow() -> None:
    slow = ["aiohttp", "asyncio", "psycopg2", "psutil", "subprocess", "ssl"]
    script = f"import sys, checks.window.judge; print([m for m in {slow!r} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def growing(megabytes: int, slot: str = "green") -> list[Sample]:
    """A window in which one process of a slot grows to so much memory."""
    samples = window()
    for i, sample in enumerate(samples):
        sample["instances"][f"{slot}-1@app1"]["resident_mb"] = 80 + (megabytes - 80) * i / (len(samples) - 1)
    return samples


def test_a_process_that_outgrows_its_limit_fails_the_window_and_is_named() -> None:
    judgement = held(growing(401))

    assert names(judgement, Verdict.FAILED) == {"resident_mb"}
    (finding,) = [f for f in judgement.findings if f.name == "resident_mb"]
    assert "green-1@app1 is the largest process" in finding.hint


def test_a_process_that_grows_within_its_limit_passes_and_the_old_slots_is_not_judged() -> None:
    assert held(growing(399)).verdict is Verdict.PASSED
    assert held(growing(900, "blue")).verdict is Verdict.PASSED


def test_a_whole_number_that_no_float_can_be_is_no_reading() -> None:
    samples = window(seconds=200)
    for sample in samples:
        sample["database"]["connections"] = 10**400

    assert held(samples).verdict is Verdict.UNKNOWN
