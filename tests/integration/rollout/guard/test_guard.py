"""The guard: it judges an open window, turns traffic back when it fails, and heals what drifted."""

import errno
import json
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from checks.base.report import Verdict
from checks.window import judge, samples
from checks.window.limits import WindowLimits
from rollout.errors import Refused, RolloutError
from rollout.guard import request_log
from rollout.guard.loop import Guard
from rollout.steps.window import read_samples, samples_path
from rollout.steps.window_wait import decide, wait
from rollout.target.haproxy import Balancer
from rollout.target.journal import Journal
from rollout.target.lock import Lock
from rollout.target.state import Window
from rollout.target.target import heartbeat
from rollout.target.wanted_flags import WantedFlags
from tests.integration.rollout.small import SmallInstance
from tests.integration.rollout.steered import LIMITS, NEW, OLD, Steered, reply_on
from tests.running import wait_for

LOCKS = "P12_ENABLE_ADVISORY_LOCKS"


@pytest.fixture
def stepping(live: Steered) -> Steered:
    """A new release with a raised flag at 25 %, and a window of 30 seconds that was just opened."""
    live.settings["steps"] = [25, 100]
    live.offer(NEW, {LOCKS: "1"})
    live.shift(NEW, 25)
    live.open()
    return live


@pytest.fixture
def monitored(live: Steered) -> Steered:
    """A new release with all traffic, and the long window open."""
    live.offer(NEW)
    live.shift_unwatched(NEW, 100)
    live.open("monitor")
    return live


def newest(target: Steered) -> Window:
    return target.steering.state().windows[-1]


def fail(target: Steered) -> None:
    """Let the open window see a deadlock."""
    target.watch(12, 10)
    target.instances["green-1.local"].deadlocks = 1
    target.watch(12, 10)


def is_back(target: Steered) -> bool:
    return target.ask_many(8) == {OLD: 8}


# What a window says.


def test_a_healthy_window_passes_at_its_end_and_not_before(stepping: Steered) -> None:
    stepping.watch(12, 10, rounds=3)
    assert newest(stepping).verdict == ""

    stepping.watch(12, 10)

    assert newest(stepping).verdict == "passed"
    assert newest(stepping).summary.endswith(" 0 errors in 30 s")


def test_a_healthy_window_moves_nothing(stepping: Steered) -> None:
    stepping.watch(12, 10, rounds=4)

    assert stepping.steering.balancer.shares() == {"blue": 75, "green": 25}
    assert stepping.steering.state().quarantined == {}


def errors(instance: SmallInstance) -> None:
    instance.fault = 500


def cuts(instance: SmallInstance) -> None:
    instance.cut = True


def deadlocks(instance: SmallInstance) -> None:
    instance.deadlocks += 1


@pytest.mark.parametrize(
    ("fault", "said"), [(errors, "errors"), (cuts, "errors"), (deadlocks, "deadlocks 2 (limit <= 0)")]
)
def test_a_candidate_in_trouble_fails_its_window_and_traffic_is_turned_back(
    stepping: Steered, fault: Callable[[SmallInstance], None], said: str
) -> None:
    stepping.watch(12, 10)
    for instance in stepping.of("green"):
        fault(instance)

    stepping.watch(60, 10, keep_alive=False)

    assert newest(stepping).verdict == "failed"
    assert said in newest(stepping).summary
    assert is_back(stepping)
    assert newest(stepping).id in stepping.steering.state().quarantined[NEW]


def test_a_failed_window_lowers_what_the_release_raised(stepping: Steered) -> None:
    stepping.watch(12, 10)
    for instance in stepping.of("green"):
        instance.deadlocks += 1

    stepping.watch(12, 10)

    assert {instance.flags[LOCKS] for instance in stepping.of("green")} == {"0"}


def test_a_candidate_instance_that_died_fails_its_window(stepping: Steered) -> None:
    stepping.watch(12, 10)
    stepping.instances["green-1.local"].die()
    stepping.await_up("green-1.local", up=False)

    stepping.watch(12, 10)

    assert newest(stepping).verdict == "failed"
    assert "dead_instances 1" in newest(stepping).summary
    assert is_back(stepping)


