"""Opening a window and waiting for the guard's verdict."""

import json
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import psutil
import pytest

from rollout.errors import Refused, RolloutError
from rollout.files import write_json
from rollout.steps.window import open_window
from rollout.steps.window_wait import announce_window, decide, wait
from rollout.target.haproxy import Balancer
from tests.integration.rollout.steered import NEW, Steered
from tests.running import wait_for

# Who drives, as Ansible does: it starts what waits, says its number, and may be killed.
DRIVER = """
import subprocess, sys
sys.stdin.read()
told, *words = sys.argv[1:]
process = subprocess.Popen([sys.executable, "-m", "rollout", *words], stdin=subprocess.PIPE, text=True)
print(process.pid, flush=True)
process.communicate(told)
"""


def test_opening_names_the_window_and_its_limits(stepping: Steered) -> None:
    answer = announce_window(stepping.steering, "step", stepping.token, None)

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


def test_after_an_unknown_window_a_new_one_is_announce_window(stepping: Steered) -> None:
    first = stepping.open()
    stepping.watch(0, 10, rounds=13)

    second = stepping.open()

    assert second.id != first.id
    assert stepping.steering.state().open_window == second


def test_with_everything_on_the_release_there_is_no_control(stepping: Steered) -> None:
    stepping.pass_window()
    stepping.shift(NEW, 100)

    assert stepping.open("monitor").control is None


def test_the_long_window_has_the_holdback_for_its_control_and_what_the_steps_had_shown(
    stepping: Steered,
) -> None:
    stepping.pass_window()
    stepping.shift_on(NEW)

    window = stepping.open("monitor")

    assert (window.share, window.control) == (98, "blue")
    assert window.baseline == stepping.steering.state().windows[-2].baseline
    assert window.baseline


def test_the_long_window_needs_all_traffic_but_the_holdback(stepping: Steered) -> None:
    with pytest.raises(Refused, match="needs 98 % of the traffic on the release; it has 25 %"):
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


def test_what_a_window_can_see_is_said_before_it_has_seen_anything_and_kept(stepping: Steered) -> None:
    stepping.settings["visitors_rate"] = 1

    answer = announce_window(stepping.steering, "step", stepping.token)

    window = stepping.steering.state().open_window
    assert window is not None
    assert window.claim == answer["claim"]
    assert answer["say"][0].startswith(
        f"production: 25 % on {NEW}: window of 30 s: at 15 requests a minute errors"
    )


def test_traffic_that_the_guard_measured_goes_before_what_visitors_are_to_bring(stepping: Steered) -> None:
    stepping.settings["visitors_rate"] = 1
    for _ in range(3):
        stepping.ask_many(20)
        stepping.heal()

    claim = announce_window(stepping.steering, "step", stepping.token)["claim"]

    assert claim.startswith("at 5 requests a minute")  # a quarter of 20


def test_without_traffic_a_window_claims_to_see_nothing(stepping: Steered) -> None:
    assert "it can see nothing" in announce_window(stepping.steering, "step", stepping.token)["claim"]


@pytest.fixture
def at_full(stepping: Steered) -> Steered:
    """All traffic on the release, and a site that wants to watch it for an hour."""
    stepping.pass_window()
    stepping.shift(NEW, 100)
    stepping.settings["window_least_minutes"] = 60
    return stepping


def test_a_watch_shorter_than_the_site_wants_needs_a_reason_which_is_journaled(at_full: Steered) -> None:
    with pytest.raises(Refused, match=r"watched for 30 minutes \(limit >= 60\)") as raised:
        announce_window(at_full.steering, "monitor", at_full.token, 30)
    assert "--why" in raised.value.hint

    announce_window(at_full.steering, "monitor", at_full.token, 30, "the incident goes on")

    assert at_full.steering.state().windows[-1].why == "the incident goes on"


def test_too_short_a_watch_is_refused_before_anything_is_changed(at_full: Steered) -> None:
    events = at_full.events()
    told = {"release": NEW}

    assert at_full.host("allow", "--minutes=59", told=told)[0] == 1
    assert at_full.host("allow", "--minutes=59", "--why=small change", told=told)[0] == 0
    assert at_full.host("allow", "--minutes=60", told=told)[0] == 0
    assert at_full.events() == events


def test_the_long_window_knows_how_fast_the_old_slot_was(at_full: Steered) -> None:
    at_full.settings["window_least_minutes"] = 0

    window = at_full.open("monitor")

    assert window.baseline is not None
    assert window.baseline["threshold_seconds"] == 0.004
    assert window.baseline["requests"] > window.baseline["errors"] == 0


def test_a_release_that_got_slow_with_everything_on_it_fails(at_full: Steered) -> None:
    at_full.settings["window_least_minutes"] = 0
    window = at_full.open("monitor")
    at_full.watch(12, 5)
    for instance in at_full.of("green"):
        instance.took = "0.2"

    at_full.watch(20, 5, rounds=3)

    assert at_full.window(window).verdict == "failed"
    assert re.search(r"slow: \d+ of \d+ over 4 ms, .* allowed; evidence", at_full.window(window).summary)


