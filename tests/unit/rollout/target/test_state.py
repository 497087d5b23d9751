"""What the journal's entries add up to."""

import copy
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.generate import journal_events
from rollout.target.fold import HANDLERS, NOTED, fold
from rollout.target.journal import BrokenJournal, Entry
from rollout.target.state import State, state_of

OLD, NEW, NEXT = "a" * 12, "b" * 12, "c" * 12
RELEASES = st.sampled_from((OLD, NEW, NEXT))
KINDS = st.sampled_from(("step", "monitor"))
SLOTS = st.sampled_from(("blue", "green"))
WINDOWS = st.sampled_from(("w1", "w2"))
VERDICTS = st.sampled_from(("passed", "failed", "unknown"))
LIMITS = {"seconds": 60}

Event = tuple[str, dict[str, Any]]


def journal(*events: Event) -> list[Entry]:
    return [Entry(number, 1000.0 + number, "ann", name, data) for number, (name, data) in enumerate(events)]


def claimed(slot: str, release: str) -> Event:
    return "slot.claimed", {"slot": slot, "release": release}


def proven(slot: str, release: str) -> Event:
    known = {"P12_READ_ONLY": "0"}
    identity = {"release": release, "commit": release + "0" * 28, "sha256": "d" * 64}
    return "slot.proven", {"slot": slot, "known": known, **identity}


def begun(slot: str, release: str, from_slot: str | None = None, from_release: str | None = None) -> Event:
    data = {"slot": slot, "release": release, "from_slot": from_slot, "from_release": from_release}
    return "rollout.begun", data | {"why": ""}


def shifted(**shares: int) -> Event:
    return "traffic.shifted", {"shares": shares, "release": "any"}


def opened(name: str, release: str = NEW, share: int = 5, kind: str = "step") -> Event:
    asked = {"kind": kind, "release": release, "slot": "green", "control": "blue", "share": share}
    return "window.opened", {"id": name, "limits": LIMITS, **asked}


def closed(name: str, verdict: str = "passed") -> Event:
    return "window.closed", {"id": name, "verdict": verdict, "summary": f"{name} {verdict}"}


def rolled_back(release: str, why: str = "errors") -> Event:
    return "rolled_back", {"release": release, "to": OLD, "slot": "blue", "why": why}


def finished(release: str) -> Event:
    return "finished", {"release": release, "slot": "green"}


FIRST = (
    claimed("blue", OLD),
    proven("blue", OLD),
    begun("blue", OLD),
    shifted(blue=100, green=0),
    finished(OLD),
)
SECOND = (claimed("green", NEW), proven("green", NEW), begun("green", NEW, "blue", OLD))
EVENTS = st.lists(
    st.one_of(
        st.builds(claimed, SLOTS, RELEASES),
        st.builds(proven, SLOTS, RELEASES),
        st.builds(begun, SLOTS, RELEASES, st.none() | SLOTS, st.none() | RELEASES),
        st.builds(lambda share: shifted(blue=share, green=100 - share), st.integers(0, 100)),
        st.builds(opened, WINDOWS, RELEASES, st.sampled_from((5, 25, 100)), KINDS),
        st.builds(closed, WINDOWS, VERDICTS),
        st.builds(rolled_back, RELEASES),
        st.builds(finished, RELEASES),
        st.just(("flags.wanted", {"slot": "blue", "generation": 1, "flags": {}})),
        st.just(("check.judged", {"check": "burst", "verdict": "failed", "summary": "3 deadlocks"})),
        st.just(("backup.verified", {"id": "b1", "summary": "restored"})),
        st.just(("certificate.accepted", {"certificate": {"release": NEW}})),
        st.just(("something.new", {"from": "a newer kit"})),
    ),
    max_size=25,
)


def after(*events: Event) -> State:
    return fold(journal(*events))


@given(EVENTS)
def test_folding_is_deterministic(events: list[Event]) -> None:
    assert fold(journal(*events)) == fold(iter(journal(*events)))