def test_a_candidate_that_hangs_though_it_is_healthy_fails_its_window(
    make_target: Callable[..., Steered],
) -> None:
    hanging = make_target(p12_answer_seconds=1)
    hanging.serve(OLD)
    hanging.offer(NEW)
    hanging.shift_unwatched(NEW, 100)
    hanging.open("monitor")
    hanging.watch(12, 10)
    for instance in hanging.of("green"):
        instance.hold()
    with hanging.in_flight(12) as connections:
        assert {reply_on(connection).status for connection in connections} == {503}

    hanging.watch(0, 10)

    assert newest(hanging).verdict == "failed"
    assert is_back(hanging)


def test_trouble_of_the_old_release_fails_no_candidate(stepping: Steered) -> None:
    stepping.watch(12, 10)
    stepping.instances["blue-1.local"].fault = 500

    stepping.watch(12, 10, rounds=3)

    assert newest(stepping).verdict == "passed"


def test_with_everything_on_it_a_release_is_held_against_the_objective(monitored: Steered) -> None:
    monitored.watch(12, 10)
    monitored.instances["green-1.local"].fault = 500

    monitored.watch(12, 10)

    assert newest(monitored).verdict == "failed"
    assert is_back(monitored)


def test_wrong_bodies_that_simulated_visitors_found_fail_a_window(stepping: Steered) -> None:
    stepping.settings["visitors_rate"] = 25
    ledger = stepping.directory / "visitors" / "visitors.json"
    ledger.parent.mkdir(exist_ok=True)
    window = stepping.open()

    for answers, wrong in ((0, 0), (200, 20)):
        found = {"releases": {OLD: 4 * answers, NEW: answers}, "wrong_by": {NEW: wrong}}
        ledger.write_text(json.dumps(found))
        stepping.watch(12, 10)

    closed = stepping.window(window)
    assert closed.verdict == "failed"
    assert "wrong bodies: new 20 of 200, old 0 of 800" in closed.summary
    assert stepping.ask_many(20) == {OLD: 20}


def test_the_journal_says_that_it_was_the_guard(stepping: Steered) -> None:
    stepping.watch(12, 10)
    stepping.instances["green-1.local"].deadlocks = 1
    stepping.watch(12, 10)

    owners = {e.event: e.owner for e in stepping.steering.journal.entries()}
    assert owners["rolled_back"] == owners["window.closed"] == "guard"


def test_a_failed_window_fences_whoever_still_drives(stepping: Steered) -> None:
    stepping.watch(12, 10)
    stepping.instances["green-1.local"].deadlocks = 1
    stepping.watch(12, 10)

    with pytest.raises(Refused, match="You lost the lock, by rollback: to guard"):
        stepping.shift(NEW, 100)


def test_of_the_first_release_a_failed_window_says_that_there_is_no_way_back(target: Steered) -> None:
    target.offer(OLD)
    target.shift(OLD, 100)
    window = target.open("monitor")
    target.watch(12, 10)
    target.instances["blue-1.local"].deadlocks = 1

    target.watch(12, 10)

    report = json.loads(samples_path(target.target, window.id).with_name("report.json").read_text())
    assert newest(target).verdict == "failed"
    assert "nothing before it" in report["rollback"]
    assert target.ask_many(4) == {OLD: 4}


# What a window never says.


def test_a_window_without_traffic_never_passes_and_ends_unknown(stepping: Steered) -> None:
    stepping.watch(0, 10, rounds=11)
    assert newest(stepping).verdict == ""

    stepping.watch(0, 10, rounds=2)

    assert newest(stepping).verdict == "unknown"
    assert "requests 0 (limit >= 5)" in newest(stepping).summary
    assert stepping.steering.balancer.shares() == {"blue": 75, "green": 25}


def test_health_checks_scrapes_and_pushes_are_no_traffic(stepping: Steered) -> None:
    checked = stepping.steering.balancer.command("show stat")
    wait_for(lambda: stepping.steering.balancer.command("show stat") != checked, "a health check")

    stepping.watch(0, 10, rounds=13)

    assert newest(stepping).verdict == "unknown"


