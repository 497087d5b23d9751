"""Flags: one call on the balancer, proven at every instance that serves."""

from typing import Any

import pytest

from rollout.cli.host_verbs import EVERYWHERE, VERBS
from rollout.cli.verb_table import parse
from rollout.errors import Refused, Unproven
from rollout.steps import rollback
from rollout.steps.flags import off, set_flags
from rollout.steps.rollback import flags_off
from rollout.target import wanted_flags
from rollout.target.wanted_flags import Wanted, push
from tests.integration.rollout.steered import NEW, NEXT, OLD, Steered, timed

LOCKS, QUEUE, LEGACY, READ_ONLY = (
    "P12_ENABLE_ADVISORY_LOCKS",
    "P12_ENABLE_VIEW_QUEUE",
    "P12_ENABLE_LEGACY_VIEW",
    "P12_READ_ONLY",
)


def change(
    target: Steered,
    action: str,
    *names: str,
    slot: str = "",
    generation: int | None = None,
    token: int | None = None,
) -> Any:
    asked = {"--slot": slot, "--generation": generation, "--token": token}
    options = [f"{name}={value}" for name, value in asked.items() if value not in ("", None)]
    verb = VERBS[f"flags {action}"]
    words = [*names, "--owner=ann@desk", *options]
    return verb.run(target.target, vars(parse("p12", verb.help, (*verb.options, *EVERYWHERE), words)))


def values(target: Steered, slot: str, name: str) -> set[str]:
    return {instance.flags[name] for instance in target.of(slot)}


@pytest.fixture
def stepping(live: Steered) -> Steered:
    """An old release in blue and a new one with raised flags at 25 %."""
    live.offer(NEW, {LOCKS: "1", QUEUE: "25%"})
    live.shift_unwatched(NEW, 25)
    return live


def test_setting_a_flag_reaches_every_serving_instance_at_once(live: Steered) -> None:
    answer, seconds = timed(lambda: change(live, "set", f"{LOCKS}=1", f"{QUEUE}=25%"))

    assert values(live, "blue", LOCKS) == {"1"}
    assert values(live, "blue", QUEUE) == {"25%"}
    assert f"{LOCKS}=1, {QUEUE}=25% in blue, proven at 2 instances" in answer["say"]
    assert seconds < 2


def test_setting_one_flag_leaves_the_others(live: Steered) -> None:
    change(live, "set", f"{LOCKS}=1")
    change(live, "set", f"{QUEUE}=1")

    assert values(live, "blue", LOCKS) == {"1"}


def test_every_change_has_a_higher_generation_and_is_journaled(live: Steered) -> None:
    first = change(live, "set", f"{LOCKS}=1")["generation"]

    second = change(live, "set", f"{LOCKS}=0")["generation"]

    entry = live.steering.journal.entries()[-1]
    assert second > first
    assert (entry.event, entry.owner, entry.data["generation"]) == ("flags.wanted", "ann@desk", second)
    assert {instance.generation for instance in live.of("blue")} == {second}


def test_the_other_slot_can_be_named(stepping: Steered) -> None:
    stepping.steering.lock.drop(stepping.token)

    change(stepping, "set", f"{READ_ONLY}=1", slot="green")

    assert values(stepping, "green", READ_ONLY) == {"1"}
    assert values(stepping, "blue", READ_ONLY) == {"0"}


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("P12_NOTHING=1", "P12_NOTHING is not a flag. Accepted: P12_ENABLE_ADVISORY_LOCKS,"),
        (f"{LOCKS}=yes", f"{LOCKS}=yes is not a flag value"),
        (f"{LOCKS}=", f"{LOCKS}= is not NAME=VALUE"),
        (LOCKS, f"{LOCKS} is not NAME=VALUE"),
        ("", " is not NAME=VALUE"),
    ],
)
def test_a_wrong_name_or_value_is_refused_and_nothing_changes(live: Steered, pair: str, said: str) -> None:
    before = [instance.body for instance in live.of("blue")]
    events = live.events()

    with pytest.raises(Refused) as raised:
        change(live, "set", pair)

    assert said in str(raised.value)
    assert raised.value.hint
    assert [instance.body for instance in live.of("blue")] == before
    assert live.events() == events
    live.guard.look()
    assert values(live, "blue", LOCKS) == {"0"}


def test_nothing_is_set_while_somebody_releases(stepping: Steered) -> None:
    with pytest.raises(Refused, match="The target is locked by ann@desk") as raised:
        change(stepping, "set", f"{LOCKS}=1")

    assert "./p12 flags off" in raised.value.hint
    assert values(stepping, "blue", LOCKS) == {"0"}


def test_who_holds_the_lock_may_set_until_it_is_taken_over(stepping: Steered) -> None:
    mine = stepping.steering.lock.holder().token

    change(stepping, "set", f"{LOCKS}=1", token=mine)
    stepping.steering.lock.fence("lock break: to bob")

    assert values(stepping, "blue", LOCKS) == {"1"}
    with pytest.raises(Refused, match="You lost the lock, by lock break: to bob"):
        change(stepping, "set", f"{LOCKS}=0", token=mine)
    assert values(stepping, "blue", LOCKS) == {"1"}


