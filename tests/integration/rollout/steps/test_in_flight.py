"""What a person says to a release that is under way; the release, waiting elsewhere, follows."""

import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from rollout.errors import Refused
from rollout.steps import rollout, status
from rollout.steps.in_flight import abort, pause, promote_now, resume
from rollout.steps.window_wait import announce_window, wait
from tests.integration.rollout.steered import NEW, OLD, Steered
from tests.running import wait_for

ANN = "ann@laptop"


def told(at: Steered) -> str:
    return str(status.report(at.steering)["say"])


def test_a_pause_is_journaled_with_who_and_why_and_shown(stepping: Steered) -> None:
    stepping.open()
    holder = stepping.steering.lock.holder()

    code, answer = stepping.host("steer", "pause", f"--owner={ANN}", "--why=the database is being moved")

    entry = stepping.steering.journal.entries()[-1]
    assert (code, answer["changed"]) == (0, True)
    assert (entry.event, entry.owner, entry.data["release"]) == ("release.paused", ANN, NEW)
    assert entry.data["why"] == "the database is being moved"
    assert stepping.steering.lock.holder() == holder
    assert re.search(rf"steered     paused by {ANN} since .* \(the database is being moved\)", told(stepping))


def test_while_paused_the_windows_time_stands_still_and_goes_on_where_it_stood(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(12, 10, rounds=2)
    pause(stepping.steering, ANN, "lunch")

    stepping.watch(12, 10, rounds=20)  # past max_seconds

    assert stepping.window(window).verdict == ""
    resume(stepping.steering, ANN, "")
    stepping.watch(12, 10)
    assert stepping.window(window).verdict == ""
    stepping.watch(12, 10, rounds=2)
    assert stepping.window(window).verdict == "passed"


def test_a_guard_that_starts_anew_in_a_pause_counts_no_time_of_it(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(12, 10)
    pause(stepping.steering, ANN, "lunch")
    stepping.watch(12, 10, rounds=20)

    stepping.guard.judges.clear()
    stepping.watch(12, 10)

    assert stepping.window(window).verdict == ""
    assert stepping.guard.judges[window.id].judgement.watched_seconds < 30


def test_the_guard_turns_a_bad_release_back_while_it_is_paused(stepping: Steered) -> None:
    stepping.open()
    stepping.watch(12, 10)
    pause(stepping.steering, ANN, "lunch")
    stepping.instances["green-1.local"].deadlocks = 1

    stepping.watch(12, 10)

    state = stepping.steering.state()
    assert (state.serving, NEW in state.quarantined, state.paused) == ("blue", True, None)


def test_no_step_is_begun_while_paused_and_the_waiting_release_goes_on_when_resumed(
    stepping: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollout.steps.window_wait.STAND_SECONDS", 0.1)
    stepping.pass_window()
    pause(stepping.steering, ANN, "lunch")

    held = stepping.shift_on(NEW)

    assert (held["changed"], held["is_paused"]) == (False, True)
    assert f"paused by {ANN}" in held["say"]
    assert stepping.steering.balancer.shares() == {"blue": 75, "green": 25}
    resume(stepping.steering, ANN, "")
    assert stepping.shift_on(NEW)["changed"]
    assert stepping.steering.balancer.shares()["green"] == 98


def test_a_paused_release_is_not_finished(stepping: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollout.steps.window_wait.STAND_SECONDS", 0.1)
    stepping.pass_window()
    stepping.shift_on(NEW)
    stepping.pass_window("monitor")
    pause(stepping.steering, ANN, "lunch")

    assert rollout.finish(stepping.steering, NEW, stepping.token)["is_paused"]
    assert stepping.steering.balancer.shares()["green"] == 98

    resume(stepping.steering, ANN, "")
    rollout.finish(stepping.steering, NEW, stepping.token)
    assert stepping.steering.state().good[-1] == NEW


def waiting(at: Steered, id: str, pool: ThreadPoolExecutor) -> Future[dict[str, Any]]:
    """Somebody who waits for a window, elsewhere."""
    before = at.steering.lock.holder().heartbeat
    waits = pool.submit(wait, at.steering, id, at.token)
    wait_for(lambda: at.steering.lock.holder().heartbeat > before, "it waits")
    return waits


def test_who_waits_hears_at_once_of_a_pause_and_of_its_end(stepping: Steered) -> None:
    window = stepping.open()
    with ThreadPoolExecutor() as pool:
        stepping.watch(12, 1)
        waits = waiting(stepping, window.id, pool)
        pause(stepping.steering, ANN, "lunch")
        assert f"paused by {ANN}" in waits.result(5)["say"]

        waits = waiting(stepping, window.id, pool)
        resume(stepping.steering, ANN, "")
        assert waits.result(5)["verdict"] == ""


def test_a_release_that_is_typed_again_says_that_it_is_paused(stepping: Steered) -> None:
    stepping.open()
    pause(stepping.steering, ANN, "lunch")

    said = announce_window(stepping.steering, "step", stepping.token)["say"]

    assert f"paused by {ANN}" in said[-1]


def test_a_second_pause_and_a_resume_of_nothing_change_nothing(stepping: Steered) -> None:
    assert not resume(stepping.steering, ANN, "")["changed"]
    pause(stepping.steering, ANN, "lunch")
    events = stepping.events()

    again = pause(stepping.steering, "bob@tower", "mine too")

    assert (again["changed"], f"already paused by {ANN}" in again["say"]) == (False, True)
    assert stepping.events() == events


def test_what_is_about_to_begin_can_be_paused_before_its_first_step(live: Steered) -> None:
    live.take()

    said = pause(live.steering, ANN, "not today")["say"]

    live.offer(NEW)
    assert "ann@desk is about to do" in said
    assert live.steering.state().paused


@pytest.mark.parametrize("verb", [pause, abort])
def test_where_nothing_is_under_way_nothing_is_held_up_or_aborted(live: Steered, verb: Any) -> None:
    events = live.events()

    with pytest.raises(Refused, match=f"Nothing is under way on production: {OLD} was finished"):
        verb(live.steering, ANN, "why not")

    assert live.events() == events


@pytest.mark.parametrize("verb", [pause, promote_now, abort])
def test_what_is_decided_needs_a_reason(stepping: Steered, verb: Any) -> None:
    stepping.open()

    with pytest.raises(Refused, match="with its reason"):
        verb(stepping.steering, ANN, " ")


def test_a_person_ends_the_open_window_and_who_waits_goes_on(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(12, 10)
    with ThreadPoolExecutor() as pool:
        waits = waiting(stepping, window.id, pool)

        said = promote_now(stepping.steering, ANN, "it is urgent")["say"]

        assert waits.result(5)["verdict"] == "passed"
    entry = stepping.steering.journal.entries()[-1]
    assert (entry.event, entry.owner, entry.data["why"]) == ("window.decided", ANN, "it is urgent")
    assert f"ended by {ANN}: it is urgent (after 0 of 30 s, " in said
    assert stepping.shift_on(NEW)["changed"]


def test_what_an_ended_window_had_seen_is_what_the_next_one_begins_with(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(24, 5, rounds=4)
    stepping.guard.judges.clear()  # the guard was started anew meanwhile

    promote_now(stepping.steering, ANN, "it is urgent")

    stepping.shift_on(NEW)
    assert stepping.window(window).baseline
    assert stepping.open("monitor").baseline == stepping.window(window).baseline


def test_the_last_window_is_ended_too_though_the_site_wants_it_longer(stepping: Steered) -> None:
    stepping.pass_window()
    stepping.shift_on(NEW)
    window = stepping.open("monitor")
    stepping.settings["window_least_minutes"] = 60

    promote_now(stepping.steering, ANN, "it is urgent")

    assert stepping.window(window).summary.startswith(
        f"ended by {ANN}: it is urgent (after 0 of 30 s, before anybody had looked"
    )
    rollout.finish(stepping.steering, NEW, stepping.token)
    assert stepping.steering.state().good[-1] == NEW


def test_a_window_that_ended_unknown_is_passed_the_same_way(stepping: Steered) -> None:
    stepping.open()
    stepping.watch(0, 10, rounds=13)

    promote_now(stepping.steering, ANN, "it is night")

    assert stepping.steering.state().windows[-1].verdict == "passed"


def test_a_window_that_failed_or_passed_is_nobodys_to_end(stepping: Steered) -> None:
    stepping.pass_window()
    with pytest.raises(Refused, match=r"No window of .* is open at 25 %"):
        promote_now(stepping.steering, ANN, "it is urgent")

    stepping.shift_on(NEW)
    stepping.open("monitor")
    stepping.watch(12, 10)
    stepping.instances["green-1.local"].deadlocks = 1
    stepping.watch(12, 10)
    with pytest.raises(Refused, match="No rollout is in progress"):
        promote_now(stepping.steering, ANN, "it is urgent")


def test_ending_a_window_ends_no_pause_and_says_so(stepping: Steered) -> None:
    stepping.open()
    pause(stepping.steering, ANN, "lunch")

    said = promote_now(stepping.steering, ANN, "it is urgent")["say"]

    assert f"still paused by {ANN}" in said


def test_an_abort_turns_traffic_back_quarantines_and_ends_the_waiting(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(12, 1)
    pause(stepping.steering, ANN, "lunch")
    with ThreadPoolExecutor() as pool:
        waits = waiting(stepping, window.id, pool)

        code, answer = stepping.host("steer", "abort", f"--owner={ANN}", "--why=wrong release")

        with pytest.raises(Refused, match=f"by rollback: to {ANN}.*aborted by ann@laptop: wrong release"):
            waits.result(5)
    state = stepping.steering.state()
    assert (code, "back on" in answer["say"]) == (0, True)
    assert state.quarantined == {NEW: "aborted by ann@laptop: wrong release"}
    assert (state.paused, stepping.steering.balancer.shares()) == (None, {"blue": 100, "green": 0})
    with pytest.raises(Refused, match=f"{NEW} was rolled back"):
        abort(stepping.steering, ANN, "wrong release")


def test_what_has_not_begun_loses_the_lock_and_nothing_else(live: Steered) -> None:
    live.take()

    abort(live.steering, ANN, "not today")

    with pytest.raises(Refused, match=f"You lost the lock, by lock break: to {ANN}"):
        live.steering.renew(live.token)
    assert live.steering.state().quarantined == {}


def test_an_abort_that_was_killed_is_finished_by_the_same_command(
    stepping: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("rollout.target.haproxy.Balancer.shift", killed)
        with pytest.raises(KeyboardInterrupt):
            abort(stepping.steering, ANN, "wrong release")

    abort(stepping.steering, ANN, "wrong release")

    assert stepping.steering.balancer.shares() == {"blue": 100, "green": 0}
    assert stepping.steering.state().quarantined == {NEW: "aborted by ann@laptop: wrong release"}


def test_a_pause_outlives_who_was_waiting(stepping: Steered) -> None:
    pause(stepping.steering, ANN, "lunch")
    stepping.steering.lock.drop(stepping.token)

    stepping.take("bob@tower", "tower:2:2.0")

    assert stepping.steering.state().paused
    assert time.time() - (stepping.steering.state().paused or {})["at"] < 60
