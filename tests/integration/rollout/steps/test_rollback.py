"""The way back: one call on the balancer, proven at every instance that serves afterwards."""

import errno
import itertools
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rollout.errors import Refused, RolloutError, Unproven
from rollout.guard.loop import Guard
from rollout.steps import rollback, rollout
from rollout.steps.rollback import flags_off
from rollout.target.haproxy import Balancer
from rollout.target.journal import BrokenJournal, Journal
from rollout.target.lock import Lock
from rollout.target.wanted_flags import WantedFlags
from tests.integration.rollout.small import SLOW
from tests.integration.rollout.steered import NEW, NEXT, OLD, Steered, digest_of, reply_on, timed
from tests.running import wait_for

# What an engineer may be asked to wait; a quiet machine needs a tenth of it.
SECONDS = 2.0
LOCKS, LEGACY, READ_ONLY = "P12_ENABLE_ADVISORY_LOCKS", "P12_ENABLE_LEGACY_VIEW", "P12_READ_ONLY"


@pytest.fixture
def risky(live: Steered) -> Steered:
    """An old release in blue, and a new one with a raised flag that has all traffic."""
    live.offer(NEW, {LOCKS: "1", LEGACY: "1"})
    live.shift_unwatched(NEW, 100)
    return live


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a proof early, where it cannot come."""
    monkeypatch.setattr(rollback, "PROOF_SECONDS", 0.3)


def untouched(target: Steered, action: Callable[[], Any]) -> RolloutError:
    """Run something that must be refused, and show that it changed nothing at all."""
    before = (target.steering.balancer.shares(), target.events(), target.steering.lock.holder())
    wanted = target.steering.flags.all()
    with pytest.raises(RolloutError) as raised:
        action()
    assert (target.steering.balancer.shares(), target.events(), target.steering.lock.holder()) == before
    assert target.steering.flags.all() == wanted
    return raised.value


def test_traffic_is_back_proven_and_told_in_one_line(risky: Steered) -> None:
    answer, seconds = timed(risky.roll_back)

    assert risky.ask_many(20) == {OLD: 20}
    assert answer["changed"]
    assert answer["proven"] == ["blue-1.local", "blue-2.local"]
    assert answer["unreached"] == []
    assert answer["say"].startswith(f"production: back on {OLD} (blue), proven at 2 instances in 0.")
    assert answer["say"].endswith(f"{LOCKS} off in green")
    assert seconds < SECONDS


def test_what_the_release_raised_is_lowered_in_the_slot_that_was_left(risky: Steered) -> None:
    answer = risky.roll_back()

    assert answer["lowered"] == [LOCKS]
    for instance in risky.of("green"):
        assert instance.flags[LOCKS] == "0"
        assert instance.flags[LEGACY] == "1"


def test_the_slot_that_serves_again_keeps_its_own_flags(target: Steered) -> None:
    target.serve(OLD, {READ_ONLY: "0", LEGACY: "0"})
    before = [instance.body for instance in target.of("blue")]
    target.offer(NEW, {LOCKS: "1"})
    target.shift_unwatched(NEW, 25)

    target.roll_back()

    assert [instance.body for instance in target.of("blue")] == before
    assert target.of("blue")[0].flags[LEGACY] == "0"


def test_the_release_is_quarantined_with_the_reason(risky: Steered) -> None:
    risky.roll_back("notes vanish")

    state = risky.steering.state()
    assert state.quarantined == {NEW: "notes vanish"}
    assert state.rollout is not None
    assert state.rollout.ended == "rolled back"
    risky.take("eve")
    with pytest.raises(Refused, match="notes vanish"):
        risky.claim(NEW)


def test_it_needs_nobodys_lock_and_frees_the_one_that_is_held(risky: Steered) -> None:
    held = risky.token

    risky.roll_back()

    assert not risky.steering.lock.holder().owner
    with pytest.raises(Refused):
        risky.steering.lock.renew(held)


def test_a_release_that_has_begun_without_traffic_is_turned_back_too(live: Steered) -> None:
    live.offer(NEW, {LOCKS: "1"})

    answer = live.roll_back()

    assert live.ask_many(10) == {OLD: 10}
    assert answer["lowered"] == [LOCKS]
    assert NEW in live.steering.state().quarantined


def test_a_finished_release_can_be_turned_back_while_the_one_before_is_warm(live: Steered) -> None:
    live.serve(NEW)

    live.roll_back()

    assert live.ask_many(10) == {OLD: 10}
    assert live.steering.state().good == (OLD,)


def test_with_the_new_slot_dead_it_is_named_and_not_waited_for(risky: Steered) -> None:
    for instance in risky.of("green"):
        instance.die()

    answer, seconds = timed(risky.roll_back)

    assert answer["unreached"] == ["green-1.local", "green-2.local"]
    assert "will be healed by the guard: green-1.local, green-2.local" in answer["say"]
    assert risky.ask_many(10) == {OLD: 10}
    assert seconds < SECONDS


def test_with_the_new_slot_hung_it_costs_one_time_out_not_one_each(risky: Steered) -> None:
    for instance in risky.of("green"):
        instance.freeze()

    answer, seconds = timed(risky.roll_back)

    assert answer["proven"] == ["blue-1.local", "blue-2.local"]
    assert seconds < SECONDS


def test_an_old_instance_seen_down_is_named_and_not_waited_for(risky: Steered) -> None:
    risky.instances["blue-2.local"].die()
    risky.await_up("blue-2.local", up=False)

    answer, seconds = timed(risky.roll_back)

    assert answer["proven"] == ["blue-1.local"]
    assert answer["unreached"] == ["blue-2.local"]
    assert risky.ask_many(10) == {OLD: 10}
    assert seconds < SECONDS


def test_an_old_instance_that_died_this_moment_is_found_out(risky: Steered) -> None:
    risky.instances["blue-2.local"].die()

    answer, seconds = timed(risky.roll_back)

    assert (answer["proven"], answer["unreached"]) == (["blue-1.local"], ["blue-2.local"])
    assert seconds < SECONDS


def test_with_no_old_instance_up_it_is_refused_and_the_new_one_goes_on_serving(risky: Steered) -> None:
    for instance in risky.of("blue"):
        instance.die()
    risky.await_up("blue-1.local", "blue-2.local", up=False)

    error = untouched(risky, risky.roll_back)

    assert f"No instance of blue ({OLD}) is up" in str(error)
    assert "./p12 rollback --flags-only" in error.hint
    assert risky.ask_many(10) == {NEW: 10}


def test_with_300_slow_requests_in_flight_it_is_as_fast_and_fails_no_visitor(
    make_target: Callable[..., Steered],
) -> None:
    crowded = make_target(p12_threads=252)
    crowded.serve(OLD)
    crowded.offer(NEW, {LOCKS: "1"})
    with crowded.visitors() as visitors:
        crowded.shift_unwatched(NEW, 100)
        visitors.come()
        for instance in crowded.of("green"):
            instance.hold()
        with crowded.in_flight(300) as connections:
            wait_for(lambda: sum(i.busy for i in crowded.of("green")) >= 300, "300 are in flight")
            answer, seconds = timed(crowded.roll_back)
            visitors.come()
            for instance in crowded.of("green"):
                instance.let_go()
            replies = [reply_on(connection) for connection in connections]

    assert seconds < SECONDS
    assert answer["proven"] == ["blue-1.local", "blue-2.local"]
    assert {(reply.status, reply.release) for reply in replies} == {(200, NEW)}
    assert visitors.failed == []


def test_with_the_new_slot_full_those_who_wait_in_line_are_served_by_the_old_one(risky: Steered) -> None:
    for instance in risky.of("green"):
        instance.hold()
    with risky.in_flight(300) as connections:
        wait_for(lambda: sum(i.busy for i in risky.of("green")) == 12, "the new slot is full")
        _, seconds = timed(risky.roll_back)
        with risky.visitors() as visitors:
            visitors.come()
        wait_for(lambda: sum(i.paths.count(SLOW) for i in risky.of("blue")) == 288, "the line is gone")
        for instance in risky.of("green"):
            instance.let_go()
        replies = [reply_on(connection) for connection in connections]

    assert seconds < SECONDS
    assert Counter((reply.status, reply.release) for reply in replies) == {(200, OLD): 288, (200, NEW): 12}
    assert visitors.failed == []


def test_going_forward_with_300_slow_requests_in_flight_fails_no_visitor(
    make_target: Callable[..., Steered],
) -> None:
    crowded = make_target(p12_threads=252)
    crowded.serve(OLD)
    crowded.offer(NEW)
    with crowded.visitors() as visitors:
        visitors.come()
        for instance in crowded.of("blue"):
            instance.hold()
        with crowded.in_flight(300) as connections:
            wait_for(lambda: sum(i.busy for i in crowded.of("blue")) >= 300, "300 are in flight")
            _, seconds = timed(lambda: crowded.shift_unwatched(NEW, 100))
            visitors.come()
            for instance in crowded.of("blue"):
                instance.let_go()
            replies = [reply_on(connection) for connection in connections]

    assert seconds < SECONDS
    assert {(reply.status, reply.release) for reply in replies} == {(200, OLD)}
    assert visitors.failed == []


def test_twice_stays_where_it_is(risky: Steered) -> None:
    first = risky.roll_back()
    events = risky.events()

    again = risky.roll_back()

    assert risky.ask_many(10) == {OLD: 10}
    assert (first["changed"], again["changed"]) == (True, False)
    assert again["say"].startswith(f"production: already on {OLD} (blue), proven at 2 instances")
    assert risky.events() == events


def test_twice_moves_traffic_that_somebody_moved_in_between(risky: Steered) -> None:
    risky.roll_back()
    risky.steering.balancer.shift({"green": 100, "blue": 0})

    again = risky.roll_back()

    assert again["changed"]
    assert risky.ask_many(10) == {OLD: 10}


def test_twice_with_a_newer_release_installed_in_between_stays_where_it_is(risky: Steered) -> None:
    risky.roll_back()
    risky.take()
    risky.claim(NEXT)
    risky.install("green", NEXT)
    risky.prove(NEXT)

    risky.roll_back()

    assert risky.ask_many(10) == {OLD: 10}


@pytest.mark.parametrize("proven", [False, True], ids=["claimed only", "proven, not begun"])
def test_when_the_slot_before_was_overwritten_it_is_refused_and_nothing_changes(
    live: Steered, proven: bool
) -> None:
    live.serve(NEW, {LOCKS: "1"})
    live.take()
    live.claim(NEXT)
    live.install("blue", NEXT)
    if proven:
        live.prove(NEXT)

    error = untouched(live, live.roll_back)

    assert f"blue no longer holds {OLD}, which served before; it has {NEXT}" in str(error)
    assert "./p12 rollback --flags-only" in error.hint
    assert live.ask_many(10) == {NEW: 10}


def test_the_same_release_installed_anew_is_no_way_back_until_it_is_proven(live: Steered) -> None:
    live.serve(NEW)
    live.take()
    live.claim(OLD)

    untouched(live, live.roll_back)


def test_of_the_first_release_there_is_nothing_before_it(target: Steered) -> None:
    target.serve(OLD)

    error = untouched(target, target.roll_back)

    assert "there is nothing before it" in str(error)


def test_where_nothing_was_ever_released_there_is_nothing_to_roll_back(target: Steered) -> None:
    error = untouched(target, target.roll_back)

    assert "Nothing was ever released here" in str(error)
    assert error.hint == "./p12 release"


def test_a_release_that_serves_already_and_is_begun_again_cannot_be_rolled_back_to_nobody(
    risky: Steered,
) -> None:
    risky.roll_back()
    risky.take()
    risky.admit(OLD)
    rollout.begin(risky.steering, OLD, risky.token, "certify it again")
    risky.shift(OLD, 100)

    untouched(risky, risky.roll_back)

    assert risky.ask_many(10) == {OLD: 10}


def test_a_journal_that_names_a_release_as_the_one_before_itself_turns_traffic_to_nobody(
    live: Steered,
) -> None:
    live.steering.journal.append(
        "ann", "rollout.begun", release=OLD, slot="blue", from_slot="blue", from_release=OLD, why=""
    )

    untouched(live, live.roll_back)

    assert live.ask_many(10) == {OLD: 10}


def test_two_engineers_at_once_turn_it_back_once(risky: Steered) -> None:
    with ThreadPoolExecutor() as pool:
        answers = [future.result() for future in [pool.submit(risky.roll_back) for _ in range(2)]]

    assert sorted(answer["changed"] for answer in answers) == [False, True]
    assert risky.events().count("rolled_back") == 1
    assert risky.ask_many(10) == {OLD: 10}


def test_while_a_shift_waits_for_an_instance_it_does_not_wait(live: Steered) -> None:
    live.offer(NEW)
    live.instances["green-1.local"].die()
    live.await_up("green-1.local", up=False)
    with ThreadPoolExecutor() as pool:
        heartbeat = live.steering.lock.holder().heartbeat
        waiting = pool.submit(live.shift, NEW, 5)
        wait_for(lambda: live.steering.lock.holder().heartbeat > heartbeat, "the shift has begun")
        _, seconds = timed(live.roll_back)
        live.instances["green-1.local"].start()

        with pytest.raises(Refused, match="You lost the lock, by rollback: to bob@tower"):
            waiting.result()
    assert seconds < SECONDS
    assert live.ask_many(10) == {OLD: 10}


@pytest.mark.parametrize(
    ("step", "nth"),
    [
        (Lock.fence, 1),
        (Journal.append, 1),
        (Balancer.shift, 1),
        (Balancer.keep, 1),
        (WantedFlags.put, 1),
        (Journal.append, 2),
        (Journal.append, 3),
    ],
    ids=lambda step: getattr(step, "__qualname__", step),
)
def test_killed_at_any_moment_nobody_undoes_it_and_repeating_it_ends_it(
    risky: Steered, monkeypatch: pytest.MonkeyPatch, step: Callable[..., Any], nth: int
) -> None:
    calls = itertools.count(1)

    def killed(*given: Any, **named: Any) -> Any:
        if next(calls) == nth:
            raise KeyboardInterrupt
        return step(*given, **named)

    owner = {owner.__name__: owner for owner in (Lock, Journal, Balancer, WantedFlags)}
    with monkeypatch.context() as patched:
        patched.setattr(owner[step.__qualname__.split(".")[0]], step.__name__, killed)
        with pytest.raises(KeyboardInterrupt):
            risky.roll_back()
    turned = risky.steering.balancer.shares()["blue"] == 100

    risky.guard.look()

    assert risky.steering.balancer.shares()["blue"] == 100 or not turned
    risky.roll_back()
    assert risky.ask_many(10) == {OLD: 10}
    assert NEW in risky.steering.state().quarantined
    assert all(instance.flags[LOCKS] == "0" for instance in risky.of("green"))


def test_with_haproxy_away_it_says_so_and_what_to_type(risky: Steered) -> None:
    risky.haproxy.stop()

    with pytest.raises(RolloutError, match="HAProxy does not answer") as raised:
        risky.roll_back()

    assert raised.value.hint
    assert risky.steering.state().quarantined == {}


def test_an_old_instance_that_lost_its_flags_gets_them_back_before_it_counts_as_proven(
    target: Steered,
) -> None:
    target.serve(OLD, {LEGACY: "0"})
    target.offer(NEW)
    target.shift_unwatched(NEW, 100)
    target.instances["blue-2.local"].body = None

    answer = target.roll_back()

    assert answer["proven"] == ["blue-1.local", "blue-2.local"]
    assert target.instances["blue-2.local"].flags[LEGACY] == "0"


@pytest.mark.usefixtures("soon")
def test_an_old_instance_that_runs_something_else_is_said_to_be_unproven(risky: Steered) -> None:
    risky.instances["blue-2.local"].commit = "d" * 40

    with pytest.raises(Unproven, match=f"blue-2.local runs {'d' * 12}, not {OLD}") as raised:
        risky.roll_back()

    assert raised.value.hint
    assert risky.steering.balancer.shares() == {"blue": 100, "green": 0}
    assert NEW in risky.steering.state().quarantined


@pytest.mark.usefixtures("soon")
def test_an_old_instance_that_does_not_take_its_flags_is_said_to_be_unproven(risky: Steered) -> None:
    risky.instances["blue-2.local"].body = None
    risky.instances["blue-2.local"].secret = "another"

    with pytest.raises(Unproven, match=r"blue-2\.local has flag generation 0"):
        risky.roll_back()


def test_flags_only_leaves_traffic_and_lowers_at_every_serving_instance(risky: Steered) -> None:
    answer, seconds = timed(lambda: flags_off(risky.steering, "bob@tower"))

    assert risky.ask_many(10) == {NEW: 10}
    assert (answer["slot"], answer["lowered"]) == ("green", [LOCKS])
    assert answer["proven"] == ["green-1.local", "green-2.local"]
    assert all(instance.flags[LOCKS] == "0" for instance in risky.of("green"))
    assert risky.steering.state().quarantined == {}
    assert seconds < SECONDS


def test_flags_only_works_under_somebody_elses_lock_and_leaves_it(risky: Steered) -> None:
    held = risky.steering.lock.holder()

    flags_off(risky.steering, "bob@tower")

    assert risky.steering.lock.holder() == held


def test_flags_only_twice_changes_nothing_the_second_time(risky: Steered) -> None:
    flags_off(risky.steering, "bob@tower")
    bodies = [instance.body for instance in risky.of("green")]

    again = flags_off(risky.steering, "bob@tower")

    assert not again["changed"]
    assert "no flag was raised in" in again["say"]
    assert [instance.body for instance in risky.of("green")] == bodies


def test_as_a_command_it_answers_in_json_within_the_time_allowed(risky: Steered) -> None:
    (status, answer), seconds = timed(lambda: risky.host("rollback", "--owner=bob@tower", "--why=it's slow"))

    assert (status, answer["release"], answer["changed"]) == (0, OLD, True)
    assert risky.steering.state().quarantined == {NEW: "it's slow"}
    assert seconds < SECONDS


def test_as_a_command_a_refusal_is_an_error_with_a_hint_and_status_1(target: Steered) -> None:
    status, answer = target.host("rollback")

    assert status == 1
    assert "Nothing was ever released here" in answer["error"]
    assert answer["hint"] == "./p12 release"


def test_as_a_command_it_needs_nothing_but_the_standard_library(risky: Steered) -> None:
    without_site_packages = ["-S"]

    status, answer = risky.host("rollback", python=without_site_packages)

    assert (status, answer["release"]) == (0, OLD)


def test_a_full_disk_does_not_keep_traffic_on_the_bad_release(
    risky: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Journal, "append", full)
        disk.setattr(Lock, "fence", full)
        disk.setattr(WantedFlags, "put", full)
        disk.setattr(Balancer, "keep", full)
        with pytest.raises(Unproven, match=r"could not be written down: .*No space left") as raised:
            risky.roll_back()
        with pytest.raises(OSError, match="No space left"):
            Guard(risky.steering).heal_traffic()
        served = risky.ask_many(20)

    assert served == {OLD: 20}
    assert "df -h" in raised.value.hint
    assert risky.roll_back()["release"] == OLD
    assert "rolled_back" in risky.events()


def damage_journal(target: Steered) -> bytes:
    """Alter the newest entry that says who serves; return what the journal then holds."""
    path = target.steering.journal.path
    content = path.read_bytes().replace(b'"green":100', b'"green":101')
    path.write_bytes(content)
    return content


def test_with_a_damaged_journal_traffic_is_back_and_the_damaged_one_is_kept(risky: Steered) -> None:
    damaged = damage_journal(risky)

    status, answer = risky.host("rollback", "--owner=bob", "--why=errors")

    assert (status, answer["release"], answer["lowered"]) == (0, OLD, [LOCKS])
    assert "was altered or damaged" in answer["say"]
    assert risky.ask_many(10) == {OLD: 10}
    (kept,) = risky.target.steering.glob("journal.damaged-*.jsonl")
    assert kept.read_bytes() == damaged
    assert str(kept) in answer["say"]
    assert risky.events()[0] == "journal.replaced"
    assert NEW in risky.steering.state().quarantined


def test_with_a_damaged_journal_flags_go_off_and_status_says_what_was_wrong(risky: Steered) -> None:
    damage_journal(risky)
    _, before = risky.host("status")
    assert "was altered or damaged" in before["journal_error"]

    status, answer = risky.host("flags", "off")

    assert (status, answer["lowered"]) == (0, [LOCKS])
    assert all(instance.flags[LOCKS] == "0" for instance in risky.of("green"))
    assert "journal.damaged-" in risky.host("status")[1]["journal_error"]


def test_a_damaged_journal_on_a_full_disk_keeps_nobody_from_turning_back(
    risky: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    damage_journal(risky)
    monkeypatch.setattr("rollout.target.history.write_bytes", full)
    monkeypatch.setattr(Journal, "append", full)

    with pytest.raises(Unproven, match="the rollback could not be written down"):
        risky.roll_back()

    assert risky.ask_many(10) == {OLD: 10}


def test_a_release_does_not_go_on_with_a_damaged_journal(risky: Steered) -> None:
    damage_journal(risky)

    with pytest.raises(BrokenJournal):
        rollout.finish(risky.steering, NEW, risky.token)


def test_the_whole_chain_is_verified_when_it_is_asked_for(risky: Steered) -> None:
    assert "the whole chain holds" in risky.host("journal", "--verify")[1]["say"]
    damage_journal(risky)

    status, answer = risky.host("journal", "--verify")

    assert (status, "was altered or damaged" in answer["error"]) == (1, True)


KILLER = """
import importlib, os, signal, sys
place, name, nth, when = sys.argv[1:5]
module, owner = place.split(":")
owner = getattr(importlib.import_module(module), owner)
step, calls = getattr(owner, name), []
def killed(*given, **named):
    calls.append(1)
    if when == "before" and len(calls) == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    done = step(*given, **named)
    if len(calls) == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(owner, name, killed)
