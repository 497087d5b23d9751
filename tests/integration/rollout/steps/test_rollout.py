"""A rollout's moves, each with the rule that must hold before it, whoever asks."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rollout.errors import Refused, RolloutError, Unproven
from rollout.files import file_lock
from rollout.steps import reports, rollout
from rollout.steps.prove import prove
from rollout.steps.rollback import flags_off
from rollout.steps.window import open_window
from rollout.target import certificate
from tests.integration.rollout.steered import (
    NEW,
    NEXT,
    OLD,
    STAGING_KEY,
    Steered,
    commit_of,
    digest_of,
    document_of,
    timed,
)
from tests.running import wait_for

LOCKS, QUEUE = "P12_ENABLE_ADVISORY_LOCKS", "P12_ENABLE_VIEW_QUEUE"
Move = Callable[[Steered], Any]


@pytest.fixture
def claimed(live: Steered) -> Steered:
    """A release that is installed in the idle slot, and not proven yet."""
    live.take()
    live.claim(NEW)
    live.install("green", NEW)
    return live


@pytest.fixture
def offered(live: Steered) -> Steered:
    """A release that may get its first step."""
    live.offer(NEW)
    return live


def refused(target: Steered, move: Move, kind: type[RolloutError] = Refused) -> RolloutError:
    """Make a move that must be refused, and show that it changed nothing at all."""
    before = (target.steering.balancer.shares(), target.events())
    with pytest.raises(kind) as raised:
        move(target)
    assert (target.steering.balancer.shares(), target.events()) == before
    return raised.value


MOVES: dict[str, Move] = {
    "claim": lambda t: rollout.claim(t.steering, NEW, digest_of(NEW), t.token, ""),
    "prove": lambda t: t.prove(NEW),
    "admit": lambda t: t.admit(NEW),
    "begin": lambda t: rollout.begin(t.steering, NEW, t.token, ""),
    "shift": lambda t: t.shift(NEW, 5),
    "open a window": lambda t: open_window(t.steering, "step", t.token),
    "finish": lambda t: rollout.finish(t.steering, NEW, t.token),
    "record a backup": lambda t: reports.record(
        t.steering, "backup", {"id": "b", "summary": "s", "verdict": "passed"}, t.token
    ),
    "record a check": lambda t: reports.record(
        t.steering, "check", {"check": "burst", "summary": "s", "verdict": "passed"}, t.token
    ),
    "write a certificate": lambda t: reports.write_certificate(t.steering, OLD, t.token),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_after_a_rollback_the_token_of_the_release_is_worth_nothing(offered: Steered, move: Move) -> None:
    offered.roll_back()

    error = refused(offered, move)

    assert "You lost the lock, by rollback: to bob@tower" in str(error)
    assert error.hint.startswith("./p12 status; to release it all the same: ./p12 release --branch")


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_after_a_takeover_the_token_of_the_one_who_was_gone_is_worth_nothing(
    offered: Steered, move: Move
) -> None:
    lost = offered.token
    offered.steering.lock.take("bob@tower", "tower:2:2.0", dead_session="desk:1:1.0")
    offered.token = lost

    error = refused(offered, move)

    assert "by takeover: to bob@tower" in str(error)


CHANGES: dict[str, Move] = MOVES | {
    "roll back": lambda t: t.roll_back(),
    "flags off": lambda t: flags_off(t.steering, "ann"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_two_changes_are_never_made_at_once(
    offered: Steered, monkeypatch: pytest.MonkeyPatch, change: Move
) -> None:
    monkeypatch.setattr(file_lock.__wrapped__, "__defaults__", (0.02,))

    with offered.steering.change():
        error = refused(offered, change)

    assert "by another p12 (pid" in str(error)


def test_a_second_engineer_is_refused_with_who_since_when_and_what_to_type(offered: Steered) -> None:
    bob = {"owner": "bob@tower", "session": "tower:2:2.0", "dead": "-"}
    status, answer = offered.host("lock", "take", told=bob)

    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(offered.steering.lock.holder().since))
    assert status == 1
    assert "ann@desk" in answer["error"]
    assert since in answer["error"]
    assert "./p12 lock break --why" in answer["hint"]


def test_breaking_the_lock_is_journaled_and_fences_its_holder(offered: Steered) -> None:
    offered.host("lock", "break", "--owner=bob@tower", "--why=gone home")

    entry = offered.steering.journal.entries()[-1]
    assert (entry.event, entry.owner, entry.data["why"]) == ("lock.broken", "bob@tower", "gone home")
    assert entry.data["broken"]["owner"] == "ann@desk"
    refused(offered, lambda t: t.shift(NEW, 5))


def test_a_slot_that_serves_is_never_claimed(offered: Steered) -> None:
    offered.shift(NEW, 5)

    error = refused(offered, lambda t: rollout.claim(t.steering, NEW, digest_of(NEW), t.token, ""))

    assert "green serves 5 %" in str(error)


@pytest.mark.parametrize("share", [0, 5])
def test_while_a_rollout_is_under_way_another_release_is_refused(offered: Steered, share: int) -> None:
    if share:
        offered.shift(NEW, share)

    for move in (
        lambda t: rollout.plan(t.steering, NEXT),
        lambda t: rollout.claim(t.steering, NEXT, digest_of(NEXT), t.token, ""),
        lambda t: rollout.begin(t.steering, NEXT, t.token, ""),
    ):
        error = refused(offered, move)
        assert f"The rollout of {NEW} is at {share} %" in str(error)
        assert "./p12 rollback" in error.hint


def test_a_claimed_slot_is_not_proven_any_more(claimed: Steered) -> None:
    assert not claimed.steering.state().slots["green"].proven


def test_proving_shows_every_instance_and_gives_it_the_wanted_flags(claimed: Steered) -> None:
    answer = claimed.prove(NEW, {LOCKS: "1"})

    held = claimed.steering.state().slots["green"]
    assert answer["say"].startswith(f"production: 2 of 2 green instances run {NEW}")
    assert (held.proven, held.release, held.commit, held.sha256) == (
        True,
        NEW,
        commit_of(NEW),
        digest_of(NEW),
    )
    assert all(instance.flags[LOCKS] == "1" for instance in claimed.of("green"))
    assert {instance.generation for instance in claimed.of("green")} == {answer["generation"]}


def test_flags_that_the_release_does_not_know_are_left_out_of_its_document(claimed: Steered) -> None:
    for instance in claimed.of("green"):
        del instance.known[QUEUE]

    answer = claimed.prove(NEW, {LOCKS: "1", QUEUE: "1"})

    assert answer["flags"] == {LOCKS: "1"}


def test_where_a_certificate_is_asked_for_its_flags_are_the_releases_and_no_others(claimed: Steered) -> None:
    claimed.certify(NEW, {LOCKS: "1"})

    asked = ("prove", f"--token={claimed.token}", f'--flags={{"{QUEUE}": "1"}}')
    _, answer = claimed.host(*asked, told=document_of(NEW))

    assert answer["flags"] == {LOCKS: "1"}


def test_where_none_is_asked_for_the_site_says_which(claimed: Steered) -> None:
    claimed.settings["admission"] = False

    assert claimed.prove(NEW, {QUEUE: "1"})["flags"] == {QUEUE: "1"}


def test_without_a_certificate_of_its_bytes_a_release_is_not_proven(claimed: Steered) -> None:
    other = document_of(NEW) | {"sha256": "e" * 64}
    claimed.certify(NEW, {})

    error = refused(claimed, lambda t: prove(t.steering, **other, token=t.token, flags={}))

    assert f"not for {NEW} (eeeeeeeeeeee)" in str(error)
    assert "./p12 verify" in error.hint


def test_proving_again_hands_out_no_new_generation(claimed: Steered) -> None:
    first = claimed.prove(NEW, {LOCKS: "1"})

    assert claimed.prove(NEW, {LOCKS: "1"})["generation"] == first["generation"]


def test_a_release_is_shown_to_obey_by_turning_its_flags_off_and_on_once(claimed: Steered) -> None:
    answer = claimed.prove(NEW, {LOCKS: "1"})

    assert claimed.steering.flags.at_generation(answer["generation"] - 1).flags == {LOCKS: "0"}
    assert claimed.steering.flags.at_generation(answer["generation"]).flags == {LOCKS: "1"}


def test_an_instance_that_keeps_the_flags_it_had_gets_no_traffic(claimed: Steered) -> None:
    claimed.instances["green-2.local"].deaf = True

    with pytest.raises(Unproven, match=r"green-2\.local took flag generation \d+ and still has"):
        claimed.prove(NEW, {LOCKS: "1"})

    assert not claimed.steering.state().slots["green"].proven


def test_a_generation_that_an_instance_has_seen_is_never_handed_out(claimed: Steered) -> None:
    claimed.instances[
        "green-2.local"
    ].body = b'{"flags":{},"generation":41,"slot":"green","target":"production"}'

    assert claimed.prove(NEW, {LOCKS: "1"})["generation"] == 43
    assert claimed.instances["green-1.local"].pushes == [42, 43]


def away(target: Steered) -> None:
    target.instances["green-2.local"].die()


def not_ready(target: Steered) -> None:
    target.instances["green-2.local"].unready = True


def something_else(target: Steered) -> None:
    target.instances["green-2.local"].commit = commit_of(OLD)


def other_secret(target: Steered) -> None:
    target.instances["green-2.local"].secret = "another"


def no_flags(target: Steered) -> None:
    target.instances["green-1.local"].broken_flags = True


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (away, "green-2.local does not answer"),
        (not_ready, "green-2.local is not ready"),
        (something_else, f"green-2.local runs {commit_of(OLD)}, not {commit_of(NEW)}"),
        (other_secret, "flags were not taken: green-2.local: 401"),
        (no_flags, "green-1.local"),
    ],
)
def test_one_instance_in_trouble_is_no_proof_and_is_named(
    claimed: Steered, fault: Callable[[Steered], None], said: str
) -> None:
    fault(claimed)

    with pytest.raises(Unproven) as raised:
        claimed.prove(NEW, {LOCKS: "1"})

    assert said in str(raised.value)
    assert not claimed.steering.state().slots["green"].proven


def test_while_a_hung_instance_is_asked_a_rollback_does_not_wait(offered: Steered) -> None:
    offered.instances["green-2.local"].freeze()
    heartbeat = offered.steering.lock.holder().heartbeat

    with ThreadPoolExecutor() as pool:
        asking = pool.submit(offered.prove, NEW)
        wait_for(lambda: offered.steering.lock.holder().heartbeat > heartbeat, "it is asking")
        _, seconds = timed(offered.roll_back)
        offered.instances["green-2.local"].thaw()
        with pytest.raises((Refused, Unproven)):
            asking.result()

    assert seconds < 2


def no_certificate(target: Steered) -> None:
    target.certify(NEXT, {})
    target.back_up(NEW)


def expired(target: Steered) -> None:
    target.admit(NEW)
    path = target.steering.journal
    accepted = [entry for entry in path.entries() if entry.event == "certificate.accepted"]
    paper = dict(accepted[-1].data["certificate"])
    fields = {name: paper[name] for name in certificate.FIELDS} | {"expires_at": time.time() - 1}
    path.append("ann", "certificate.accepted", certificate=certificate.issue(STAGING_KEY, **fields))


def for_another_artifact(target: Steered) -> None:
    target.admit(NEXT)


def no_backup(target: Steered) -> None:
    target.admit(NEW)
    target.settings["backup_valid_minutes"] = 0


def nothing_to_lose(target: Steered) -> None:
    target.admit(NEW)
    backup = {"id": "b", "verdict": "passed", "summary": "nothing to lose yet", "nothing_to_lose": True}
    reports.record(target.steering, "backup", backup, target.token)


def untried(target: Steered) -> None:
    target.certify(NEW, {})
    reports.record(
        target.steering, "backup", {"id": "b", "verdict": "passed", "summary": "restored"}, target.token
    )


def tried_from_another(target: Steered) -> None:
    target.certify(NEW, {})
    target.back_up(NEXT)


def without_a_way_back(target: Steered) -> None:
    target.certify(NEW, {})
    target.back_up(NEW, verdict="failed")


def not_to_be_tried(target: Steered) -> None:
    target.certify(NEW, {})
    target.back_up(NEW, verdict="unknown")


@pytest.mark.parametrize(
    ("lacking", "said", "hint"),
    [
        (tried_from_another, f"{NEW} was not tried beside {OLD} on a copy", "./p12 release"),
        (without_a_way_back, "way back failed", "mend them"),
        (not_to_be_tried, "way back unknown", "--why"),
        (no_certificate, f"not for {NEW}", "./p12 verify"),
        (expired, "has expired", "./p12 verify"),
        (for_another_artifact, f"not for {NEW}", "./p12 verify"),
        (no_backup, r"The last verified backup is 0 min old", "./p12 backup"),
        (nothing_to_lose, "before there was anything to lose", "./p12 backup"),
    ],
)
def test_without_its_evidence_a_release_is_not_begun(
    claimed: Steered, lacking: Callable[[Steered], None], said: str, hint: str
) -> None:
    claimed.settings["admission"] = False
    claimed.prove(NEW)
    claimed.settings["admission"] = True
    lacking(claimed)

    error = refused(claimed, lambda t: rollout.begin(t.steering, NEW, t.token, ""))

    assert said in str(error)
    assert hint in error.hint


@pytest.mark.parametrize(
    "lacking", [no_certificate, expired, no_backup, untried, without_a_way_back, not_to_be_tried]
)
def test_without_its_evidence_a_release_changes_nothing_on_production(
    live: Steered, lacking: Callable[[Steered], None]
) -> None:
    live.take()
    lacking(live)

    refused(live, lambda t: rollout.claim(t.steering, NEW, digest_of(NEW), t.token, ""))


def test_what_could_not_be_tried_goes_on_with_a_reason_and_what_breaks_does_not(live: Steered) -> None:
    live.take()
    not_to_be_tried(live)
    assert rollout.claim(live.steering, NEW, digest_of(NEW), live.token, "the old artifact is lost")[
        "changed"
    ]

    without_a_way_back(live)
    with pytest.raises(Refused, match="way back failed"):
        rollout.claim(live.steering, NEW, digest_of(NEW), live.token, "it will be fine")


def test_a_release_that_is_not_proven_is_not_begun(claimed: Steered) -> None:
    claimed.admit(NEW)

    error = refused(claimed, lambda t: rollout.begin(t.steering, NEW, t.token, ""))

    assert f"{NEW} is not proven in green" in str(error)


@pytest.mark.parametrize(
    "report",
    [
        {"id": "b", "summary": "s", "verdict": "failed"},
        {"id": "b", "summary": "s", "verdict": "unknown"},
        {"id": "b", "summary": "s"},
        {"id": "", "summary": "s", "verdict": "passed"},
        {"verdict": "passed"},
        {},
    ],
)
def test_only_a_verified_backup_is_recorded(live: Steered, report: dict[str, Any]) -> None:
    live.take()

    refused(live, lambda t: reports.record(t.steering, "backup", report, t.token))


def test_backups_that_were_removed_are_journaled_and_nothing_is_when_all_stayed(live: Steered) -> None:
    live.take()
    before = live.events()

    reports.record(live.steering, "pruned", {"pruned": [], "summary": "none"}, live.token)
    assert live.events() == before
    reports.record(live.steering, "pruned", {"pruned": ["old"], "summary": "one"}, live.token)

    assert live.events() == [*before, "backups.pruned"]


def test_a_release_that_was_rolled_back_needs_a_reason_to_be_begun_again(offered: Steered) -> None:
    offered.roll_back("notes vanish")
    offered.take()

    error = refused(offered, lambda t: rollout.begin(t.steering, NEW, t.token, ""))

    assert "notes vanish" in str(error)
    assert "--why" in error.hint
    assert rollout.begin(offered.steering, NEW, offered.token, "fixed the index")["changed"]


def test_a_step_without_a_passed_window_before_it_is_not_skipped(offered: Steered) -> None:
    for share in (25, 100):
        error = refused(offered, lambda t, share=share: t.shift(NEW, share))
        assert f"The step of 5 % has no passed window, so {NEW} does not get {share} %" in str(error)
        assert "./p12 promote" in error.hint


def test_an_open_a_failed_and_an_unknown_window_are_no_passed_ones(offered: Steered) -> None:
    offered.shift(NEW, 5)
    window = offered.open()
    refused(offered, lambda t: t.shift(NEW, 25))

    for verdict in ("unknown", "failed"):
        offered.steering.journal.append(
            "guard", "window.closed", id=window.id, verdict=verdict, summary="no requests"
        )
        refused(offered, lambda t: t.shift(NEW, 25))


def test_with_each_window_passed_a_release_goes_up_to_everything_and_is_finished(offered: Steered) -> None:
    for share in (5, 25):
        offered.shift(NEW, share)
        assert offered.ask_many(200)[NEW] == pytest.approx(2 * share, abs=4)
        offered.pass_window()
    offered.shift(NEW, 100)
    refused(offered, lambda t: rollout.finish(t.steering, NEW, t.token))
    offered.pass_window("monitor")

    answer = rollout.finish(offered.steering, NEW, offered.token)

    assert answer["changed"]
    assert offered.ask_many(20) == {NEW: 20}
    assert offered.steering.state().good == (OLD, NEW)
    assert set(answer["keep"]) == {OLD, NEW}
    assert not rollout.finish(offered.steering, NEW, offered.token)["changed"]


def test_windows_of_a_try_that_was_rolled_back_count_for_nothing(offered: Steered) -> None:
    offered.shift(NEW, 5)
    offered.pass_window()
    offered.roll_back()
    offered.take()
    rollout.begin(offered.steering, NEW, offered.token, "again")

    refused(offered, lambda t: t.shift(NEW, 25))


def test_a_share_that_is_there_already_changes_nothing(offered: Steered) -> None:
    offered.shift(NEW, 5)
    events = offered.events()

    answer = offered.shift(NEW, 5)

    assert (answer["changed"], answer["say"]) == (False, f"production: 5 % already on {NEW}")
    assert offered.events() == events


def test_a_release_with_an_instance_down_gets_no_traffic(
    offered: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "UP_SECONDS", 0.2)
    offered.instances["green-2.local"].die()
    offered.await_up("green-2.local", up=False)

    error = refused(offered, lambda t: t.shift(NEW, 5))

    assert "HAProxy sees green-2.local down for 0.2 s, so green gets no traffic" in str(error)


def test_an_instance_that_comes_up_late_is_waited_for(offered: Steered) -> None:
    late = offered.instances["green-2.local"]
    late.die()
    offered.await_up("green-2.local", up=False)
    with ThreadPoolExecutor() as pool:
        shifting = pool.submit(offered.shift, NEW, 5)
        late.start()

        assert shifting.result()["changed"]


def go_up(target: Steered, to: int | None = None) -> None:
    """Pass every step, and go on to the last share that is watched."""
    for share in (5, 25):
        target.shift(NEW, share)
        target.pass_window()
    rollout.shift(target.steering, NEW, to, target.token)


def test_a_part_stays_on_the_old_slot_until_the_long_window_has_passed(offered: Steered) -> None:
    go_up(offered)
    watched = offered.ask_many(200)
    offered.pass_window("monitor")
    with offered.visitors() as visitors:
        visitors.come()
        answer = rollout.finish(offered.steering, NEW, offered.token)
        visitors.come()

    assert (watched[OLD], watched[NEW]) == (4, 196)
    assert visitors.failed == []
    assert answer["say"] == [
        f"production: 100 % on {NEW} (green), 2 instances",
        f"production: {NEW} is good",
    ]
    assert offered.steering.balancer.shares() == {"blue": 0, "green": 100}
    assert offered.ask_many(100) == {NEW: 100}
    assert offered.events()[-2:] == ["traffic.shifted", "finished"]


def test_stopped_between_the_last_move_and_its_end_the_same_command_ends_it(
    offered: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_up(offered)
    offered.pass_window("monitor")
    windows = len(offered.steering.state().windows)
    with monkeypatch.context() as killing:
        killing.setattr(rollout, "prove_serving", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            rollout.finish(offered.steering, NEW, offered.token)
    assert offered.steering.balancer.shares()["green"] == 100
    assert offered.steering.state().rollout.ended == ""

    plan = rollout.plan(offered.steering, NEW, digest_of(NEW))
    again = offered.shift_on(NEW)
    offered.open("monitor")
    rollout.finish(offered.steering, NEW, offered.token)

    assert (plan["steps"], plan["share"], again["changed"]) == ([], 100, False)
    assert len(offered.steering.state().windows) == windows
    assert offered.steering.state().rollout.ended == "finished"


def test_what_is_held_back_is_not_given_before_the_long_window_has_passed(offered: Steered) -> None:
    go_up(offered)
    offered.open("monitor")

    error = refused(offered, lambda t: rollout.finish(t.steering, NEW, t.token))

    assert "The monitor window" in str(error)


def test_from_the_holdback_a_rollback_brings_everybody_back(offered: Steered) -> None:
    go_up(offered)
    with offered.visitors() as visitors:
        offered.roll_back()
        visitors.come()

    assert visitors.failed == []
    assert offered.ask_many(50) == {OLD: 50}


def test_nothing_is_held_back_where_the_site_says_so(offered: Steered) -> None:
    offered.settings["holdback_percent"] = 0

    go_up(offered)

    assert offered.steering.balancer.shares() == {"blue": 0, "green": 100}


def test_nothing_is_held_back_for_an_old_slot_that_is_gone(offered: Steered) -> None:
    offered.shift(NEW, 5)
    offered.pass_window()
    offered.shift(NEW, 25)
    offered.pass_window()
    for instance in offered.of("blue"):
        instance.die()
    offered.await_up("blue-1.local", "blue-2.local", up=False)

    assert rollout.plan(offered.steering, NEW, digest_of(NEW))["last"] == 100
    offered.shift_on(NEW)

    assert offered.steering.balancer.shares() == {"blue": 0, "green": 100}
    assert offered.open("monitor").control is None


def test_a_rollout_that_has_everything_already_is_watched_so(offered: Steered) -> None:
    """As the kit before this one leaves it: without a holdback."""
    go_up(offered, to=100)

    answer = offered.shift_on(NEW)

    assert not answer["changed"]
    assert offered.open("monitor").share == 100


def test_nothing_is_shifted_for_a_release_that_was_not_begun(claimed: Steered) -> None:
    error = refused(claimed, lambda t: t.shift(NEW, 5))

    assert f"No rollout of {NEW} is in progress" in str(error)


def test_the_first_release_gets_everything_and_no_steps(target: Steered) -> None:
    target.offer(OLD)

    refused(target, lambda t: t.shift(OLD, 5))
    target.shift(OLD, 100)

    assert target.ask_many(10) == {OLD: 10}
    assert rollout.plan(target.steering, OLD, digest_of(OLD))["steps"] == []


def test_a_release_that_serves_already_never_loses_traffic_to_the_other_slot(offered: Steered) -> None:
    offered.roll_back()
    offered.take()
    offered.admit(OLD)
    rollout.begin(offered.steering, OLD, offered.token, "once more")

    plan = rollout.plan(offered.steering, OLD, digest_of(OLD))
    refused(offered, lambda t: t.shift(OLD, 5))
    offered.shift(OLD, 100)
    offered.pass_window("monitor")
    rollout.finish(offered.steering, OLD, offered.token)

    assert (plan["slot"], plan["steps"], plan["share"]) == ("blue", [], 100)
    assert offered.ask_many(10) == {OLD: 10}


def test_a_plan_says_what_is_true_and_what_is_left(offered: Steered) -> None:
    before = rollout.plan(offered.steering, NEW, digest_of(NEW))
    offered.shift(NEW, 5)
    offered.pass_window()

    after = rollout.plan(offered.steering, NEW, digest_of(NEW))

    assert (before["slot"], before["installed"], before["proven"]) == ("green", True, True)
    assert (before["certified"], before["finished"]) == (True, False)
    assert (before["share"], before["steps"]) == (0, [5, 25])
    assert (after["share"], after["steps"]) == (5, [25])


def test_a_plan_for_another_artifact_of_the_same_commit_installs_it_anew(offered: Steered) -> None:
    assert not rollout.plan(offered.steering, NEW, "e" * 64)["installed"]


def test_a_plan_after_a_rollback_starts_from_the_first_step(offered: Steered) -> None:
    offered.shift(NEW, 5)
    offered.pass_window()
    offered.roll_back("slow")

    plan = rollout.plan(offered.steering, NEW, digest_of(NEW))

    assert (plan["steps"], plan["quarantined"], plan["proven"]) == ([5, 25], "slow", False)


def test_a_backup_is_of_the_release_that_serves_and_not_of_the_one_that_is_about_to(offered: Steered) -> None:
    status, before = offered.host("serving", "--reuse=true")
    offered.shift_unwatched(NEW, 100)

    assert (status, before["release"], before["backup_due"]) == (0, OLD, False)
    assert rollout.serving(offered.steering, {})["release"] == NEW


def test_the_lock_is_held_as_long_as_a_backup_may_take_and_no_longer(offered: Steered) -> None:
    lock = offered.steering.lock

    rollout.serving(offered.steering, {}, token=offered.token)
    assert lock.holder().expires - lock.holder().heartbeat == 12 * 3600

    offered.back_up(NEW)
    assert lock.holder().expires - lock.holder().heartbeat == 900


def test_before_the_first_release_a_backup_is_of_none(target: Steered) -> None:
    assert rollout.serving(target.steering, {}, reuse=True)["backup_due"]


def test_a_backup_is_due_where_no_fresh_one_is_there_or_may_be_reused(offered: Steered) -> None:
    assert not rollout.serving(offered.steering, {}, reuse=True)["backup_due"]
    assert rollout.serving(offered.steering, {})["backup_due"]

    offered.settings["backup_valid_minutes"] = 0

    assert rollout.serving(offered.steering, {}, reuse=True)["backup_due"]


def test_a_plan_changes_nothing(offered: Steered) -> None:
    events, wanted = offered.events(), offered.steering.flags.all()

    rollout.plan(offered.steering, NEW, digest_of(NEW))

    assert (offered.events(), offered.steering.flags.all()) == (events, wanted)


def test_staging_certifies_what_serves_everything_and_passed_its_burst(live: Steered) -> None:
    live.take()
    report = {"check": "burst", "verdict": "passed", "summary": "no deadlock", "inputs": {"release": OLD}}
    refused(live, lambda t: reports.write_certificate(t.steering, OLD, t.token))
    failed = report | {"verdict": "failed", "summary": "staging: burst: failed: deadlocks 3"}
    recorded = reports.record(live.steering, "check", failed, live.token)
    refusal = refused(live, lambda t: reports.write_certificate(t.steering, OLD, t.token))
    assert str(refusal) == "staging: burst: failed: deadlocks 3"
    assert "say" not in recorded
    reports.record(live.steering, "check", report, live.token)
    refused(live, lambda t: reports.write_certificate(t.steering, NEW, t.token))

    reports.write_certificate(live.steering, OLD, live.token)

    assert reports.certificate_of(live.steering, OLD, digest_of(OLD))["valid"]
    assert not reports.certificate_of(live.steering, NEW, digest_of(NEW))["valid"]


def test_where_the_site_says_how_many_visitors_may_be_exposed_steps_rise_as_fast_as_that_allows(
    live: Steered,
) -> None:
    live.settings |= {"exposure_visitors": 20, "visitors_rate": 100}
    live.settings["windows"]["step"] = live.settings["windows"]["step"] | {"by_request": True}
    steps = rollout.plan(live.steering, NEW, digest_of(NEW))["steps"]
    live.take()
    live.admit(NEW)
    slot = rollout.claim(live.steering, NEW, digest_of(NEW), live.token, "")["slot"]
    live.install(slot, NEW)
    live.prove(NEW)

    rollout.begin(live.steering, NEW, live.token, "", steps)

    assert steps[0] > 5
    begun = live.steering.state().rollout
    assert begun is not None
    assert begun.steps == steps
    live.settings["visitors_rate"] = 1  # what is under way keeps its steps
    assert rollout.plan(live.steering, NEW, digest_of(NEW))["steps"] == steps
    refused(live, lambda t: t.shift(NEW, 98))
    live.shift(NEW, steps[0])
    live.settings["visitors_rate"] = 1000
    assert live.open().limits["seconds"] < live.settings["windows"]["step"]["seconds"]
