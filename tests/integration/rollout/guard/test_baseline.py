"""How it was before a release: kept by the guard from what HAProxy logged, and part of what a window asks."""

import json
import time

import pytest

from checks.window import samples
from checks.window.before import Before
from rollout.guard.loop import Guard
from rollout.guard.minutes import directory_of, read_minutes
from rollout.steps import rollout
from rollout.steps.window import samples_path
from tests.integration.rollout.steered import LIMITS, NEW, OLD, Steered


@pytest.fixture
def known(live: Steered) -> Steered:
    """A target that served undisturbed for the half hour before now, judged request by request."""
    live.now = time.time() - 1800
    live.watch(4, 20, rounds=89)
    live.settings["windows"] = {kind: LIMITS | {"by_request": True} for kind in ("step", "monitor")}
    return live


def before_of(target: Steered) -> tuple[Before | None, str]:
    window = target.steering.state().windows[-1]
    question, _ = samples.read(samples_path(target.target, window.id))
    return question.before, question.before_unknown


def test_a_window_asks_how_it_was_before_the_release_and_its_own_minutes_tell_nothing(known: Steered) -> None:
    known.offer(NEW)
    known.shift_unwatched(NEW, 25)
    known.open()
    known.watch(12, 20)
    asked = before_of(known)[0]
    assert asked
    assert asked.minutes >= 20
    assert asked.ratios == {}
    assert list(asked.routes) == ["GET /api/notes/N"]

    known.guard = Guard(known.steering, clock=lambda: known.now)
    known.watch(12, 20, rounds=6)

    assert before_of(known)[0] == asked
    minutes = list(read_minutes(directory_of(known.target), known.now - 3600, known.now))
    assert {minute.release for minute in minutes[:-3]} == {OLD}
    assert minutes[-1].release == ""


def test_where_too_little_is_known_the_first_line_and_the_status_say_so(live: Steered) -> None:
    live.offer(NEW)
    live.shift_unwatched(NEW, 25)
    live.open()
    live.watch(12, 10)

    known, why = before_of(live)
    assert known is None
    assert why.startswith("of the hour before 0 undisturbed minutes")
    beat = json.loads((live.target.steering / "guard.json").read_bytes())
    assert beat["before"] == f"unknown: {why}"


def test_a_release_that_nothing_old_is_beside_is_held_against_how_it_was_before(known: Steered) -> None:
    known.offer(NEW)
    known.shift_unwatched(NEW, 100)
    known.open("monitor")
    for instance in known.of("green"):
        instance.fault = 404

    known.watch_visitors(12, 10, rounds=8)

    window = known.steering.state().windows[-1]
    assert window.control is None
    assert window.verdict == "held"
    assert "allowed by what was before" in window.summary
    assert known.ask_many(4) == {OLD: 4}
    assert samples.replay(samples_path(known.target, window.id)).verdict == "held"


def test_what_both_slots_suffer_that_was_not_there_before_passes_no_release(known: Steered) -> None:
    known.offer(NEW)
    known.shift_unwatched(NEW, 25)
    known.open()
    for instance in known.instances.values():
        instance.fault = 404

    known.watch_visitors(24, 10, rounds=8)

    window = known.steering.state().windows[-1]
    assert window.verdict == "held"
    assert "404s" in window.summary


def fail_after_good(target: Steered) -> None:
    """Finish a release; from then on one in ten of its answers is an error."""
    target.offer(NEW)
    target.shift_unwatched(NEW, 100)
    target.settings["admission"] = False
    rollout.finish(target.steering, NEW, target.token)
    target.settings["admission"] = True
    target.steering.lock.drop(target.token)
    target.now = (time.time() // 3600 + 1) * 3600
    for _ in range(25):
        target.watch(9, 20)
        for instance in target.of("green"):
            instance.fault = 500
        target.watch(1, 20)
        for instance in target.of("green"):
            instance.fault = 0


def test_a_good_release_that_begins_to_fail_is_told_once_with_what_to_type(known: Steered) -> None:
    fail_after_good(known)

    assert known.events().count("release.troubled") == 1
    status, answer = known.host("status")
    assert status == 3
    assert answer["troubled"]["release"] == NEW
    assert "errors (5xx)" in answer["troubled"]["summary"]
    assert "Turn it back: ./p12 rollback --why" in answer["say"]
    assert known.steering.balancer.shares()["green"] == 100

    known.roll_back()

    assert known.host("status")[1]["troubled"] is None


def test_a_good_release_that_begins_to_fail_is_turned_back_where_the_site_says_so(known: Steered) -> None:
    known.settings["after_good"] = "turn_back"

    fail_after_good(known)

    assert known.ask_many(4) == {OLD: 4}
    assert known.steering.state().quarantined[NEW].startswith("after it was good: errors (5xx)")


def test_a_good_release_that_stays_good_is_left_alone(known: Steered) -> None:
    known.serve(NEW)
    known.now = time.time()

    known.watch(10, 20, rounds=24)

    assert "release.troubled" not in known.events()
