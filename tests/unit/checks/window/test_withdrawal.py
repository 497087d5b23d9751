"""Harm that goes away with the release was the release's; harm that stays was not; nothing is not nothing."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from checks.base.report import Verdict
from checks.window.limits import WindowLimits
from checks.window.minutes import Minute
from checks.window.samples import Question
from checks.window.streams import Block
from checks.window.withdrawal import Outcome, Withdrawal
from tests.simulated_causes import Make, answers, quiet, slower, tail
from tests.simulated_minutes import BEGUN, minutes
from tests.simulated_requests import NEW, OLD, World, samples

LIMITS = WindowLimits(600, 1800, 100, 0.01, watch_database=False)
HELD_AT = 400.0


def harms(begin: float) -> dict[str, Make]:
    return {
        "errors": answers({"5xx": 0.05}, begin=begin, both=True),
        "503s": answers({"503": 0.3}, begin=begin, both=True),
        "slow answers": slower(4, begin=begin, both=True),
    }


# What lasted for minutes and ends in seconds; and what might have ended any moment.
LONG, HARMS = harms(50), harms(340)
HOUR = list(minutes(9, BEGUN - 3600, 3600, 1200, World()))


def outcome(
    before: Make,
    after: Make,
    seed: int,
    per_minute: float = 1200,
    *,
    hour: Sequence[Minute] = (),
    earlier: Sequence[float] = (),
) -> Outcome | None:
    """Watch a window that is held at ``HELD_AT`` and what comes after it."""
    looks = samples(seed, HELD_AT, per_minute, 0.25, before(random.Random(seed)))
    watching = Withdrawal(Question("here", NEW, OLD, LIMITS), looks, hour, earlier)
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
    found = outcome(LONG[harm], quiet, seed, hour=HOUR)

    assert found
    assert found.verdict is Verdict.FAILED
    assert "went away within" in found.summary


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("seed", range(3))
def test_harm_that_might_have_ended_at_any_moment_is_nobodys_the_first_time(harm: str, seed: int) -> None:
    found = outcome(HARMS[harm], quiet, seed)

    assert found
    assert found.verdict is Verdict.UNKNOWN
    assert 0.03 < found.chance < 0.3
    assert "as somebody else's does" in found.summary
    assert "If it comes and goes with the release again" in found.summary


@pytest.mark.parametrize("harm", HARMS)
def test_harm_that_comes_and_goes_with_the_release_again_and_again_is_its_own(harm: str) -> None:
    chances: list[float] = []
    verdicts = []
    for seed in range(6):
        found = outcome(HARMS[harm], quiet, seed, earlier=chances)
        assert found
        chances.append(found.chance)
        verdicts.append(found.verdict)

    assert verdicts[0] is Verdict.UNKNOWN
    assert verdicts[-1] is Verdict.FAILED
    assert found
    assert "for the 6. time" in found.summary


@pytest.mark.parametrize("harm", HARMS)
def test_harm_that_began_with_the_share_after_an_hour_without_is_its_own(harm: str) -> None:
    """Held after a minute, of a release whose harm began at once."""
    begin_at_once = harms(10)[harm]
    looks = [s for s in samples(1, HELD_AT, 1200, 0.25, begin_at_once(random.Random(1))) if s["at"] <= 70]
    later_on = [{**s, "at": 70 + s["at"]} for s in samples(2, 200, 1200, 0.0, quiet(random.Random(2)))]

    for known, verdict in ((HOUR, Verdict.FAILED), ((), Verdict.UNKNOWN)):
        watching = Withdrawal(Question("here", NEW, OLD, LIMITS), looks, known)
        outcomes = (found for sample in later_on if (found := watching.add(sample)))
        assert next(outcomes).verdict is verdict


def test_an_hour_that_had_such_harm_itself_is_no_proof_of_a_beginning() -> None:
    stormy = World(statuses=lambda m: {"503": 0.3} if m.at % 300 < 30 else {})
    hour = list(minutes(9, BEGUN - 3600, 3600, 1200, stormy))

    found = outcome(harms(200)["503s"], quiet, 1, hour=hour)

    assert found
    assert found.chance > 0.01


def test_healthy_releases_are_seldom_blamed_for_somebody_elses_storm() -> None:
    """Of 10 to 120 s, at any time of a window, in both slots; held once it is there for 30 s."""
    hour = [Minute(60 * n, 60.0, "aaaa", calm_minute()) for n in range(60)]
    blamed = 0
    for seed in range(400):
        chance = random.Random(seed)
        begin, seconds = chance.uniform(0, 600), chance.uniform(10, 120)
        if seconds <= 30:
            continue
        held_at = begin + 30
        watching = Withdrawal(
            Question("here", NEW, OLD, LIMITS),
            (second(at, begin <= at < begin + seconds) for at in range(int(held_at) + 1)),
            hour,
        )
        after = (second(at, at < begin + seconds) for at in range(int(held_at) + 1, int(held_at) + 120))
        found = next(outcome for sample in after if (outcome := watching.add(sample)))
        blamed += found.verdict is Verdict.FAILED

    assert blamed <= 4


def second(at: float, is_harmed: bool) -> dict[str, Any]:
    """What a second brought of 20 requests, half of them busy in a storm."""
    busy = 10 if is_harmed else 0
    cells = [[int(at), OLD, "GET /api/notes", "2xx", 20 - busy, 20 - busy, 1, {50: 20 - busy}]]
    cells += [[int(at), OLD, "GET /api/notes", "503", busy, busy, 1, {}]] if busy else []
    return {"at": float(at), "requests": {"cells": cells, "broken": []}}


def calm_minute() -> Block:
    block = Block(0.0)
    block.judged[OLD, "GET /api/notes"] = block.good[OLD, "GET /api/notes"] = 1200.0
    block.route_buckets[OLD, "GET /api/notes"] = {50: 1200}
    return block


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
    assert "went away within" in found.summary
    assert 0.01 < found.chance < 0.1


def test_what_no_request_showed_is_attributed_to_nobody() -> None:
    found = outcome(quiet, quiet, 1)

    assert found == Outcome(Verdict.UNKNOWN, "no request showed harm that could go away")


def test_harm_of_which_one_kind_stays_is_not_gone() -> None:
    both = answers({"503": 0.3}, begin=340, both=True)

    found = outcome(both, answers({"5xx": 0.3}, both=True), 2)

    assert found
    assert found.verdict is Verdict.UNKNOWN


def test_no_traffic_after_turning_back_attributes_nothing() -> None:
    found = outcome(LONG["errors"], lambda *_: quiet(random.Random(0)), 3, hour=HOUR)
    silent = Withdrawal(
        Question("here", NEW, OLD, LIMITS),
        samples(3, HELD_AT, 1200, 0.25, LONG["errors"](random.Random(3))),
        HOUR,
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
        world.tail = lambda m: (0.2, 30.0) if m.at >= 50 else (0.0, 1.0)
        return world

    found = outcome(late, quiet, 5, hour=HOUR)

    assert found
    assert found.verdict is Verdict.FAILED
