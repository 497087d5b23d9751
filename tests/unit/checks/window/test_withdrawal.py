"""Harm that goes away with the release was the release's; harm that stays was not; nothing is not nothing."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from checks.base.report import Verdict
from checks.window.limits import WindowLimits
from checks.window.samples import Question
from checks.window.withdrawal import Outcome, Withdrawal
from tests.simulated_causes import Make, answers, quiet, slower, tail
from tests.simulated_requests import NEW, OLD, World, samples

LIMITS = WindowLimits(600, 1800, 100, 0.01, watch_database=False)
HELD_AT = 400.0
HARMS: dict[str, Make] = {
    "errors": answers({"5xx": 0.05}, begin=340, both=True),
    "503s": answers({"503": 0.3}, begin=340, both=True),
    "slow answers": slower(4, begin=340, both=True),
}


def outcome(before: Make, after: Make, seed: int, per_minute: float = 1200) -> Outcome | None:
    """Watch a window that is held at ``HELD_AT`` and what comes after it."""
    looks = samples(seed, HELD_AT, per_minute, 0.25, before(random.Random(seed)))
    watching = Withdrawal(Question("here", NEW, OLD, LIMITS), looks)
    for sample in later(after, seed, per_minute):
        if (found := watching.add(sample)) is not None:
            return found
    return None


def later(after: Make, seed: int, per_minute: float) -> Iterator[dict[str, Any]]:
    for sample in samples(seed + 1, 200, per_minute, 0.0, after(random.Random(seed + 1))):
        yield {**sample, "at": HELD_AT + sample["at"]}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("seed", range(3))
def test_harm_that_goes_away_was_the_releases(harm: str, seed: int) -> None:
    found = outcome(HARMS[harm], quiet, seed)

    assert found
    assert found.verdict is Verdict.FAILED
    assert "went away within" in found.summary


@pytest.mark.parametrize(
    ("harm", "goes_on"),
    [
        (HARMS["errors"], answers({"5xx": 0.05}, both=True)),
        (HARMS["503s"], answers({"503": 0.3}, both=True)),
        (HARMS["slow answers"], slower(4, both=True)),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_harm_that_stays_was_not(harm: Make, goes_on: Make, seed: int) -> None:
    found = outcome(harm, goes_on, seed)

    assert found
    assert found.verdict is Verdict.UNKNOWN


def comes_and_goes(every: float, seconds: float) -> Make:
    """Both slots fail for so many seconds, again and again, and are well in between."""
    return lambda *_: World(statuses=lambda m: {"503": 0.9} if m.at % every < seconds else {})


@pytest.mark.parametrize("seed", range(3))
def test_harm_that_came_and_went_by_itself_is_not_gone_because_it_pauses(seed: int) -> None:
    found = outcome(comes_and_goes(60, 20), quiet, seed)

    assert found
    assert found.verdict is Verdict.UNKNOWN
    assert "came and went by itself before, with pauses of up to 4" in found.summary


@pytest.mark.parametrize("seed", range(3))
def test_harm_with_short_pauses_is_gone_after_a_longer_one(seed: int) -> None:
    found = outcome(comes_and_goes(20, 10), quiet, seed)

    assert found
    assert found.verdict is Verdict.FAILED


def test_what_no_request_showed_is_attributed_to_nobody() -> None:
    found = outcome(quiet, quiet, 1)

    assert found == Outcome(Verdict.UNKNOWN, "no request showed harm that could go away")


def test_harm_of_which_one_kind_stays_is_not_gone() -> None:
    both = answers({"503": 0.3}, begin=340, both=True)

    found = outcome(both, answers({"5xx": 0.3}, both=True), 2)

    assert found
    assert found.verdict is Verdict.UNKNOWN


def test_no_traffic_after_turning_back_attributes_nothing() -> None:
    found = outcome(HARMS["errors"], lambda *_: quiet(random.Random(0)), 3, per_minute=1200)
    silent = Withdrawal(
        Question("here", NEW, OLD, LIMITS),
        samples(3, HELD_AT, 1200, 0.25, HARMS["errors"](random.Random(3))),
    )
    quietly = [silent.add({"at": HELD_AT + 10 * n, "requests": {"cells": []}}) for n in range(8)]

    assert found
    assert found.verdict is Verdict.FAILED
    assert quietly[-1]
    assert quietly[-1].verdict is Verdict.UNKNOWN


def test_looks_of_which_something_is_missing_are_no_evidence() -> None:
    watching = Withdrawal(
        Question("here", NEW, OLD, LIMITS),
        samples(4, HELD_AT, 1200, 0.25, HARMS["503s"](random.Random(4))),
    )
    found = None
    for sample in later(quiet, 4, 1200):
        sample["requests"]["broken"] = ["the request log lost 3 lines"]
        found = found or watching.add(sample)

    assert found
    assert found.verdict is Verdict.UNKNOWN


def test_a_tail_that_goes_away_is_seen() -> None:
    both_slow = tail(0.2, 30)

    def late(chance: random.Random) -> Any:
        world = both_slow(chance)
        world.tail = lambda m: (0.2, 30.0) if m.at >= 340 else (0.0, 1.0)
        return world

    found = outcome(late, quiet, 5)

    assert found
    assert found.verdict is Verdict.FAILED
