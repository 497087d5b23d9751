"""Harm in both slots: traffic goes back at once, and what becomes of the harm says whose it was."""

from dataclasses import replace

import pytest

from rollout.errors import Refused
from rollout.guard.loop import Guard
from rollout.steps.rollout import claim
from rollout.steps.status import status
from rollout.steps.window_wait import wait
from rollout.target.state import Window
from tests.integration.rollout.steered import LIMITS, NEW, OLD, Steered, digest_of

BY_REQUEST = {
    **LIMITS,
    **{"seconds": 600, "max_seconds": 600, "by_request": True},
    **{"shared_seconds": 30, "withdrawal_seconds": 60, "breaker_errors": 1000},
}
# Only the guard's clock is the tests': what is journaled has the time of day.
QUIET_SECONDS = 900.0


@pytest.fixture
def held(live: Steered) -> Steered:
    """A release at 25 % whose window was held: a quarter of an hour was quiet, and then both slots fail."""
    live.settings["steps"] = [25, 100]
    live.settings["windows"] = {"step": BY_REQUEST, "monitor": BY_REQUEST}
    live.now -= QUIET_SECONDS
    live.watch_visitors(6, 10, rounds=round(QUIET_SECONDS / 10))
    hold(live)
    return live


def hold(target: Steered) -> None:
    """Give the release traffic, fail every request of both slots soon after, until its window is held."""
    target.offer(NEW)
    target.shift(NEW, 25)
    target.open()
    target.watch_visitors(60, 2, rounds=4)
    break_all(target, 500)
    while not newest(target).verdict:
        target.watch_visitors(60, 2)
        assert target.now < newest(target).opened_at + 300


def break_all(target: Steered, fault: int) -> None:
    for instance in target.instances.values():
        instance.fault = fault


def newest(target: Steered) -> Window:
    return target.steering.state().windows[-1]


def test_harm_in_both_slots_turns_traffic_back_and_blames_nobody_yet(held: Steered) -> None:
    state = held.steering.state()

    assert newest(held).verdict == "held"
    assert held.steering.balancer.shares() == {"blue": 100, "green": 0}
    assert state.rollout
    assert state.rollout.ended == "rolled back"
    assert state.quarantined == {}
    assert state.withdrawal
    assert state.withdrawal["release"] == NEW


def test_harm_that_goes_away_with_the_release_was_its_own(held: Steered) -> None:
    break_all(held, 0)

    held.watch_visitors(60, 1, rounds=6)

    state = held.steering.state()
    assert state.withdrawal is None
    assert "the harm went away within" in state.quarantined[NEW]
    assert [row["verdict"] for row in state.verdicts if row["check"] == "withdrawal"] == ["failed"]


def test_harm_that_might_have_ended_by_itself_is_counted_until_it_has_come_and_gone_often(
    live: Steered,
) -> None:
    """Nobody knows how it was before, so one time says little; each time is journaled."""
    live.settings["steps"] = [25, 100]
    live.settings["windows"] = {"step": BY_REQUEST, "monitor": BY_REQUEST}
    said = []
    while not (quarantined := live.steering.state().quarantined):
        hold(live)
        break_all(live, 0)
        live.watch_visitors(60, 1, rounds=8)
        said.append(live.steering.state().withdrawn[NEW])

    assert "for the " in quarantined[NEW]
    assert [len(chances) for chances in said] == list(range(1, len(said) + 1))
    assert 2 <= len(said) <= 8


def test_harm_that_stays_quarantines_nobody_and_the_same_command_goes_on(held: Steered) -> None:
    held.watch_visitors(60, 10, rounds=8)

    state = held.steering.state()
    assert state.withdrawal is None
    assert state.quarantined == {}
    assert [row["verdict"] for row in state.verdicts if row["check"] == "withdrawal"] == ["unknown"]
    held.offer(NEW)
    assert (held.steering.state().rollout or replace).ended == ""


def test_nothing_begins_while_it_is_watched_whose_harm_it_was(held: Steered) -> None:
    held.take()
    held.admit(NEW)

    with pytest.raises(Refused, match=r"turned back at .* for harm in both slots"):
        claim(held.steering, NEW, digest_of(NEW), held.token, "")
    assert status(held.steering)["withdrawal"]["release"] == NEW


def test_another_guard_goes_on_watching(held: Steered) -> None:
    held.watch_visitors(60, 10)
    held.guard = Guard(held.steering, clock=lambda: held.now)

    break_all(held, 0)
    held.watch_visitors(60, 1, rounds=6)

    assert NEW in held.steering.state().quarantined


def test_who_waits_is_told_whose_it_was(held: Steered) -> None:
    break_all(held, 0)
    held.watch_visitors(60, 1, rounds=6)

    with pytest.raises(Refused, match=r"window held: .*Failed: the harm went away") as refused:
        wait(held.steering, newest(held).id, held.token)
    assert "turned traffic back" in str(refused.value.hint)
    assert held.ask().release == OLD