@given(EVENTS, EVENTS)
def test_folding_on_changes_nothing_of_what_was_true_before(prefix: list[Event], suffix: list[Event]) -> None:
    before = fold(journal(*prefix))
    kept = copy.deepcopy(before)

    whole = fold(journal(*prefix, *suffix))

    assert before == kept == fold(journal(*prefix))
    assert whole == fold(journal(*prefix, *suffix))


@given(EVENTS)
def test_folding_leaves_the_entries_as_they_were(events: list[Event]) -> None:
    entries = journal(*events)
    kept = copy.deepcopy(entries)

    fold(entries)

    assert entries == kept


@given(EVENTS)
def test_at_any_time_the_newest_word_on_shares_counts(events: list[Event]) -> None:
    said: Iterable[dict[str, Any]] = [data for name, data in events if name == "traffic.shifted"]
    last: dict[str, int] = next((data["shares"] for data in reversed([*said])), {})

    assert after(*events).shares == last


@given(EVENTS, RELEASES)
def test_a_release_rolled_back_last_is_quarantined_and_not_good(events: list[Event], release: str) -> None:
    state = after(*events, begun("green", release, "blue", OLD), rolled_back(release, "slow"))

    assert state.quarantined[release] == "slow"
    assert release not in state.good
    assert state.rollout is not None
    assert (state.rollout.ended, state.rollout.share) == ("rolled back", 0)


@given(EVENTS)
def test_only_a_finished_release_is_good(events: list[Event]) -> None:
    assert set(after(*events).good) <= {data["release"] for name, data in events if name == "finished"}


def test_an_empty_journal_is_a_target_that_serves_nothing() -> None:
    state = after()

    assert (state.serving, state.open_window, state.rollout) == (None, None, None)


def test_the_slot_with_the_larger_share_serves() -> None:
    assert after(shifted(blue=75, green=25)).serving == "blue"
    assert after(shifted(blue=25, green=75)).serving == "green"
    assert after(shifted(blue=0, green=0)).serving is None


def test_a_claim_takes_away_what_was_proven_in_the_slot() -> None:
    held = after(*FIRST, claimed("blue", NEW)).slots["blue"]

    assert (held.release, held.proven, held.commit, held.sha256) == (NEW, False, "", "")


def test_a_claim_keeps_the_defaults_to_which_the_slots_flags_can_be_lowered() -> None:
    assert after(*FIRST, claimed("blue", NEW)).slots["blue"].known == {"P12_READ_ONLY": "0"}


def test_a_proof_keeps_what_the_slot_holds_and_which_flags_it_knows() -> None:
    held = after(*FIRST).slots["blue"]

    assert (held.release, held.proven) == (OLD, True)
    assert held.known == {"P12_READ_ONLY": "0"}


def test_a_rollout_knows_where_it_came_from() -> None:
    rollout = after(*FIRST, *SECOND).rollout

    assert rollout is not None
    assert (rollout.from_slot, rollout.from_release, rollout.ended) == ("blue", OLD, "")


def test_a_running_rollout_has_its_slots_share() -> None:
    rollout = after(*FIRST, *SECOND, shifted(blue=75, green=25)).rollout

    assert rollout is not None
    assert rollout.share == 25


def test_a_rollout_that_ended_gets_no_share_any_more() -> None:
    state = after(*FIRST, *SECOND, rolled_back(NEW), shifted(blue=0, green=100))

    assert state.rollout is not None
    assert state.rollout.share == 0


def test_beginning_a_quarantined_release_again_takes_it_out_of_quarantine() -> None:
    state = after(*FIRST, *SECOND, rolled_back(NEW), begun("green", NEW, "blue", OLD))

    assert state.quarantined == {}
    assert state.rollout is not None
    assert state.rollout.ended == ""


def test_beginning_another_release_leaves_the_quarantine() -> None:
    state = after(*FIRST, *SECOND, rolled_back(NEW), begun("green", NEXT, "blue", OLD))

    assert set(state.quarantined) == {NEW}


