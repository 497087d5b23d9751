"""Between releases: read-only, a restore as the balancer sees it, and the way back rehearsed."""

import time
from typing import Any

import pytest

from rollout.errors import Refused, Unproven
from rollout.steps import read_only, reports, restore, rollback_drill, rollout
from rollout.steps.status import status
from tests.integration.rollout.steered import NEW, NEXT, OLD, Steered

READ_ONLY = "P12_READ_ONLY"
LOCKS = "P12_ENABLE_ADVISORY_LOCKS"


@pytest.fixture
def two(live: Steered) -> Steered:
    """An old release in blue, and a newer one with a raised flag that serves everything from green."""
    live.serve(NEW, {LOCKS: "1"})
    live.take()
    return live


def values(target: Steered, name: str = READ_ONLY) -> dict[str, set[str]]:
    return {slot: {instance.flags[name] for instance in target.of(slot)} for slot in ("blue", "green")}


def switch(target: Steered, on: bool) -> dict[str, Any]:
    return read_only.switch(target.steering, on=on, token=target.token)


def is_backed_up(target: Steered, started_at: float) -> bool:
    """Record a backup begun at a time, and ask the restore of b1 whether it will do."""
    made = {"id": "fresh", "verdict": "passed", "summary": "restored", "started_at": started_at}
    reports.record(target.steering, "backup", made, target.token)
    return bool(restore.begin(target.steering, "b1", target.token)["backed_up"])


def test_read_only_reaches_both_slots_and_leaves_their_other_flags(two: Steered) -> None:
    on = switch(two, True)
    again = switch(two, True)

    assert values(two) == {"blue": {"1"}, "green": {"1"}}
    assert values(two, LOCKS) == {"blue": {"0"}, "green": {"1"}}
    assert (on["changed"], again["changed"]) == (True, False)
    assert "proven at 4 instances" in on["say"]

    switch(two, False)

    assert values(two) == {"blue": {"0"}, "green": {"0"}}


def test_an_instance_that_is_away_is_named_and_healed_and_one_that_disobeys_is_no_proof(two: Steered) -> None:
    gone = two.instances["blue-1.local"]
    gone.die()
    assert "blue-1.local" in switch(two, True)["away"]
    gone.start()
    two.heal()
    assert values(two) == {"blue": {"1"}, "green": {"1"}}

    two.instances["green-2.local"].secret = "another"
    with pytest.raises(Unproven, match=r"green-2\.local"):
        switch(two, False)


def test_read_only_waits_for_an_open_window(live: Steered) -> None:
    live.offer(NEW)
    live.shift(NEW, 5)
    live.open()

    with pytest.raises(Refused, match=f"a window of {NEW} is open"):
        switch(live, True)

    assert values(live) == {"blue": {"0"}, "green": {"0"}}


def test_a_restore_makes_the_target_read_only_and_its_end_takes_writes_again(two: Steered) -> None:
    begun = restore.begin(two.steering, "b1", two.token)
    again = restore.begin(two.steering, "b1", two.token)

    assert values(two) == {"blue": {"1"}, "green": {"1"}}
    assert (begun["release"], begun["slot"], begun["backed_up"]) == (NEW, "green", False)
    assert again["restoration"] == begun["restoration"]
    with pytest.raises(Refused, match="a restore of b1 is under way") as other:
        restore.begin(two.steering, "b2", two.token)
    assert "--give-up" in other.value.hint
    with pytest.raises(Refused, match="a restore of b1 is under way"):
        two.claim(NEXT)
    assert status(two.steering)["restoration"]["backup"] == "b1"

    done = restore.end(two.steering, two.token, "paste12_replaced_1")

    assert "paste12_replaced_1" in done["say"]
    assert values(two) == {"blue": {"0"}, "green": {"0"}}
    with pytest.raises(Refused, match="no restore is under way"):
        restore.end(two.steering, two.token)


def test_nobody_takes_writes_again_in_the_middle_of_a_restore(two: Steered) -> None:
    restore.begin(two.steering, "b1", two.token)
    two.save_settings()

    for words in (
        ("flags", "off", READ_ONLY),
        ("flags", "set", f"{READ_ONLY}=0", f"--token={two.token}"),
        ("maintenance", "off", f"--token={two.token}"),
    ):
        status_, answer = two.host(*words)
        assert status_ == 1, words
        assert "a restore of b1 is under way" in answer["error"]
        assert "./p12 restore --backup b1 --over; give up: ./p12 restore --give-up" in answer["hint"]

    assert values(two) == {"blue": {"1"}, "green": {"1"}}