def test_a_release_slower_than_the_old_slot_beside_it_fails(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(24, 5)
    stepping.watch(24, 5)
    for instance in stepping.of("green"):
        instance.took = "0.2"

    stepping.watch(24, 5, rounds=2)

    assert stepping.window(window).verdict == "failed"
    assert re.search(r"slow: new \d+ of \d+, old \d+ of \d+ over .* ms", stepping.window(window).summary)


# Where a window could not decide.


@pytest.fixture
def undecided(stepping: Steered) -> Steered:
    """A step whose window ended unknown for want of traffic."""
    stepping.open()
    stepping.watch(0, 10, rounds=13)
    assert stepping.steering.state().windows[-1].verdict == "unknown"
    return stepping


def test_a_person_passes_a_window_and_the_rollout_goes_on_where_it_stopped(undecided: Steered) -> None:
    answer = decide(undecided.steering, "ann", True, "it is night here")

    window = undecided.steering.state().windows[-1]
    assert window.verdict == "passed"
    assert window.summary.startswith("decided by ann: it is night here (it was unknown: 0 requests")
    assert "./p12 release" in answer["say"]
    assert undecided.open() == window
    undecided.shift(NEW, 100)


def test_a_person_fails_a_window_and_traffic_is_turned_back(undecided: Steered) -> None:
    answer = decide(undecided.steering, "ann", False, "it looks odd")

    state = undecided.steering.state()
    assert state.windows[-1].verdict == "failed"
    assert "it looks odd" in state.quarantined[NEW]
    assert "proven at 2 instances" in answer["say"]
    assert undecided.steering.balancer.shares() == {"blue": 100, "green": 0}


def test_a_decision_is_in_the_journal_with_who_and_why(undecided: Steered) -> None:
    code, _ = undecided.host("decide", "pass", "--owner=ann", "--why=it is night")

    entry = undecided.steering.journal.entries()[-1]
    assert code == 0
    assert (entry.event, entry.data["why"], entry.data["verdict"]) == (
        "window.decided",
        "it is night",
        "passed",
    )
    assert entry.data["summary"].startswith("decided by ann")


def test_a_decision_without_a_reason_is_refused(undecided: Steered) -> None:
    with pytest.raises(Refused, match="with its reason"):
        decide(undecided.steering, "ann", True, " ")


def test_before_any_window_there_is_nothing_to_decide(stepping: Steered) -> None:
    with pytest.raises(Refused, match="was not watched yet"):
        decide(stepping.steering, "ann", True, "why not")


def test_an_open_window_is_the_guards_to_decide(stepping: Steered) -> None:
    stepping.open()

    with pytest.raises(Refused, match="the guard decides first"):
        decide(stepping.steering, "ann", True, "why not")


def test_a_window_that_passed_leaves_nothing_to_decide(stepping: Steered) -> None:
    stepping.pass_window()

    with pytest.raises(Refused, match="has passed"):
        decide(stepping.steering, "ann", False, "why not")


def test_a_window_that_failed_is_not_passed_by_anybody(stepping: Steered) -> None:
    stepping.open()
    stepping.watch(12, 10)
    stepping.instances["green-1.local"].deadlocks = 1
    stepping.watch(12, 10)
    events = stepping.events()

    with pytest.raises(Refused, match="nothing to decide"):
        decide(stepping.steering, "ann", True, "why not")

    assert stepping.events() == events


def test_without_a_rollout_there_is_nothing_to_decide(live: Steered) -> None:
    with pytest.raises(Refused, match="No rollout is in progress"):
        decide(live.steering, "ann", True, "why not")


def test_a_passed_window_ends_the_waiting_in_words(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(12, 10, rounds=4)

    answer = wait(stepping.steering, window.id, stepping.token)

    assert answer["verdict"] == "passed"
    assert answer["say"].startswith(f"production: 25 % on {NEW}: window passed: ")


def test_who_waits_hears_now_and_then_how_the_window_stands(
    stepping: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollout.steps.window_wait.TELL_SECONDS", 0.01)
    monkeypatch.setattr("rollout.steps.window_wait.TELL_TIMES", 1e6)
    window = stepping.open()
    stepping.watch(12, 10)

    answer = wait(stepping.steering, window.id, stepping.token)

    assert answer["verdict"] == ""
    assert re.match(f"production: 25 % on {NEW}: errors: new 0 of ", answer["say"])


def test_a_failed_window_stops_with_what_the_guard_did(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(12, 10)
    stepping.instances["green-1.local"].deadlocks = 1
    stepping.watch(12, 10)

    with pytest.raises(Refused, match=r"window failed: .* deadlocks 1") as raised:
        wait(stepping.steering, window.id, stepping.token)

    assert raised.value.hint == "The guard has turned traffic back. See: ./p12 status"


def test_a_window_that_fails_while_somebody_waits_is_told_though_the_guard_broke_the_lock(
    stepping: Steered,
) -> None:
    window = stepping.open()
    stepping.watch(12, 10)
    stepping.instances["green-1.local"].deadlocks = 1
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait, stepping.steering, window.id, stepping.token)
        stepping.watch(12, 10)

        with pytest.raises(Refused, match=r"window failed: .* deadlocks 1") as raised:
            waiting.result()

    assert raised.value.hint == "The guard has turned traffic back. See: ./p12 status"


def test_who_waits_never_sees_a_verdict_that_is_not_acted_on_yet(
    stepping: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, shift, told = stepping.open(), Balancer.shift, []
    stepping.watch(12, 10)
    stepping.instances["green-1.local"].deadlocks = 1

    with ThreadPoolExecutor() as pool:

        def shift_late(balancer: Balancer, shares: dict[str, int]) -> None:
            told.append(pool.submit(wait, stepping.steering, window.id, stepping.token))
            with pytest.raises(TimeoutError):
                told[0].result(0.3)
            shift(balancer, shares)

        monkeypatch.setattr(Balancer, "shift", shift_late)
        stepping.watch(12, 10)
        with pytest.raises(Refused, match="window failed") as raised:
            told[0].result()

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
        wait(stepping.steering, window.id, stepping.token)

    assert raised.value.hint.startswith("The guard could not turn traffic back yet")


def test_an_unknown_window_stops_and_says_that_traffic_stays(stepping: Steered) -> None:
    window = stepping.open()
    stepping.watch(0, 10, rounds=13)

    with pytest.raises(Refused, match="window unknown") as raised:
        wait(stepping.steering, window.id, stepping.token)

    assert raised.value.hint.startswith("Traffic stays.")
    assert "./p12 decide --pass" in raised.value.hint


def test_one_process_waits_as_long_as_it_takes_and_shows_that_the_engineer_is_alive(
    stepping: Steered,
) -> None:
    window = stepping.open()
    with stepping.guarding(), ThreadPoolExecutor() as pool:
        words = ("window", "wait", f"--token={stepping.token}")
        waiting = pool.submit(stepping.host, *words, told={"id": window.id})
        for _ in range(3):
            before = stepping.steering.lock.holder().heartbeat
            wait_for(lambda: stepping.steering.lock.holder().heartbeat > before, "the lock is renewed")  # noqa: B023
        assert not waiting.done()
        stepping.steering.journal.append(
            "guard", "window.closed", id=window.id, verdict="passed", summary="all is well"
        )

        status, answer = waiting.result()

    assert (status, answer["verdict"]) == (0, "passed")
    assert answer["say"] == f"production: 25 % on {NEW}: window passed: all is well"


def test_nobody_waits_on_and_renews_the_lock_for_an_engineer_who_is_gone(stepping: Steered) -> None:
    window = stepping.open()
    words = ["host", "production", "window", "wait", f"--token={stepping.token}"]
    with (
        stepping.guarding(),
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, json.dumps({"id": window.id}), *words],
            env=stepping.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as driver,
    ):
        assert driver.stdin is not None
        assert driver.stdout is not None
        holder = stepping.steering.lock.holder()
        session = f"{socket.gethostname()}:{driver.pid}:1.0"
        write_json(stepping.steering.lock.path, asdict(holder) | {"session": session, "heartbeat": 0.0})
        # Whom to wait for is read once, at its start.
        driver.stdin.close()
        waiter = psutil.Process(int(driver.stdout.readline()))
        wait_for(lambda: stepping.steering.lock.holder().heartbeat, "it waits")

        driver.kill()
        driver.wait()

        wait_for(lambda: not waiting(waiter), "it ends")
        assert "Who took the lock is gone" in driver.stdout.read()


def waiting(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_waiting_ends_when_the_rollout_passed_to_somebody_else(stepping: Steered) -> None:
    window = stepping.open()
    stepping.guard.look()
    stepping.roll_back()

    with pytest.raises(Refused, match="You lost the lock, by rollback: to bob@tower"):
        wait(stepping.steering, window.id, stepping.token)


@pytest.mark.parametrize("silent", [None, 20])
def test_without_a_guard_nobody_judges_and_waiting_says_so(stepping: Steered, silent: float | None) -> None:
    window = stepping.open()
    if silent:
        stepping.now = time.time() - silent
        stepping.guard.look()

    with pytest.raises(RolloutError, match="so nobody judges") as raised:
        wait(stepping.steering, window.id, stepping.token)

    assert "./p12 provision" in raised.value.hint


def test_a_window_that_is_not_there_is_refused(stepping: Steered) -> None:
    with pytest.raises(Refused, match="No window 'w' is in the journal"):
        wait(stepping.steering, "w", stepping.token)