def test_nothing_is_set_before_the_first_release(target: Steered) -> None:
    with pytest.raises(Refused, match="No slot serves yet"):
        change(target, "set", f"{LOCKS}=1")


def test_no_name_at_all_is_refused(live: Steered) -> None:
    with pytest.raises(Refused, match="No flag was named"):
        change(live, "set")


def test_turning_off_lowers_what_the_newest_release_raised_even_while_it_is_being_released(
    stepping: Steered,
) -> None:
    answer = change(stepping, "off")

    assert (answer["slot"], answer["lowered"]) == ("green", [LOCKS, QUEUE])
    assert values(stepping, "green", LOCKS) == values(stepping, "green", QUEUE) == {"0"}
    assert values(stepping, "green", LEGACY) == {"1"}


def test_turning_off_one_leaves_the_others_raised(stepping: Steered) -> None:
    answer = change(stepping, "off", QUEUE)

    assert answer["lowered"] == [QUEUE]
    assert values(stepping, "green", LOCKS) == {"1"}


def test_turning_off_a_flag_that_the_live_slot_raised_finds_it_there(live: Steered) -> None:
    change(live, "set", f"{READ_ONLY}=1")

    answer = change(live, "off", READ_ONLY)

    assert (answer["slot"], answer["lowered"]) == ("blue", [READ_ONLY])
    assert values(live, "blue", READ_ONLY) == {"0"}


def test_what_lowered_flags_says_what_raises_them_again(stepping: Steered) -> None:
    change(stepping, "set", f"{QUEUE}=25%", slot="green", token=stepping.token)

    undo = change(stepping, "off")["say"][1]

    assert undo == f"on again with: ./p12 flags set {LOCKS}=1 {QUEUE}=25% --slot green"
    assert len(change(stepping, "off")["say"]) > 2  # nothing was raised: a text, and nothing to undo


def test_a_flag_is_turned_on_as_it_is_set_to_1(live: Steered) -> None:
    change(live, "on", QUEUE, LOCKS)

    assert values(live, "blue", QUEUE) == values(live, "blue", LOCKS) == {"1"}
    with pytest.raises(Refused, match="has a value"):
        change(live, "on", f"{QUEUE}=25%")


def test_a_flag_that_is_on_by_default_is_turned_on_again_by_off(live: Steered) -> None:
    change(live, "set", f"{LEGACY}=0")

    change(live, "off")

    assert values(live, "blue", LEGACY) == {"1"}


def test_turning_off_what_is_not_a_flag_is_refused(live: Steered) -> None:
    with pytest.raises(Refused, match="P12_NOTHING is not a flag of blue"):
        change(live, "off", "P12_NOTHING")


def test_turning_off_needs_somebody_who_was_released(target: Steered) -> None:
    with pytest.raises(Refused, match="Nothing was ever released here"):
        change(target, "off")


def test_a_dead_instance_is_named_and_gets_its_flags_when_it_is_back(live: Steered) -> None:
    change(live, "set", f"{LOCKS}=1")
    away = live.instances["blue-2.local"]
    away.die()
    live.await_up("blue-2.local", up=False)

    answer, seconds = timed(lambda: change(live, "off"))

    assert answer["proven"] == ["blue-1.local"]
    assert answer["unreached"] == ["blue-2.local"]
    assert "will be healed by the guard: blue-2.local" in str(answer["say"])
    assert seconds < 2
    away.start()
    assert away.flags[LOCKS] == "1"
    live.guard.look()
    assert away.flags[LOCKS] == "0"


def test_setting_with_an_instance_away_names_it(live: Steered) -> None:
    live.instances["blue-2.local"].die()
    live.await_up("blue-2.local", up=False)

    answer = change(live, "set", f"{READ_ONLY}=1")

    assert "blue-2.local" in answer["say"]


def test_an_instance_that_does_not_take_its_flags_is_said_to_be_unproven(
    live: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "PROOF_SECONDS", 0.2)
    live.instances["blue-2.local"].secret = "another"

    with pytest.raises(Unproven, match=r"blue-2\.local has flag generation"):
        change(live, "set", f"{READ_ONLY}=1")


def test_the_content_of_an_earlier_generation_comes_back_under_a_higher_one(live: Steered) -> None:
    wanted = change(live, "set", f"{LOCKS}=1", f"{QUEUE}=25%")["generation"]
    later = change(live, "set", f"{LOCKS}=0", f"{READ_ONLY}=1")["generation"]

    answer = change(live, "off", generation=wanted)

    assert answer["generation"] > later
    assert values(live, "blue", LOCKS) == {"1"}
    assert values(live, "blue", QUEUE) == {"25%"}
    assert {instance.generation for instance in live.of("blue")} == {answer["generation"]}