@pytest.mark.parametrize(
    "words", [("rollback",), ("rollback", "--flags-only"), ("flags", "off")], ids=" ".join
)
def test_a_rollback_works_in_the_middle_of_a_restore_and_lets_nobody_write(
    two: Steered, words: tuple[str, ...]
) -> None:
    restore.begin(two.steering, "b1", two.token)

    status_, answer = two.host(*words)

    assert (status_, answer["lowered"]) == (0, [LOCKS])
    assert "still read-only, until: ./p12 maintenance off" in str(answer["say"])
    assert values(two) == {"blue": {"1"}, "green": {"1"}}
    assert values(two, LOCKS)["green"] == {"0"}


def test_no_release_goes_on_in_the_middle_of_a_restore(live: Steered) -> None:
    live.offer(NEW)
    live.roll_back()
    live.take()
    restore.begin(live.steering, "b1", live.token)

    for move in (
        lambda: live.prove(NEW),
        lambda: rollout.begin(live.steering, NEW, live.token, "again"),
    ):
        with pytest.raises(Refused, match="a restore of b1 is under way"):
            move()


def test_a_release_onto_a_target_that_is_read_only_leaves_it_so(two: Steered) -> None:
    switch(two, True)
    two.of("blue")[0].pushes.clear()

    slot = two.offer(NEXT, {LOCKS: "1", READ_ONLY: "0"})

    assert slot == "blue"
    assert values(two) == {"blue": {"1"}, "green": {"1"}}
    assert values(two, LOCKS) == {"blue": {"1"}, "green": {"1"}}
    pushed = [two.steering.flags.at_generation(number).flags for number in two.of("blue")[0].pushes]
    assert {(wanted[LOCKS], wanted[READ_ONLY]) for wanted in pushed} == {("0", "1"), ("1", "1")}
    with pytest.raises(Refused, match="is read-only, and a window would count every 503"):
        two.shift(NEXT, 25)
    switch(two, False)
    assert values(two) == {"blue": {"0"}, "green": {"0"}}


def test_a_release_that_cannot_be_read_only_is_refused_while_the_target_is(two: Steered) -> None:
    switch(two, True)
    two.claim(NEXT)
    two.install("blue", NEXT)
    for instance in two.of("blue"):
        del instance.known[READ_ONLY]

    with pytest.raises(Refused, match=f"{NEXT} does not know {READ_ONLY}") as refused:
        two.prove(NEXT)

    assert refused.value.hint == "Take writes again first: ./p12 maintenance off"


def test_a_restore_needs_a_backup_from_after_the_last_write(two: Steered) -> None:
    earlier = time.time()
    restore.begin(two.steering, "b1", two.token)

    assert is_backed_up(two, earlier) is False
    assert is_backed_up(two, time.time()) is True


def test_a_backup_from_before_writes_were_taken_in_the_midst_of_a_restore_is_none(two: Steered) -> None:
    restore.begin(two.steering, "b1", two.token)
    assert is_backed_up(two, time.time()) is True

    switch(two, False)
    switch(two, True)

    assert restore.begin(two.steering, "b1", two.token)["backed_up"] is False
    assert is_backed_up(two, time.time()) is True


def test_a_restore_that_is_refused_for_an_open_window_is_not_begun(live: Steered) -> None:
    live.settings["admission"] = False
    live.offer(NEW)
    live.shift(NEW, 100)
    live.open("monitor")

    with pytest.raises(Refused, match=f"a window of {NEW} is open"):
        restore.begin(live.steering, "b1", live.token)

    assert "restore.begun" not in live.events()


def test_a_restore_that_is_given_up_leaves_a_target_that_was_read_only_before_read_only(two: Steered) -> None:
    switch(two, True)
    restore.begin(two.steering, "b1", two.token)

    done = restore.end(two.steering, two.token)

    assert "given up" in done["say"]
    assert values(two) == {"blue": {"1"}, "green": {"1"}}


