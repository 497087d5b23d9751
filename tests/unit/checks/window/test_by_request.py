"""Judged by the request: what befalls healthy releases fails none, and what is broken is found and named."""

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.judging_cases import Case, judged
from checks.base.report import Verdict
from checks.window.absence import Tolerable, difference, upper
from checks.window.by_request import ByRequest
from checks.window.detectors import RESTARTS, Beside, Dispersion, Runs
from checks.window.judge import WindowJudge
from checks.window.levels import averaging
from checks.window.limits import WindowLimits
from checks.window.passing import Passing
from checks.window.streams import Block, Fold, effective
from tests import simulated_causes as causes
from tests.simulated_causes import NOTE, Make, answers, fewer, slower, tail
from tests.simulated_requests import NEW, OLD, World, samples

LIMITS = WindowLimits(600, 1800, 100, 0.01, scrape_gap_seconds=15, watch_database=False)
STOPPED = (Verdict.FAILED, Verdict.HELD)


@pytest.mark.parametrize("name", causes.HEALTHY)
@pytest.mark.parametrize("seed", range(3))
def test_what_befalls_healthy_releases_fails_none(name: str, seed: int) -> None:
    case = Case("healthy", name, causes.HEALTHY[name], (5, 25, 50)[seed], minutes=10)

    assert judged(case, seed).verdict is not Verdict.FAILED