def test_a_robot_that_only_looks_whether_the_front_door_answers_is_no_traffic(stepping: Steered) -> None:
    for _ in range(13):
        assert all(stepping.ask("/healthz").status == 200 for _ in range(12))
        stepping.watch(0, 10)

    assert newest(stepping).verdict == "unknown"


def test_samples_that_cannot_be_kept_keep_the_guard_from_nothing(stepping: Steered) -> None:
    path = samples_path(stepping.target, newest(stepping).id)
    path.parent.parent.mkdir(exist_ok=True)
    path.parent.write_text("in the way, as a full disk is")
    stepping.watch(12, 10)
    for instance in stepping.of("green"):
        instance.deadlocks += 1

    with suppress(OSError):  # nor can the report be kept
        stepping.watch(12, 10)

    assert newest(stepping).verdict == "failed"
    assert is_back(stepping)


def test_a_window_that_failed_while_nothing_could_be_done_is_not_opened_again(
    stepping: Steered,
) -> None:
    stepping.watch(12, 10)
    for instance in stepping.of("blue"):
        instance.die()
        stepping.await_up(instance.name, up=False)
    for instance in stepping.of("green"):
        instance.deadlocks += 1
    stepping.watch(12, 10)
    assert newest(stepping).verdict == "failed"

    with pytest.raises(Refused, match="failed"):
        stepping.open()


def test_an_unknown_window_promotes_nothing(stepping: Steered) -> None:
    stepping.watch(0, 10, rounds=13)

    with pytest.raises(Refused, match="has no passed window"):
        stepping.shift(NEW, 100)


def test_a_window_in_which_haproxy_was_away_never_passes_and_ends_unknown(stepping: Steered) -> None:
    stepping.haproxy.stop()
    for _ in range(14):
        stepping.now += 10
        look_blind(stepping.guard)

    assert newest(stepping).verdict == "unknown"


def look_blind(guard: Guard) -> None:
    """A round as ``run`` makes it: whatever it cannot see, it goes on."""
    with suppress(RolloutError):
        guard.look()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p12_process_start_time_seconds 1\n",
        'p12_db_errors_total{sqlstate="40P01"} 0\n',
        'p12_process_start_time_seconds 1\np12_db_errors_total{sqlstate="40001"} 0\n',
        "<html>not metrics</html>",
        'p12_process_start_time_seconds soon\np12_db_errors_total{sqlstate="40P01"} none\n',
        'p12_process_start_time_seconds 1\np12_db_errors_total{sqlstate="40P01"} NaN\n',
        'p12_process_start_time_seconds NaN\np12_db_errors_total{sqlstate="40P01"} 0\n',
    ],
    ids=["empty", "no deadlocks", "no start", "other states", "a page", "words", "not a number", "no time"],
)
def test_a_candidate_whose_deadlocks_cannot_be_read_never_passes(stepping: Steered, text: str) -> None:
    for instance in stepping.of("green"):
        instance.metrics_text = text

    stepping.watch(8, 10, rounds=13)

    assert newest(stepping).verdict == "unknown"


def test_one_candidate_instance_that_cannot_be_scraped_is_enough_to_never_pass(stepping: Steered) -> None:
    stepping.instances["green-2.local"].metrics_text = ""

    stepping.watch(8, 10, rounds=13)

    assert newest(stepping).verdict == "unknown"


def test_a_candidate_that_started_anew_took_its_counters_with_it_and_never_passes(stepping: Steered) -> None:
    stepping.watch(12, 10, rounds=2)
    again = stepping.instances["green-1.local"]
    again.die()
    again.start()
    stepping.await_up("green-1.local")

    stepping.watch(8, 10, rounds=11)

    assert newest(stepping).verdict == "unknown"
    assert "green-1.local: started anew" in newest(stepping).summary


def test_counters_that_fell_do_not_count_as_watched_time(stepping: Steered) -> None:
    stepping.watch(12, 10, rounds=3)
    stepping.steering.balancer.command("clear counters all")

    stepping.watch(12, 10)
    assert newest(stepping).verdict == ""
    stepping.watch(12, 10, rounds=3)

    assert newest(stepping).verdict == "passed"


