"""What a window says: few words, the most telling first, and what it costs before it has seen anything."""

import random
import statistics
from typing import Any

import pytest

from checks.base.report import Finding, Verdict
from checks.window.absence import Proof
from checks.window.detectable import claim
from checks.window.exposure import Traffic, cost, steps
from checks.window.judge import Judgement, WindowJudge
from checks.window.limits import WindowLimits
from checks.window.words import reasons, standing, summarise
from tests.simulated_causes import Make, answers
from tests.simulated_requests import NEW, OLD, World, samples

LIMITS = WindowLimits(600, 1800, 100, 0.01, scrape_gap_seconds=15, watch_database=False, by_request=True)


def watched(make: Make | None, per_minute: float, share: int = 25, seconds: float = 1800) -> Judgement:
    window = WindowJudge(LIMITS, NEW, OLD, share=share)
    world = make(random.Random(1)) if make else World()
    return window.add_all(samples(1, seconds, per_minute, share / 100, world))


def test_a_window_that_passed_says_what_it_proved() -> None:
    said = summarise(watched(None, 600))

    assert "; errors at most 0." in said
    assert "points above the old slot (95 %); slow answers " in said
    assert "missing answers " in said


def test_an_open_window_says_how_many_more_requests_it_needs_and_for_how_long() -> None:
    found = standing(watched(None, 60, seconds=650))

    assert found["evidence"].startswith("errors: new ")
    assert any("more requests, " in one and "at this rate: " in one for one in found["waiting_for"])
    assert len(found["waiting_for"]) <= 4


def test_a_failed_window_names_its_evidence_the_route_and_the_visitors() -> None:
    said = summarise(watched(answers({"5xx": 0.1}), 600))

    assert "errors: new " in said
    assert "fails at 4.61" in said
    assert said.count("What failed is in the new slot's log") == 1
    assert "failed 6 visitors, by route: POST /api/notes/N/view 3 of 15, " in said


def test_what_is_more_than_a_few_is_in_the_evidence() -> None:
    unknown = tuple(Finding(f"name_{n}", 0, ">=", 1, Verdict.UNKNOWN) for n in range(5))

    told = reasons(Judgement(None, unknown))

    assert told == [*(str(found) for found in unknown[:3]), "and 2 more: ./p12 evidence"]


def test_what_more_requests_will_not_prove_is_not_promised() -> None:
    found = (Finding("errors_at_most_ratio", 0.05, "<=", 0.02, Verdict.UNKNOWN),)

    (told,) = reasons(Judgement(None, found, proofs=(Proof("errors", 0.05, 0.02, None),)))

    assert told == (
        "more requests like those before would not prove less: "
        "errors may be 5 points above the old slot (tolerable 2)"
    )


@pytest.mark.parametrize(
    ("per_minute", "share", "said"),
    [
        (600, 25, "can prove errors at most 2 points above the old slot in about 10 min at this rate"),
        (3, 5, "so little traffic: only a release that fails every request would be noticed"),
        (1, 5, "so little traffic: nothing would be noticed"),
        (60, 5, "too little traffic to prove errors at most 5 points above the old slot in 30 min (about "),
    ],
)
def test_before_it_has_seen_anything_a_window_says_what_it_can_prove(
    per_minute: float, share: int, said: str
) -> None:
    assert claim(LIMITS, per_minute, share, has_control=True).startswith(said)


def test_before_a_step_it_is_said_how_many_visitors_a_bad_release_would_fail() -> None:
    assert cost(LIMITS, 600, 5) == "at 5 %: about 4 visitors fail until a 5 % fault is found"
    assert cost(LIMITS, 600, 100) == cost(LIMITS, None, 5) == cost(LIMITS, 1, 5) == ""


@pytest.mark.parametrize(
    ("share", "per_minute", "ratio"), [(5, 600, 0.05), (25, 600, 0.02), (25, 120, 0.2), (5, 6000, 0.02)]
)
def test_the_expected_time_and_cost_are_those_of_simulated_windows(
    share: int, per_minute: float, ratio: float
) -> None:
    traffic = Traffic(LIMITS, per_minute, share)
    found: list[Any] = []
    for seed in range(12):
        world = answers({"5xx": ratio})(random.Random(seed))
        window = WindowJudge(LIMITS, NEW, OLD, share=share)
        found.append(window.add_all(samples(seed, 1800, per_minute, share / 100, world)))

    assert traffic.minutes_to_find(ratio) == pytest.approx(
        statistics.median(f.elapsed_seconds / 60 for f in found), rel=0.5, abs=0.17
    )
    assert traffic.visitors_until_found(ratio) == pytest.approx(
        statistics.mean(f.errors for f in found), rel=0.5
    )


def test_steps_rise_as_fast_as_few_enough_visitors_are_expected_to_fail() -> None:
    given = [5, 25, 100]

    assert steps(LIMITS, 600, given, 20) == [50]
    assert steps(LIMITS, 600, given, 6.5)[0] == 25
    assert steps(LIMITS, 600, given, 5) == [10, 25]
    assert steps(LIMITS, 6000, given, 20) == [25, 50]


def test_steps_that_nobody_can_prove_or_pay_for_are_the_sites() -> None:
    assert steps(LIMITS, 600, [5, 25, 100], 0.5) == [5, 25]
    assert steps(LIMITS, 20, [5, 25, 100], 1000) == [5, 25]


@pytest.mark.parametrize("per_minute", [20, 600, 6000])
@pytest.mark.parametrize("most", [3, 20, 200])
def test_each_step_costs_no_more_than_is_allowed_or_is_the_next_one(per_minute: float, most: float) -> None:
    found = steps(LIMITS, per_minute, [5, 25, 100], most)

    assert found == sorted(set(found))
    assert max(found) < 100
    first = Traffic(LIMITS, per_minute, found[0])
    assert found[0] == 5 or first.visitors_at_most(0.05) <= most


def test_a_window_that_may_hurry_is_as_long_as_its_proof_needs() -> None:
    assert Traffic(LIMITS, 60000, 50).seconds_of_proof() == LIMITS.seconds * 0.2
    assert 120 < Traffic(LIMITS, 600, 25).seconds_of_proof() < 600
    assert Traffic(LIMITS, 60, 5).seconds_of_proof() == LIMITS.seconds
