"""Opening a window and waiting for the guard's verdict."""

import time

import pytest

from rollout.errors import Refused, RolloutError
from rollout.watching import opened, wait
from rollout.windows import open_window
from tests.integration.rollout.steered import NEW, Steered


@pytest.fixture
def stepping(live: Steered) -> Steered:
    """A release at its first step, before any window was opened."""
    live.settings["steps"] = [25, 100]
    live.offer(NEW)
    live.shift(NEW, 25)
    return live


def test_opening_names_the_window_and_its_limits(stepping: Steered) -> None:
    answer = opened(stepping.steering, "step", stepping.token, None)

    window = stepping.steering.state().open_window
    assert window is not None
    assert (answer["id"], answer["verdict"]) == (window.id, "")
    assert answer["limits"].items() >= stepping.settings["windows"]["step"].items()
    assert (window.share, window.slot, window.control) == (25, "green", "blue")


def test_opening_twice_is_one_window(stepping: Steered) -> None:
    assert stepping.open() == stepping.open()


def test_a_window_that_passed_is_not_watched_again(stepping: Steered) -> None:
    stepping.pass_window()

    assert stepping.open().verdict == "passed"


def test_after_an_unknown_window_a_new_one_is_opened(stepping: Steered) -> None:
    first = stepping.open()
    stepping.watch(0, 10, rounds=13)

    second = stepping.open()

    assert second.id != first.id
    assert stepping.steering.state().open_window == second


def test_with_everything_on_the_release_there_is_no_control(stepping: Steered) -> None:
    stepping.pass_window()
    stepping.shift(NEW, 100)

    assert stepping.open("monitor").control is None


def test_the_long_window_needs_all_traffic(stepping: Steered) -> None:
    with pytest.raises(Refused, match="needs all traffic on the release; it has 25 %"):
        stepping.open("monitor")


def test_without_a_rollout_there_is_nothing_to_watch(live: Steered) -> None:
    live.take()

    with pytest.raises(Refused, match="nothing to watch"):
        live.open()


def test_minutes_make_the_window_as_long_and_leave_it_time(stepping: Steered) -> None:
    window = open_window(stepping.steering, "step", stepping.token, minutes=90)

    assert (window.limits["seconds"], window.limits["max_seconds"]) == (5400, 5400)


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_minutes_that_are_no_time_are_refused_before_anything_is_journaled(
    stepping: Steered, minutes: float
) -> None:
    events = stepping.events()

    with pytest.raises(Refused, match="seconds="):
        open_window(stepping.steering, "step", stepping.token, minutes)

    assert stepping.events() == events


def test_a_passed_window_ends_the_waiting_in_words(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(12, 10, rounds=4)

    answer = wait(stepping.steering, window.id, stepping.token, 0)

    assert answer["verdict"] == "passed"
    assert answer["say"].startswith(f"production: 25 % on {NEW}: window passed after 30 s: ")


def test_a_failed_window_stops_with_what_the_guard_did(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(12, 10)
    stepping.instances["green-1.local"].deadlocks = 1
    stepping.watch(12, 10)

    with pytest.raises(Refused, match=r"window failed after 30 s: .* deadlocks 1") as raised:
        wait(stepping.steering, window.id, stepping.token, 0)

    assert raised.value.hint == "The guard has turned traffic back. See: ./p12 status"


def test_a_failed_window_that_could_not_be_turned_back_does_not_claim_it_was(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(12, 10)
    for instance in stepping.of("blue"):
        instance.die()
    stepping.await_up("blue-1.local", "blue-2.local", up=False)
    stepping.instances["green-1.local"].deadlocks = 1
    stepping.watch(10, 10)

    with pytest.raises(Refused) as raised:
        wait(stepping.steering, window.id, stepping.token, 0)

    assert raised.value.hint.startswith("The guard could not turn traffic back yet")


def test_an_unknown_window_stops_and_says_that_traffic_stays(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(0, 10, rounds=13)

    with pytest.raises(Refused, match="window unknown") as raised:
        wait(stepping.steering, window.id, stepping.token, 0)

    assert raised.value.hint.startswith("Traffic stays.")


def test_while_it_is_open_waiting_shows_that_the_engineer_is_alive(stepping: Steered) -> None:
    window = stepping.open()
    stepping.guard.look()
    before = stepping.steering.lock.holder()

    answer = wait(stepping.steering, window.id, stepping.token, 0)

    assert answer["verdict"] == ""
    assert 0 < answer["seconds_left"] <= 30
    assert stepping.steering.lock.holder().expires > before.expires


def test_waiting_ends_when_the_rollout_passed_to_somebody_else(stepping: Steered) -> None:
    window = stepping.open()
    stepping.guard.look()
    stepping.roll_back()

    with pytest.raises(Refused, match="no longer valid"):
        wait(stepping.steering, window.id, stepping.token, 0)


@pytest.mark.parametrize("silent", [None, 20])
def test_without_a_guard_nobody_judges_and_waiting_says_so(stepping: Steered, silent: float | None) -> None:
    window = stepping.open()
    if silent:
        stepping.now = time.time() - silent
        stepping.guard.look()

    with pytest.raises(RolloutError, match="nobody judges") as raised:
        wait(stepping.steering, window.id, stepping.token, 0)

    assert "./p12 provision" in raised.value.hint


def test_a_window_that_is_not_there_is_refused(stepping: Steered) -> None:
    with pytest.raises(Refused, match="No window 'w' is in the journal"):
        wait(stepping.steering, "w", stepping.token, 0)