def test_a_deadlock_counter_that_fell_never_passes(stepping: Steered) -> None:
    for instance in stepping.of("green"):
        instance.deadlocks = 5
    stepping.watch(12, 10, rounds=2)
    stepping.instances["green-1.local"].deadlocks = 2

    stepping.watch(8, 10, rounds=11)

    assert newest(stepping).verdict == "unknown"


def test_time_in_which_nobody_looked_is_not_watched(stepping: Steered) -> None:
    stepping.watch(12, 10, rounds=2)
    stepping.watch(12, 60)

    assert newest(stepping).verdict == ""


def test_a_clock_that_was_set_back_passes_nothing(stepping: Steered) -> None:
    stepping.watch(12, 10, rounds=2)
    stepping.watch(12, -3600)
    stepping.watch(12, 10)

    assert newest(stepping).verdict == ""


# What survives.


def test_a_guard_that_was_killed_goes_on_where_it_was(stepping: Steered) -> None:
    stepping.watch(12, 10, rounds=3)

    stepping.guard = Guard(stepping.steering, clock=lambda: stepping.now)
    stepping.watch(12, 10)
    assert newest(stepping).verdict == ""
    stepping.watch(12, 10)

    assert newest(stepping).verdict == "passed"
    assert newest(stepping).summary.endswith(" 0 errors in 30 s")


def test_a_long_window_is_sampled_each_five_seconds_however_often_the_guard_looks(live: Steered) -> None:
    live.settings["windows"]["step"] = {**LIMITS, "seconds": 600, "max_seconds": 1200}
    live.settings["steps"] = [25, 100]
    live.offer(NEW)
    live.shift(NEW, 25)
    live.open()

    live.watch(1, 1, rounds=16)

    times = [taken["at"] for taken in read_samples(samples_path(live.target, newest(live).id))]
    assert [later - times[0] for later in times] == [0, 5, 10, 15]


@pytest.fixture
def doubtful(live: Steered) -> Steered:
    """A release whose window saw a few errors: too many to pass it, and too few to fail it."""
    live.settings["windows"]["step"] = {**LIMITS, "by_request": True, "shared_seconds": 1e6}
    live.settings["steps"] = [25, 100]
    live.offer(NEW)
    live.shift(NEW, 25)
    live.open()
    live.watch_visitors(24, 10, rounds=2)
    for instance in live.of("green"):
        instance.fault = 500
    live.watch_visitors(12, 10)
    for instance in live.of("green"):
        instance.fault = 0
    live.watch_visitors(24, 10, rounds=12)
    return live


def test_a_window_that_is_tried_again_begins_with_what_was_seen(doubtful: Steered) -> None:
    live, first = doubtful, newest(doubtful)

    with pytest.raises(Refused) as refused:
        wait(live.steering, first.id, live.token)
    live.open()
    live.watch_visitors(24, 10)
    asked, _ = samples.read(samples_path(live.target, newest(live).id))

    assert (first.verdict, newest(live).verdict) == ("unknown", "")
    assert "watch again" not in refused.value.hint
    assert "errors at most" in refused.value.hint
    assert asked.earlier is not None
    assert ["failed", ""] in [stream[:2] for stream in asked.earlier["streams"]]


def test_a_person_who_passes_what_lies_above_the_tolerable_is_told_what_that_overrides(
    doubtful: Steered,
) -> None:
    said = decide(doubtful.steering, "anna", True, "the three are known")["say"]

    assert "It overrides: errors at most" in said
    assert "overrides errors at most" in newest(doubtful).summary


def test_what_the_request_log_does_not_account_for_is_not_watched(stepping: Steered) -> None:
    stepping.watch(12, 10, rounds=2)
    request_log.reader(stepping.target).close()
    stepping.watch(12, 10)
    stepping.watch(12, 10)
    assert newest(stepping).verdict == ""

    judgement = stepping.guard.judges[newest(stepping).id].judgement

    assert "12 of 12 requests are missing from the request log" in judgement.broken
    stepping.watch(12, 10)
    assert newest(stepping).verdict == "passed"