FAULTS: dict[str, tuple[Make, int, str]] = {
    "redirects": (answers({"3xx": 0.2}), 25, "redirected"),
    "404s": (answers({"404": 0.2}), 25, "not_found"),
    "errors": (answers({"5xx": 0.05}), 25, "failed"),
    "requests gone": (fewer(0.03), 25, "missing"),
    "ten times as slow": (slower(10, 400), 25, "latency"),
    "a slow tail": (tail(0.05, 10), 25, "slow_p"),
    "a route that fails": (answers({"5xx": 1.0}, route=causes.RARE), 25, "failed"),
    "both slots slower": (slower(4, 120, both=True), 25, "shared"),
    "both slots fail": (answers({"503": 0.3}, 120, both=True), 25, "shared"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_broken_is_stopped_and_named(name: str, seed: int) -> None:
    make, share, named = FAULTS[name]

    result = judged(Case("fault", name, make, share, minutes=10), seed)

    assert result.verdict in STOPPED
    assert (result.verdict is Verdict.HELD) == (named == "shared")
    assert any(found.startswith(named) for found in result.deciding)


def test_what_a_slot_gives_instead_of_the_answers_that_it_lacks_is_named() -> None:
    window = WindowJudge(replace(LIMITS, by_request=True), NEW, OLD, share=25)

    for sample in samples(1, 600, 600, 0.25, answers({"3xx": 1.0}, route=NOTE)(random.Random(1))):
        window.add(sample)

    (lacks,) = [f for f in window.judgement.findings if f.name == "missing_against_control"]
    assert lacks.sentence.startswith("answers: the new slot lacks")
    assert "redirects (3xx) more" in lacks.sentence


def test_the_route_that_a_slow_tail_is_of_is_named() -> None:
    window = WindowJudge(replace(LIMITS, by_request=True), NEW, OLD, share=50)

    for sample in samples(1, 300, 600, 0.5, slower(10, route=causes.RARE)(random.Random(1))):
        window.add(sample)

    (tail_of_all,) = [f for f in window.judgement.findings if f.name == "slow_p95_against_control_ln_e"]
    assert f"most of them on {causes.RARE}" in tail_of_all.sentence


def test_a_late_fault_is_found_nearly_as_fast_as_an_early_one() -> None:
    def found(begin: float) -> float:
        case = Case("errors", "", answers({"5xx": 0.04}, 60 * begin), 50, 200, 60, begin)
        return sum(judged(case, seed).minute - begin for seed in range(2)) / 2

    assert found(40) <= 1.5 * found(0)


def test_a_window_passes_only_on_a_proof_and_says_what_it_needs() -> None:
    window = WindowJudge(LIMITS, NEW, OLD, share=25)

    for sample in samples(1, 700, 30, 0.25, World()):
        window.add(sample)

    (errors,) = [f for f in window.judgement.findings if f.name == "errors_at_most_ratio"]
    assert window.judgement.verdict is None
    assert errors.verdict is Verdict.UNKNOWN
    assert "Needs about" in errors.hint
    assert "at this rate" in errors.hint


def test_traffic_that_ends_is_no_pass() -> None:
    window = WindowJudge(LIMITS, NEW, OLD, share=25)

    for sample in samples(1, 1800, 600, 0.25, World(rate=lambda at: 1.0 if at < 300 else 0.0)):
        window.add(sample)

    assert window.judgement.verdict is Verdict.UNKNOWN
    assert "silent_seconds" in {f.name for f in window.judgement.findings if f.verdict is Verdict.UNKNOWN}


def test_a_log_that_is_not_whole_is_not_watched() -> None:
    window = WindowJudge(LIMITS, NEW, OLD, share=25)

    for sample in samples(1, 1800, 600, 0.25, World()):
        sample["requests"]["broken"] = ["half of it is missing"]
        window.add(sample)

    assert window.judgement.verdict is Verdict.UNKNOWN


def test_without_by_request_the_request_log_decides_nothing() -> None:
    window = WindowJudge(replace(LIMITS, by_request=False), NEW, OLD, share=25)

    for sample in samples(1, 60, 600, 0.25, causes.answers({"404": 1.0})(random.Random(1))):
        window.add(sample)

    assert not [f for f in window.judgement.findings if f.name.startswith("not_found")]


def test_restarted_bets_are_a_fair_bet_together() -> None:
    """The weight of all beginnings is one, so that the expected evidence never exceeds one."""
    test = Beside()
    for _ in range(RESTARTS):
        test.evidence.restart()

    assert test.evidence.value == pytest.approx(1)
    assert Beside(passed=RESTARTS).evidence.value == pytest.approx(1)


def test_one_client_that_tries_again_is_one_piece_of_evidence() -> None:
    fold, marked = Fold((NEW, OLD)), Block(0)
    runs, unmarked = Fold((NEW, OLD)), Block(0)
    for second in range(40):
        cells = [[second, NEW, "r", "5xx", 3, 1, 3, {}]]
        fold.add(marked, cells, {"0": [7]})
        runs.add(unmarked, cells, {})

    assert marked.events["failed", NEW] == pytest.approx(1)
    assert unmarked.events["failed", NEW] == pytest.approx(1)


def test_where_all_come_from_one_address_a_second_is_one_piece() -> None:
    fold, block = Fold((NEW, OLD), is_anonymous=True), Block(0)
    for second in range(5):
        fold.add(block, [[second, NEW, "r", "5xx", 3, 1, 3, {}]], {})

    assert block.events["failed", NEW] == pytest.approx(5)


def test_clients_that_were_there_all_along_count_once_in_a_run() -> None:
    runs = Runs()

    assert [runs.pieces(second, clients) for second, clients in ((1, 1), (2, 1), (3, 3), (60, 2))] == [
        1,
        0,
        2,
        2,
    ]


def test_a_robots_many_requests_are_few_pieces_of_health() -> None:
    assert effective(10, 10, 1) == 10
    assert effective(510, 11, 500) < 20


def test_independent_counts_scatter_as_such_and_clumped_ones_more() -> None:
    chance = random.Random(1)
    even, clumped = Dispersion(), Dispersion()
    for _ in range(500):
        even.add(100, sum(chance.random() < 0.05 for _ in range(100)))
        clumped.add(100, 20 * sum(chance.random() < 0.0025 for _ in range(100)))

    assert even.factor < 1.2
    assert clumped.factor > 5


@pytest.mark.parametrize(("events", "trials"), [(0, 100), (3, 1000), (50, 1000)])
def test_a_bound_lies_above_the_ratio_and_holds_however_often_it_is_looked_at(
    events: int, trials: int
) -> None:
    assert events / trials < upper(events, trials, 0.05) < 1

    chance, broken = random.Random(events), 0
    for _ in range(100):
        seen, above = 0, True
        for n in range(1, 400):
            seen += chance.random() < 0.03
            above &= n % 20 > 0 or upper(seen, n, 0.05) >= 0.03
        broken += not above
    assert broken <= 10


def test_a_difference_is_proven_small_only_on_enough_requests() -> None:
    assert difference("errors", (6, 6000), (6, 6000), 0.003).holds
    few = difference("errors", (0, 100), (6, 6000), 0.003)
    assert not few.holds
    assert few.needs
    assert not difference("errors", (0, 0), (6, 6000), 0.003).holds
    assert difference("errors", (600, 6000), (6, 6000), 0.003).needs is None


def test_what_is_tolerated_follows_the_share() -> None:
    assert LIMITS.tolerable_at(5) == Tolerable(0.05, 0.1, 0.5)
    assert LIMITS.tolerable_at(98) == Tolerable(0.003, 0.03, 0.25)


def test_the_mean_of_values_that_hang_together_is_less_sure() -> None:
    assert averaging(1, 0.9) == pytest.approx(1)
    assert 1 / 100 < averaging(100, 0.9) < averaging(100, 0.98) < 1


def test_an_old_slot_that_becomes_worse_is_held() -> None:
    judging = ByRequest(LIMITS, NEW, OLD, 25)
    for at in range(10, 1200, 10):
        failed = 1 if at > 700 else 0
        cells = [[at, slot, "r", "5xx", failed, failed, 1, {}] for slot in (NEW, OLD) if failed]
        cells += [[at, slot, "r", "2xx", 20, 20, 1, {50: 20}] for slot in (NEW, OLD)]
        judging.add(at, 10, {"cells": cells, "clients": {NEW: 9, OLD: 9}})

    held = [f.name for f in judging.findings(False) if f.verdict is Verdict.HELD]
    assert held == ["old_slot_worsened_ln_e"]
    assert not math.isnan(judging.evidence.log_e("failed")[0])


def test_what_no_database_gives_tells_while_both_slots_are_slow() -> None:
    world = answers({"404": 1.0}, route=causes.RARE)(random.Random(1))
    world.slower = lambda m: 2.0 if int(m.at) % 40 >= 20 and m.at > 60 else 0.0
    limits = replace(LIMITS, shared_seconds=1e6)
    window = WindowJudge(limits, NEW, OLD, share=50)

    for sample in samples(1, 300, 600, 0.5, world):
        window.add(sample)

    assert window.judgement.verdict is Verdict.FAILED
    assert any(found.name.startswith("not_found") for found in window.judgement.findings)


def test_who_was_harmed_while_both_slots_suffered_may_fail_anew() -> None:
    """A few clients that come again and again meet a storm in both slots, and then the new one's errors."""
    fold, block = Fold((NEW, OLD)), Block(0)
    harmed = [[1, NEW, "GET /", "5xx", 3, 3, 1, {}]]
    fold.add(block, harmed, {"0": [7, 8, 9]})
    fold.settle(is_counted=False)
    again = Block(10)
    fold.add(again, [[11, *harmed[0][1:]]], {"0": [7, 8, 9]})
    fold.settle(is_counted=True)
    still = Block(20)
    fold.add(still, [[21, *harmed[0][1:]]], {"0": [7, 8, 9]})

    assert [each.events["failed", NEW] for each in (block, again, still)] == [3, 3, 0]


def test_a_rare_route_that_fails_now_and_then_is_no_pass_though_all_routes_together_are_well() -> None:
    """Eight of some 75 of its requests failed: of all requests together that is half a point."""
    case = Case("fault", "", answers({"5xx": 0.2}, route=causes.RARE), 25, minutes=10)

    assert judged(case, 47002).verdict is Verdict.FAILED

    found, healthy = (Passing(NEW, OLD, 0.25, 60, Tolerable(errors=0.02)) for _ in range(2))
    for at in range(10, 610, 10):
        for passing, failed in ((found, at % 70 == 0), (healthy, False)):
            block = Block(at - 10)
            for slot, n in ((NEW, 1), (OLD, 4)):
                block.judged[slot, causes.RARE] = n
            block.route_events["failed", causes.RARE, NEW] = failed
            passing.add(at, block, {})

    assert not (found.worst_route() or pytest.fail("no proof")).holds
    assert (healthy.worst_route() or pytest.fail("no proof")).holds


def test_both_slots_that_fail_altogether_are_not_taken_for_usual() -> None:
    """However few requests tell it; only the warm-up of a few blocks was well."""
    fails = answers({"5xx": 1.0}, 60, both=True)(random.Random(0))
    judge = ByRequest(LIMITS, NEW, OLD, 25)
    for at, sample in enumerate(samples(3, 300, 450, 0.25, fails)):
        judge.add(10.0 * at, 10.0, sample["requests"])

    assert judge.evidence.shared_seconds > 200


def test_what_was_asked_for_before_a_share_was_given_is_no_part_of_it() -> None:
    """A stall ends two seconds after a share was given: the old slot alone has answers of before it."""
    found = {"clients": {NEW: 20, OLD: 150}, "cells": []}
    waited = {
        **found,
        "cells": [cell(NEW, 22, {38: 22}), cell(OLD, 22, {38: 22}), cell(OLD, 130, {215: 130})],
    }
    asked_later = {**found, "cells": [cell(NEW, 22, {38: 22}), cell(OLD, 152, {38: 152})]}

    assert lack(waited) == pytest.approx(0.0, abs=0.01)
    assert lack(asked_later) == pytest.approx(0.78, abs=0.02)


def test_retries_of_a_stall_that_one_slot_has_a_moment_earlier_blame_nobody() -> None:
    judge = WindowJudge(LIMITS, NEW, OLD, share=50)
    for sample in samples(3, 120, 600, 0.5, World()):
        late = {**sample["instances"][NEW], "retries": 30 if sample["at"] >= 60 else 0}
        judge.add({**sample, "instances": {**sample["instances"], NEW: late}})

    assert judge.judgement.verdict is Verdict.HELD
    assert [found.name for found in judge.judgement.findings if found.verdict is Verdict.HELD] == [
        "retries_against_control_ln_e"
    ]


@pytest.mark.parametrize(("seconds", "fails"), [(10, False), (20, False), (30, False), (120, True)])
def test_a_slot_whose_requests_hang_for_a_moment_lacks_nothing(seconds: int, fails: bool) -> None:
    """A stall of the database caught the new slot's few threads; HAProxy passes the rest to the other one."""
    judge = ByRequest(LIMITS, NEW, OLD, 80)
    for look in range(1, 31):
        new, old = (20, 980) if 0 <= 10 * look - 150 < seconds else (800, 200)
        cells = [cell(NEW, new, {38: new}), cell(OLD, old, {38: old})]
        judge.add(10.0 * look, 10.0, {"clients": {NEW: new, OLD: old}, "cells": cells})

    (found,) = [each for each in judge.findings(True) if each.name == "missing_against_control"]
    assert (found.verdict is Verdict.FAILED) == fails


def cell(slot: str, answers: int, buckets: dict[int, int]) -> list[Any]:
    return [0, slot, "GET /api/notes", "2xx", answers, answers, 1, buckets]


def lack(found: Mapping[str, Any]) -> float:
    """How much the new slot lacks of a half, as ln, if the first two seconds brought this."""
    judge = ByRequest(LIMITS, NEW, OLD, 50)
    usual = {**found, "cells": [cell(NEW, 22, {38: 22}), cell(OLD, 22, {38: 22})]}
    for look in range(1, 6):
        judge.add(2.0 * look, 2.0, found if look == 1 else usual)
    return judge.evidence.passing.missing.values[0][0]


def test_a_burning_last_window_is_held_while_the_few_requests_of_the_old_slot_may_be_well_by_chance() -> None:
    """A stall of both slots: a fifth of what is asked fails, and of the holdback's fifteen none did."""
    assert burning(new=(145, 724), old=(1, 16)) is Verdict.HELD
    assert burning(new=(145, 724), old=(0, 100)) is Verdict.FAILED
    assert burning(new=(145, 724), old=(20, 100)) is Verdict.HELD
    assert burning(new=(700, 700), old=(0, 12)) is Verdict.FAILED


def burning(new: tuple[int, int], old: tuple[int, int]) -> Verdict:
    judging = WindowJudge(WindowLimits(600, 600, 5, 0.01, watch_database=False), NEW, OLD, share=98)
    for sample in list(samples(1, 20, 600, 0.98, World())):
        judging.add(sample)
    judging._breaker.add(30, new[1], new[0])
    judging._old_breaker.add(30, old[1], old[0])
    return judging._burning().verdict
