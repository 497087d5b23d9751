"""What no single window shows: whole rollouts, blind windows, and that worse is never judged better."""

import random
from collections import Counter

import pytest

from benchmarks.judging_cases import Case, judged
from benchmarks.judging_sweeps import Sweep, blinded, rollout, swept
from checks.base.report import Verdict
from checks.window.by_request import ByRequest
from checks.window.cells import quantile
from checks.window.evidence import Before
from checks.window.limits import WindowLimits
from tests import simulated_causes as causes
from tests.simulated_requests import NEW, OLD, ROUTES, timings
from tests.simulated_sight import SPOILED

LIMITS = WindowLimits(600, 1800, 100, 0.01, by_request=True)


def test_a_healthy_release_passes_all_of_its_windows() -> None:
    assert rollout(1) is Verdict.PASSED


@pytest.mark.parametrize("name", SPOILED)
def test_a_window_that_cannot_see_is_unknown_and_says_why(name: str) -> None:
    assert blinded(name, 1)["holds"]


@pytest.mark.parametrize("sweep", [Sweep("5xx", 25, 600), Sweep("404", 50, 120), Sweep("slower", 25, 120)])
def test_worse_is_never_judged_better(sweep: Sweep) -> None:
    found = swept(sweep, 2)

    assert found["holds"], found
    assert found["passed"][-1] == 0
    assert found["stopped"][-1] == 1


@pytest.mark.parametrize("seed", range(3))
def test_what_no_slot_answered_is_held(seed: int) -> None:
    result = judged(Case("fault", "", causes.unserved(12), 25, minutes=10), seed)

    assert result.verdict is Verdict.HELD
    assert "unserved_ln_e" in result.deciding


@pytest.mark.parametrize("seed", [2002, 8002, 31002])
def test_what_no_slot_answered_late_in_a_window_is_no_pass(seed: int) -> None:
    assert judged(Case("fault", "", causes.unserved(6, 300), 25, minutes=10), seed).verdict is Verdict.HELD


def test_a_few_that_no_slot_answered_are_no_harm() -> None:
    assert judged(Case("healthy", "", causes.unserved(0.5), 25, minutes=10), 1).verdict is Verdict.PASSED


def test_what_no_slot_answered_is_held_against_what_it_was_before() -> None:
    """One in 50 was never answered before either: then it is nothing new."""
    known = ByRequest(LIMITS, NEW, OLD, 25, before=Before({"unserved": 0.02}))
    unknown = ByRequest(LIMITS, NEW, OLD, 25)
    for judging in (known, unknown):
        for at in range(10, 610, 10):
            cells = [[at, slot, "r", "2xx", 49, 49, 1, {50: 49}] for slot in (NEW, OLD)]
            cells += [[at, "", "r", "503", 2, 2, 1, {}]]
            judging.add(at, 10, {"cells": cells, "marks": {"2": [at, at + 1]}, "clients": {NEW: 9, OLD: 9}})

    held = [
        [f.name for f in judging.findings(True) if f.verdict is Verdict.HELD] for judging in (known, unknown)
    ]
    assert held == [[], ["unserved_ln_e"]]


def test_both_slots_failing_more_is_held_and_never_blamed_on_the_new_one() -> None:
    make = causes.answers({"5xx": 0.05}, 120, both=True)

    verdicts = {judged(Case("fault", "", make, 25, minutes=10), seed).verdict for seed in range(3)}

    assert verdicts == {Verdict.HELD}


def test_the_simulated_slow_tail_is_a_p99_of_three_times() -> None:
    def p99(tail: tuple[float, float]) -> float:
        chance, found = random.Random(1), Counter[int]()
        for part, median in ROUTES.values():
            found.update(timings(chance, int(40_000 * part), median, 0, tail))
        return quantile(found, 0.99) or 0

    assert 2.7 < p99((0.02, 13)) / p99((0, 1)) < 3.3