from rollout.cli.host import main
main(["production", "rollback", "--owner=bob@tower", "--why=errors"])
"""
JOURNAL, LOCK, BALANCER = "journal:Journal", "lock:Lock", "haproxy:Balancer"
KILLED_AT = [
    (JOURNAL, "append", 1, "after"),
    *((place, name, 1, when) for when in ("before", "after") for place, name in (
        (LOCK, "fence"), (BALANCER, "shift"), (BALANCER, "keep"), ("wanted_flags:WantedFlags", "put"))),
    *((JOURNAL, "append", nth, when) for nth in (2, 3, 4) for when in ("before", "after")),
]  # fmt: skip


def kill_rollback(target: Steered, place: str, name: str, nth: int, when: str) -> None:
    """Run a rollback that is killed with SIGKILL before or after one of its steps."""
    words = [f"rollout.target.{place}", name, str(nth), when]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, *words], env=target.environment(), capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("finisher", ["guard", "engineer"])
@pytest.mark.parametrize("at", KILLED_AT, ids=lambda at: "-".join(map(str, at)).rpartition(":")[2])
def test_half_a_rollback_is_named_and_finished_by_whoever_looks_next(
    live: Steered, at: tuple[str, str, int, str], finisher: str
) -> None:
    live.serve(NEW, {LOCKS: "1"})
    kill_rollback(live, *at)
    live.take("eve@desk", "desk:2:2.0")
    if "rolled_back" not in live.events():
        with pytest.raises(Refused, match=f"A rollback of {NEW} to {OLD}, begun by bob@tower"):
            rollout.plan(live.steering, NEW, digest_of(NEW))
        assert live.host("status")[1]["rollback"]["owner"] == "bob@tower"

    if finisher == "guard":
        live.guard.look()
    else:
        live.roll_back()

    assert live.ask_many(10) == {OLD: 10}
    assert all(instance.flags[LOCKS] == "0" for instance in live.of("green"))
    state = live.steering.state()
    assert (state.rollback, list(state.quarantined), state.good) == (None, [NEW], (OLD,))
    assert live.steering.balancer.holds(state.shares)


def test_a_release_is_not_called_live_that_haproxy_does_not_serve(live: Steered) -> None:
    live.serve(NEW)
    live.steering.balancer.shift({"blue": 100, "green": 0})

    with pytest.raises(Refused, match=f"{NEW} is finished in the journal, and HAProxy gives green 0 %"):
        rollout.plan(live.steering, NEW, digest_of(NEW))


def test_one_that_changes_nothing_leaves_a_running_release_alone(risky: Steered) -> None:
    risky.roll_back()
    token = risky.take("eve@desk", "desk:2:2.0")
    risky.claim(NEXT)
    risky.install("green", NEXT)
    risky.prove(NEXT, {LOCKS: "1"})
    events = risky.events()

    answer = risky.roll_back()

    assert not answer["changed"]
    assert risky.steering.lock.renew(token).owner == "eve@desk"
    assert risky.steering.flags.of("green").flags[LOCKS] == "1"
    assert risky.events() == events