def test_a_failed_window_names_the_routes_and_the_first_failed_requests(stepping: Steered) -> None:
    stepping.watch(12, 10)
    for instance in stepping.of("green"):
        instance.fault = 500
    answers = [stepping.ask() for _ in range(40)]
    stepping.watch(200, 10)

    summary = newest(stepping).summary

    assert newest(stepping).verdict == "failed"
    assert "by route: GET /" in summary
    failed = next(answer for answer in answers if answer.status == 500)
    assert f" 500 {failed.instance} request={failed.headers['x-request-id']}" in summary


@pytest.mark.parametrize("torn", [b'{"at": 17', b'{"at": 17\n', b"\x00\x00\x00\n", b"[]\n", b"\n"])
def test_a_torn_sample_breaks_its_segment_and_not_the_guard(stepping: Steered, torn: bytes) -> None:
    stepping.watch(12, 10)
    with samples_path(stepping.target, newest(stepping).id).open("ab") as file:
        file.write(torn)

    for _ in range(4):
        stepping.guard = Guard(stepping.steering, clock=lambda: stepping.now)
        stepping.watch(12, 10, rounds=2)

    assert newest(stepping).verdict == "passed"


def test_the_kept_samples_give_the_same_verdict_again(stepping: Steered) -> None:
    stepping.watch(12, 10)
    for instance in stepping.of("green"):
        instance.fault = 500
    stepping.watch(60, 10)
    window = newest(stepping)

    taken = read_samples(samples_path(stepping.target, window.id))
    again = judge.judge(WindowLimits(**window.limits), taken, "green", "blue")

    assert again.verdict is Verdict.FAILED


def test_what_is_kept_is_replayed_by_the_command_to_the_verdict_in_the_journal(stepping: Steered) -> None:
    stepping.watch(12, 10, rounds=4)
    window = newest(stepping)

    report = samples.replay(samples_path(stepping.target, window.id))

    assert report.verdict == window.verdict == "passed"
    assert report.inputs["release"] == NEW
    assert samples_path(stepping.target, window.id).stat().st_mode & 0o777 == 0o600


def test_without_the_errors_the_same_samples_would_have_passed(stepping: Steered) -> None:
    stepping.watch(12, 10, rounds=4)
    window = newest(stepping)
    taken = read_samples(samples_path(stepping.target, window.id))
    limits = WindowLimits(**window.limits)

    assert judge.judge(limits, taken, "green", "blue").verdict is Verdict.PASSED
    taken[-1]["instances"]["green-1.local"]["deadlocks"] = 1
    assert judge.judge(limits, taken, "green", "blue").verdict is Verdict.FAILED


def test_a_window_of_a_rollout_that_ended_is_closed_as_unknown(stepping: Steered) -> None:
    stepping.watch(12, 10)
    stepping.roll_back()

    stepping.watch(0, 10)

    assert newest(stepping).verdict == "unknown"
    assert "rolled back meanwhile" in newest(stepping).summary


def test_when_nobody_old_was_up_the_guard_turns_traffic_back_as_soon_as_somebody_is(
    stepping: Steered,
) -> None:
    stepping.watch(12, 10)
    for instance in stepping.of("blue"):
        instance.die()
    stepping.await_up("blue-1.local", "blue-2.local", up=False)
    stepping.instances["green-1.local"].deadlocks = 1
    stepping.watch(10, 10)
    assert stepping.ask_many(4) == {NEW: 4}

    for instance in stepping.of("blue"):
        instance.start()
    stepping.await_up("blue-1.local", "blue-2.local")
    stepping.watch(10, 10)

    assert is_back(stepping)