def test_rolling_back_something_else_than_the_newest_rollout_changes_nothing() -> None:
    before = after(*FIRST, *SECOND)

    assert after(*FIRST, *SECOND, rolled_back(NEXT)) == before


def test_a_finished_release_is_the_newest_good_one() -> None:
    assert after(*FIRST, *SECOND, finished(NEW)).good == (OLD, NEW)
    assert after(*FIRST, *SECOND, finished(NEW), finished(OLD)).good == (NEW, OLD)


def test_a_window_is_open_until_it_is_closed() -> None:
    still = after(opened("w1"))
    done = after(opened("w1"), closed("w1", "unknown"))

    assert still.open_window is not None
    assert still.open_window.id == "w1"
    assert done.open_window is None
    assert done.windows[0].verdict == "unknown"


def test_the_windows_of_a_release_are_those_since_its_rollout_began() -> None:
    earlier = (*SECOND, opened("w1"), closed("w1"), rolled_back(NEW))
    state = after(*FIRST, *earlier, begun("green", NEW, "blue", OLD), opened("w2"))

    assert [window.id for window in state.windows_of(NEW)] == ["w2"]


def test_verdicts_keep_the_newest_of_each_check_in_the_order_they_came() -> None:
    state = after(
        ("check.judged", {"check": "burst", "verdict": "failed", "summary": "3 deadlocks"}),
        ("backup.verified", {"id": "b1", "summary": "restored"}),
        ("check.judged", {"check": "burst", "verdict": "passed", "summary": "no deadlock"}),
    )

    assert [(row["check"], row["verdict"]) for row in state.verdicts] == [
        ("backup", "passed"),
        ("burst", "passed"),
    ]


def test_a_rollout_does_not_begin_with_the_verdicts_of_the_one_before() -> None:
    earlier = (*SECOND, opened("w1"), closed("w1"), rolled_back(NEW))
    burst = ("check.judged", {"check": "burst", "verdict": "passed", "summary": "no deadlock"})
    backup = ("backup.verified", {"id": "b1", "summary": "restored"})

    state = after(*FIRST, *earlier, burst, backup, begun("green", NEW, "blue", OLD))

    assert [row["check"] for row in state.verdicts] == ["backup"]


def test_a_window_is_told_by_its_share_and_the_long_one_by_its_name() -> None:
    state = after(
        opened("w1", share=5), closed("w1"), opened("w2", share=100, kind="monitor"), closed("w2", "failed")
    )

    assert [row["check"] for row in state.verdicts] == ["window at 5 %", "monitor"]


def test_a_backup_and_a_certificate_know_when_they_were_recorded() -> None:
    state = after(
        ("backup.verified", {"id": "b1", "summary": "restored"}),
        ("certificate.accepted", {"certificate": {"release": NEW}}),
    )

    assert state.backup is not None
    assert state.certificate is not None
    assert (state.backup["at"], state.certificate["at"]) == (1000.0, 1001.0)


def test_an_event_of_a_newer_kit_is_left_alone_and_named_once() -> None:
    strange = ("something.new", {"slot": "blue"})

    assert after(*FIRST, strange, strange) == replace(after(*FIRST), unknown=("something.new",))


def test_a_field_of_a_newer_kit_is_left_alone() -> None:
    name, data = opened("w1")

    assert after(*FIRST, *SECOND, (name, data | {"hue": "red"})) == after(*FIRST, *SECOND, (name, data))


def test_an_entry_that_lacks_what_its_event_is_to_say_is_named() -> None:
    with pytest.raises(BrokenJournal, match=r"Entry 0 of the journal, traffic\.shifted"):
        after(("traffic.shifted", {}))


def test_every_event_that_is_journaled_is_known() -> None:
    assert set(journal_events()) <= {*HANDLERS, *NOTED}


@given(EVENTS)
def test_a_state_that_is_written_down_is_read_back(events: list[Event]) -> None:
    state = after(*events)

    assert state_of(json.loads(json.dumps(asdict(state)))) == state
