"""What the judge finds, and how often it alarms falsely: simulated with fixed seeds, through real windows."""

import math
import statistics
from collections.abc import Mapping

import pytest

from checks.base.report import Verdict
from checks.window.detectable import Rates, minutes_to_find
from checks.window.judge import WindowJudge
from checks.window.limits import WindowLimits
from tests.simulated import HEALTHY, minutes

LOOKS = 120
LIMITS = WindowLimits(
    seconds=60 * LOOKS,
    max_seconds=60 * LOOKS,
    min_requests=1000,
    max_error_ratio=0.01,
    scrape_gap_seconds=90,
    warmup_seconds=60,
    baseline_requests=400,
    watch_database=False,
)


def simulate(seed: int, worse: Mapping[str, float], per_minute: tuple[int, int] = (100, 100)) -> WindowJudge:
    """Watch one window minute by minute until it has a verdict; the candidate has the ``worse`` ratios."""
    window = WindowJudge(LIMITS, "green", "blue")
    for sample in minutes(seed, LOOKS, worse, per_minute):
        if window.add(sample).verdict is not None:
            break
    return window


def minutes_found(
    worse: Mapping[str, float], runs: int = 41, per_minute: tuple[int, int] = (100, 100)
) -> list[float]:
    """When each window failed, in minutes; infinity for one that did not."""
    windows = [simulate(seed, worse, per_minute).judgement for seed in range(runs)]
    return [w.elapsed_seconds / 60 if w.verdict is Verdict.FAILED else math.inf for w in windows]


@pytest.mark.parametrize("runs", [40, pytest.param(600, marks=pytest.mark.slow)])
@pytest.mark.parametrize("per_minute", [(100, 100), (10, 190)])
def test_healthy_windows_looked_at_every_minute_alarm_falsely_in_at_most_one_of_a_hundred(
    per_minute: tuple[int, int], runs: int
) -> None:
    verdicts = [simulate(seed, {}, per_minute).judgement.verdict for seed in range(runs)]

    assert verdicts.count(Verdict.FAILED) <= runs / 100
    assert verdicts.count(Verdict.FAILED) + verdicts.count(Verdict.PASSED) == len(verdicts)


def test_a_release_that_is_better_than_the_old_one_is_not_failed_for_it() -> None:
    better = {name: ratio / 3 for name, ratio in HEALTHY.items()}

    assert {simulate(seed, better).judgement.verdict for seed in range(10)} == {Verdict.PASSED}


@pytest.mark.parametrize(("ratio", "limit"), [(0.01, 15), (0.02, 7)])
def test_errors_that_rose_are_found_in_minutes(ratio: float, limit: float) -> None:
    found = minutes_found({"errors": ratio})

    assert statistics.median(found) <= limit
    assert math.isfinite(max(found))


@pytest.mark.parametrize("event", HEALTHY)
def test_the_worse_it_is_the_sooner_and_the_more_often_it_is_found(event: str) -> None:
    found = [minutes_found({event: factor * HEALTHY[event]}, runs=9) for factor in (1, 2, 4, 8, 16)]

    shares = [sum(map(math.isfinite, times)) for times in found]
    medians = [statistics.median(times) for times in found]
    assert shares == sorted(shares)
    assert medians == sorted(medians, reverse=True)
    assert shares[-1] == 9


@pytest.mark.parametrize(
    ("candidate", "control", "ratio"),
    [(100, 100, 0.01), (100, 100, 0.02), (10, 190, 0.02), (50, 150, 0.01), (500, 1500, 0.005)],
)
def test_what_is_declared_before_a_window_is_what_it_then_does(
    candidate: int, control: int, ratio: float
) -> None:
    declared = minutes_to_find(LIMITS, Rates(candidate, control), HEALTHY["errors"], ratio)

    found = statistics.median(minutes_found({"errors": ratio}, 31, (candidate, control)))

    assert declared / 1.5 <= found <= declared * 1.5