def test_the_restore_under_way_is_named_for_whoever_gives_it_up(two: Steered) -> None:
    with pytest.raises(Refused, match="no restore is under way"):
        restore.show_restore(two.steering)

    begun = restore.begin(two.steering, "b1", two.token)

    assert restore.show_restore(two.steering) == {"restoration": begun["restoration"], "backup": "b1"}


def test_a_restore_waits_for_a_release_that_goes_up(live: Steered) -> None:
    live.offer(NEW)
    live.shift(NEW, 5)

    with pytest.raises(Refused, match="is going up, at 5 %"):
        restore.begin(live.steering, "b1", live.token)


def test_a_rehearsal_goes_there_and_back_and_leaves_everything_as_it_was(two: Steered) -> None:
    two.settings["admission"] = False
    before, flags = two.steering.state(), values(two, LOCKS)

    done = rollback_drill.rehearse(two.steering, two.token, {"backup": 1.0})

    state = two.steering.state()
    assert two.ask_many(8) == {NEW: 8}
    assert values(two, LOCKS) == flags
    assert (state.shares, state.good, state.quarantined) == (before.shares, before.good, {})
    assert state.rollout == before.rollout
    assert set(done["seconds"]) == {"backup", "rollback", "flags_off", "undone"}
    assert state.rehearsal is not None
    assert state.rehearsal["seconds"] == done["seconds"]
    assert not two.steering.lock.holder().owner
    assert {"rolled_back", "rehearsed"} <= set(two.events())


def test_a_rehearsal_that_was_killed_is_undone_by_the_next_one(
    two: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.settings["admission"] = False
    with monkeypatch.context() as killed:
        killed.setattr(rollback_drill, "flags_off", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rollback_drill.rehearse(two.steering, two.token, {})
    assert two.ask_many(4) == {OLD: 4}

    rollback_drill.rehearse(two.steering, two.take(), {})

    assert two.ask_many(8) == {NEW: 8}
    assert two.steering.state().quarantined == {}
    assert values(two, LOCKS) == {"blue": {"0"}, "green": {"1"}}


def test_a_rehearsal_that_was_killed_is_not_undone_over_a_newer_release(
    two: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.settings["admission"] = False
    with monkeypatch.context() as killed:
        killed.setattr(rollback_drill, "flags_off", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rollback_drill.rehearse(two.steering, two.token, {})
    two.serve(NEXT)
    two.settings["admission"] = False

    rollback_drill.rehearse(two.steering, two.take(), {})

    assert two.ask_many(8) == {NEXT: 8}
    assert two.steering.state().quarantined == {NEW: "rehearsal"}


def test_a_rehearsal_without_a_release_before_says_what_it_left_out(live: Steered) -> None:
    live.settings["admission"] = False

    done = rollback_drill.rehearse(live.steering, live.take(), {})

    assert "there is nothing before it" in done["left_out"]
    state = live.steering.state()
    assert "left out the rollback" in rollback_drill.complaint(state, 30, state.rehearsal["at"])  # type: ignore[index]


def test_production_is_not_for_rehearsals(two: Steered) -> None:
    with pytest.raises(Refused, match="production is not for rehearsals"):
        rollback_drill.rehearse(two.steering, two.token, {})

    assert "rehearsal.begun" not in two.events()


def test_a_rehearsal_is_complained_about_when_it_is_old_or_never_was(two: Steered) -> None:
    two.settings["admission"] = False
    assert "never rehearsed" in rollback_drill.complaint(two.steering.state(), 30, 0)
    rollback_drill.rehearse(two.steering, two.token, {})
    state = two.steering.state()
    assert state.rehearsal is not None
    at = state.rehearsal["at"]

    assert rollback_drill.complaint(state, 30, at + 29 * 86_400) == ""
    assert "31 days ago (limit 30)" in rollback_drill.complaint(state, 30, at + 31 * 86_400)


def test_a_rehearsal_whose_backup_nobody_could_open_is_refused_at_once(two: Steered) -> None:
    two.settings["backup"] = {"age_recipients": ["age1abc"]}

    with pytest.raises(Refused, match="are encrypted to age1abc") as refused:
        rollback_drill.refuse_unopened(two.steering.target, has_identity=False)

    assert refused.value.hint == "Give the private key: --identity FILE"
    rollback_drill.refuse_unopened(two.steering.target, has_identity=True)