def test_a_target_that_is_read_only_stays_so_whichever_generation_comes_back(live: Steered) -> None:
    wanted = change(live, "set", f"{LOCKS}=1", f"{READ_ONLY}=0")["generation"]
    change(live, "set", f"{LOCKS}=0", f"{READ_ONLY}=1")

    change(live, "off", generation=wanted)

    assert (values(live, "blue", LOCKS), values(live, "blue", READ_ONLY)) == ({"1"}, {"1"})


def test_turning_every_flag_off_leaves_a_target_read_only_and_says_so(live: Steered) -> None:
    change(live, "set", f"{LOCKS}=1", f"{READ_ONLY}=1")

    answer = change(live, "off")

    assert answer["lowered"] == [LOCKS]
    assert "still read-only, until: ./p12 maintenance off" in str(answer["say"])
    assert (values(live, "blue", LOCKS), values(live, "blue", READ_ONLY)) == ({"0"}, {"1"})


def test_a_generation_that_was_never_there_is_refused(live: Steered) -> None:
    with pytest.raises(Refused, match="Flag generation 99 is not kept"):
        change(live, "off", generation=99)


def test_the_list_shows_each_slot_its_flags_and_who_has_them(stepping: Steered) -> None:
    stepping.instances["blue-2.local"].die()

    slots = change(stepping, "list")["slots"]

    assert (slots["blue"]["release"], slots["green"]["release"]) == (OLD, NEW)
    assert (slots["blue"]["share"], slots["green"]["share"]) == (75, 25)
    assert slots["green"]["raised"] == [LOCKS, QUEUE]
    assert set(slots["green"]["instances"].values()) == {slots["green"]["generation"]}
    assert slots["blue"]["instances"]["blue-1.local"] == slots["blue"]["generation"]
    assert "refused" in slots["blue"]["instances"]["blue-2.local"]


def test_listing_changes_nothing(stepping: Steered) -> None:
    events = stepping.events()

    change(stepping, "list")

    assert stepping.events() == events


def test_a_document_for_another_slot_or_target_is_not_taken(live: Steered) -> None:
    wanted = live.steering.flags.put("green", {READ_ONLY: "1"})

    answers = wanted_flags.push(live.target, wanted, live.target.instances_of("blue"))

    assert {answer.status for answer in answers.values()} == {422}
    assert values(live, "blue", READ_ONLY) == {"0"}


def test_pushing_the_same_again_is_taken_and_an_older_one_is_not(live: Steered) -> None:
    older = live.steering.flags.put("blue", {READ_ONLY: "1"})
    newer = live.steering.flags.put("blue", {READ_ONLY: "0"})
    blue = live.target.instances_of("blue")

    said = [
        {a.status for a in wanted_flags.push(live.target, w, blue).values()} for w in (newer, newer, older)
    ]

    assert said == [{200}, {200}, {409}]


def test_as_a_command_a_kill_switch_takes_less_than_two_seconds(stepping: Steered) -> None:
    (status, answer), seconds = timed(lambda: stepping.host("flags", "off", QUEUE, "--owner=bob@tower"))

    assert (status, answer["lowered"]) == (0, [QUEUE])
    assert values(stepping, "green", QUEUE) == {"0"}
    assert seconds < 2


def test_flags_of_a_slot_that_is_being_filled_anew_keep_their_defaults(target: Steered) -> None:
    target.serve(OLD, {LEGACY: "1"})
    target.serve(NEW)
    target.take()
    target.claim(NEXT)

    flags_off(target.steering, "bob@tower", slot="blue")

    assert target.steering.flags.of("blue").flags[LEGACY] == "1"


LOST = pytest.mark.parametrize("content", [None, b"", b'{"generation": '], ids=["lost", "empty", "cut short"])


def lose_flags(target: Steered, content: bytes | None) -> None:
    """Lose or damage what the balancer wants, after instances were given more than the journal knows of."""
    wanted = target.steering.flags.of("blue")
    ahead = Wanted("blue", wanted.generation + 5, wanted.flags)
    push(target.target, ahead, target.target.instances_of("blue"))
    path = target.target.steering / "flags.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@LOST
def test_the_guard_learns_the_highest_generation_and_goes_above_it(
    target: Steered, content: bytes | None
) -> None:
    target.serve(OLD, {LOCKS: "1"})
    lose_flags(target, content)
    seen = max(instance.generation for instance in target.of("blue"))

    target.heal()

    wanted = target.steering.flags.of("blue")
    assert (wanted.generation, wanted.flags[LOCKS]) == (seen + 1, "1")
    assert {instance.generation for instance in target.of("blue")} == {wanted.generation}


@LOST
def test_flags_off_and_flags_set_work_with_the_wanted_flags_lost(
    target: Steered, content: bytes | None
) -> None:
    target.serve(OLD, {LOCKS: "1"})
    lose_flags(target, content)

    assert off(target.steering, "bob@tower", [], "", None)["lowered"] == [LOCKS]
    assert {instance.flags[LOCKS] for instance in target.of("blue")} == {"0"}

    lose_flags(target, content)
    assert set_flags(target.steering, "bob@tower", [f"{LOCKS}=1"], "blue")["unreached"] == []
    assert {instance.flags[LOCKS] for instance in target.of("blue")} == {"1"}