def test_a_verdict_is_in_the_journal_before_traffic_moves(
    stepping: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift, seen = Balancer.shift, []

    def look_and_shift(balancer: Balancer, shares: dict[str, int]) -> None:
        seen.append((newest(stepping).verdict, balancer.shares()["green"]))
        shift(balancer, shares)

    monkeypatch.setattr(Balancer, "shift", look_and_shift)
    fail(stepping)

    assert seen == [("failed", 25)]
    assert is_back(stepping)


class Killed(BaseException):
    """What a process that is killed does from here on: nothing."""


@pytest.mark.parametrize("step", ["fence", "shift"])
def test_a_guard_killed_after_its_verdict_turns_traffic_back_when_it_is_started_again(
    stepping: Steered, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as killing:
        killing.setattr(Lock if step == "fence" else Balancer, step, killed)
        with pytest.raises(Killed):
            fail(stepping)
    assert newest(stepping).verdict == "failed"
    assert stepping.steering.balancer.shares()["green"] == 25

    stepping.guard = Guard(stepping.steering, clock=lambda: stepping.now)
    stepping.guard.look()

    assert is_back(stepping)
    assert stepping.steering.state().quarantined[NEW].startswith(f"window {newest(stepping).id}: ")


def test_a_full_disk_keeps_no_guard_from_turning_traffic_back(
    stepping: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        for part, name in ((Journal, "append"), (Lock, "fence"), (WantedFlags, "put"), (Balancer, "keep")):
            disk.setattr(part, name, full)
        fail(stepping)
        assert is_back(stepping)
        assert newest(stepping).verdict == ""

    stepping.watch(12, 10)

    assert newest(stepping).verdict == "failed"
    assert NEW in stepping.steering.state().quarantined
    assert is_back(stepping)


# What drifted.


def test_traffic_is_healed_after_haproxy_lost_its_state(stepping: Steered) -> None:
    stepping.haproxy.stop()
    stepping.haproxy.forget()
    stepping.haproxy.start()
    assert stepping.ask().status == 503

    stepping.guard.look()

    assert stepping.steering.balancer.shares() == {"blue": 75, "green": 25}
    assert stepping.ask().status == 200


def test_healed_traffic_survives_the_next_restart_too(live: Steered) -> None:
    live.haproxy.stop()
    live.haproxy.forget()
    live.haproxy.start()
    live.guard.look()

    live.haproxy.stop()
    live.haproxy.start()

    assert live.ask_many(4) == {OLD: 4}


def test_weights_that_a_start_would_not_find_are_kept_again(live: Steered) -> None:
    live.haproxy.forget()

    live.heal()
    live.haproxy.stop()
    live.haproxy.start()

    assert live.ask_many(4) == {OLD: 4}
    assert "traffic.healed" not in live.events()


def test_what_has_not_drifted_is_left_alone(stepping: Steered) -> None:
    pushes = [len(instance.pushes) for instance in stepping.instances.values()]

    for _ in range(5):
        stepping.heal()

    assert "traffic.healed" not in stepping.events()
    assert [len(instance.pushes) for instance in stepping.instances.values()] == pushes


@pytest.mark.parametrize(("blue", "green", "share"), [(2, 2, 5), (1, 3, 5), (3, 1, 1), (1, 5, 1)])
def test_a_share_that_weights_cannot_give_exactly_is_not_healed_for_ever(
    make_target: Callable[..., Steered], blue: int, green: int, share: int
) -> None:
    uneven = make_target(blue, green)
    uneven.serve(OLD)
    uneven.offer(NEW)
    uneven.shift_unwatched(NEW, share)
    events = uneven.events()

    for _ in range(3):
        uneven.heal()

    assert uneven.events() == events


def test_an_instance_that_was_away_gets_its_flags_when_it_is_back(live: Steered) -> None:
    away = live.instances["blue-2.local"]
    away.die()
    wanted = live.steering.flags.put("blue", {"P12_READ_ONLY": "1"})
    live.guard.look()
    assert live.instances["blue-1.local"].generation == wanted.generation

    away.start()
    live.heal()

    assert away.generation == wanted.generation
    assert away.flags["P12_READ_ONLY"] == "1"


def test_an_instance_that_lost_its_flags_file_gets_it_back(live: Steered) -> None:
    live.instances["blue-2.local"].body = None

    live.guard.look()

    assert live.instances["blue-2.local"].body == live.instances["blue-1.local"].body


def test_flags_are_healed_though_haproxy_is_away(live: Steered) -> None:
    live.instances["blue-2.local"].body = None
    live.haproxy.stop()

    look_blind(live.guard)

    assert live.instances["blue-2.local"].body == live.instances["blue-1.local"].body


def test_healing_is_done_now_and_then_not_in_every_round(live: Steered) -> None:
    live.settings["guard"]["heal_seconds"] = 30
    live.now += 30
    live.guard.look()
    live.instances["blue-2.local"].body = None

    live.now += 29
    live.guard.look()
    assert live.instances["blue-2.local"].body is None
    live.now += 1
    live.guard.look()

    assert live.instances["blue-2.local"].body is not None


# The service itself.


def test_with_no_controller_alive_rising_errors_turn_traffic_back(live: Steered) -> None:
    live.settings["guard"]["heal_seconds"] = 0
    live.settings["windows"]["step"] = LIMITS | {"seconds": 20, "max_seconds": 60}
    live.settings["steps"] = [50, 100]
    live.offer(NEW, {LOCKS: "1"})
    live.shift(NEW, 50)
    live.open()
    with live.guarding(), live.visitors() as visitors:
        visitors.come(40)
        for instance in live.of("green"):
            instance.fault = 500
        wait_for(lambda: live.steering.balancer.shares()["blue"] == 100, "traffic is back")
        wait_for(lambda: newest(live).verdict, "the verdict")
        visitors.replies.clear()
        visitors.come(40)

    assert newest(live).verdict == "failed"
    assert set(visitors.releases) <= {OLD, NEW}
    assert visitors.replies[-1][1].release == OLD
    assert {instance.flags[LOCKS] for instance in live.of("green")} == {"0"}
    assert NEW in live.steering.state().quarantined


def test_the_service_survives_a_round_that_fails_and_goes_on(live: Steered) -> None:
    live.settings["guard"]["heal_seconds"] = 0
    with live.guarding() as process:
        live.haproxy.stop()
        log = live.home / "guard.log"
        wait_for(lambda: b"this round failed" in log.read_bytes(), "a round that failed")
        live.haproxy.forget()
        live.haproxy.start()
        wait_for(lambda: live.ask().status == 200, "traffic is healed")

        assert process.poll() is None


class Rounds:
    """Counts rounds, as the event that would stop the guard, and stops it after so many."""

    def __init__(self, count: int) -> None:
        self.left = count

    def is_set(self) -> bool:
        return self.left <= 0

    def wait(self, _: float) -> None:
        self.left -= 1


@pytest.mark.parametrize("unforeseen", [KeyError("share"), TypeError("no number"), ZeroDivisionError()])
def test_the_guard_goes_on_after_an_error_that_nobody_foresaw_and_says_so_once(
    live: Steered,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    unforeseen: Exception,
) -> None:
    def fails(_: Guard) -> None:
        raise unforeseen

    monkeypatch.setattr(Guard, "heal_flags", fails)
    live.settings["guard"]["heal_seconds"] = 0

    live.guard.run(Rounds(5))  # type: ignore[arg-type]

    said = [line for line in capsys.readouterr().err.splitlines() if "this round failed" in line]
    assert len(said) == 1
    assert f"this round failed: {type(unforeseen).__name__}: {unforeseen} (test_guard.py:" in said[0]


def test_systemd_is_told_that_the_guard_is_ready_and_alive_also_when_its_rounds_fail(
    live: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(live.home / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(live.home / "notify"))
        monkeypatch.setattr(Guard, "look", lambda _: 1 / 0)
        heartbeat(live.target).unlink(missing_ok=True)
        try:
            live.guard.run(Rounds(2))  # type: ignore[arg-type]
            assert [systemd.recv(100) for _ in range(2)] == [b"READY=1\nWATCHDOG=1"] * 2
        finally:
            (live.home / "notify").unlink()
    assert heartbeat(live.target).exists()


def test_what_a_guard_that_hung_did_not_judge_is_not_watched(stepping: Steered) -> None:
    stepping.watch(12, 10)
    stepping.guard = Guard(stepping.steering, clock=lambda: stepping.now)

    stepping.watch(12, 12, rounds=2)

    assert newest(stepping).verdict == ""
    beat = json.loads((stepping.target.steering / "guard.json").read_bytes())
    assert beat["standing"]["watched_seconds"] == 12


def test_the_service_ends_when_it_is_told_to(live: Steered) -> None:
    with live.guarding() as process:
        process.terminate()

        assert process.wait(5) == 0
