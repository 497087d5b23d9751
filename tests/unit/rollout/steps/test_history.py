"""What a journal tells of each release, and the four figures that follow from it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.steps.history import GOOD, HELD, LEFT, TURNED_BACK, UNDER_WAY, Story, figures, stories
from rollout.target.journal import Entry
from tests.unit.rollout.target.test_state import EVENTS, NEW, OLD, Event

DAY = 86400.0
OUTCOMES = {GOOD, TURNED_BACK, HELD, LEFT, UNDER_WAY}
# What anybody may have written into an entry.
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def at(*events: tuple[float, Event]) -> list[Entry]:
    return [Entry(n, when, "ann", name, data) for n, (when, (name, data)) in enumerate(events, 1)]


def going_up(release: str, begin: float, committed_at: float = 0.0) -> list[tuple[float, Event]]:
    """Claimed, proven 30 s later, 5 % another 10 s later, watched for 60 s and passed."""
    window = f"w-{release}-{begin}"
    asked = {"id": window, "release": release, "kind": "step", "share": 5}
    shown = {"slot": "green", "release": release, "commit": release * 3, "committed_at": committed_at}
    return [
        (begin, ("slot.claimed", {"slot": "green", "release": release})),
        (begin + 30, ("slot.proven", shown)),
        (begin + 30, ("rollout.begun", {"slot": "green", "release": release, "why": ""})),
        (begin + 40, ("traffic.shifted", {"shares": {"green": 5, "blue": 95}, "release": release})),
        (begin + 40, ("window.opened", asked)),
        (begin + 100, ("window.closed", {"id": window, "verdict": "passed", "summary": "no harm"})),
    ]


def good(release: str, begin: float, committed_at: float = 0.0) -> list[tuple[float, Event]]:
    return [
        *going_up(release, begin, committed_at),
        (begin + 200, ("finished", {"release": release, "slot": "green"})),
    ]


def turned_back(release: str, when: float, held: str = "") -> list[tuple[float, Event]]:
    return [
        (when, ("rollback.begun", {"release": release, "to": OLD, "why": "errors"})),
        (when, ("traffic.shifted", {"shares": {"green": 0, "blue": 100}, "release": OLD})),
        (when + 2, ("rolled_back", {"release": release, "to": OLD, "why": "errors", "held": held})),
    ]


def test_a_release_is_told_stage_by_stage_with_what_each_came_to() -> None:
    (story,) = stories(at(*good(NEW, 1000)))

    assert [(stage.name, stage.began, stage.ended, stage.verdict) for stage in story.stages] == [
        ("install", 1000, 1030, "passed"),
        ("5 % of the requests", 1040, 1040, ""),
        ("window at 5 %", 1040, 1100, "passed"),
        ("good", 1200, 1200, ""),
    ]
    assert (story.outcome, story.traffic_at, story.good_at) == (GOOD, 1040, 1200)
    assert {stage.who for stage in story.stages} == {"ann"}


def test_the_time_in_which_nothing_went_on_is_what_it_waited() -> None:
    (story,) = stories(at(*good(NEW, 1000)))

    assert story.waited(now=5000) == 10 + 100


def test_a_release_that_another_took_the_place_of_is_left_and_one_on_its_way_is_under_way() -> None:
    first, second = stories(at(*going_up(OLD, 1000), *going_up(NEW, 2000)))

    assert (first.outcome, first.ended) == (LEFT, 2000)
    assert (second.outcome, second.ended) == (UNDER_WAY, None)


def test_a_verified_backup_is_part_of_the_release_that_it_was_made_for() -> None:
    backup = {"id": "b1", "summary": "restored", "started_at": 900.0}
    way_back = {"new": {"release": NEW}, "old": {}, "verdict": "passed", "summary": "proven"}
    told = at((950, ("backup.verified", backup)), (950, ("way_back.judged", way_back)), *good(NEW, 1000))

    (story,) = stories(told)

    assert story.began == 900
    assert (story.stages[0].name, story.stages[0].ended) == ("backup", 950)


def test_the_four_figures_of_a_site() -> None:
    told = stories(
        at(
            *good(OLD, 0, committed_at=-3600),
            *going_up(NEW, 2 * DAY),
            *turned_back(NEW, 2 * DAY + 70),
            *good(NEW, 4 * DAY, committed_at=4 * DAY - 7200),
        )
    )

    found = figures(told, 14 * DAY)

    assert (found["deployments"], found["deployments_per_week"]) == (2, 1.0)
    assert found["lead_time_seconds"] == pytest.approx((3800 + 7400) / 2)
    assert (found["changes"], found["failed_changes"]) == (3, 1)
    assert found["change_failure_percent"] == pytest.approx(33.3)
    assert found["restore_seconds"] == 32  # from the share at 40 s to the end of the rollback at 72 s


def test_harm_that_was_not_the_releases_is_no_failed_change_until_it_is_judged_to_be() -> None:
    held = [*going_up(NEW, 1000), *turned_back(NEW, 1070, held="w")]
    judged: Event = ("withdrawal.judged", {"release": NEW, "verdict": "failed", "summary": "gone with it"})

    assert figures(stories(at(*held)), 2000)["failed_changes"] == 0
    assert figures(stories(at(*held, (1500, judged))), 2000)["failed_changes"] == 1


def test_a_good_release_that_is_turned_back_later_failed_and_is_restored_from_when_it_was_found() -> None:
    found: Event = ("release.troubled", {"release": NEW, "summary": "404s"})
    (story,) = stories(at(*good(NEW, 1000), (5000, found), *turned_back(NEW, 5060)))

    assert (story.outcome, story.good_at) == (TURNED_BACK, 1200)
    assert figures([story], 6000)["restore_seconds"] == 62


def test_what_a_rehearsal_turned_back_is_no_story() -> None:
    rehearsed: Event = ("rehearsal.begun", {"release": NEW})
    (story,) = stories(at(*good(NEW, 1000), (2000, rehearsed), *turned_back(NEW, 2001)))

    assert story.outcome == GOOD


def test_without_a_release_every_figure_is_unknown_or_none() -> None:
    found = figures([], 1000)

    assert {found[name] for name in ("deployments", "changes")} == {0}
    assert found["lead_time_seconds"] is found["change_failure_percent"] is found["restore_seconds"] is None


def checked(told: list[Story], now: float) -> None:
    for story in told:
        assert story.outcome in OUTCOMES
        assert 0 <= story.waited(now) <= (story.ended or now) - story.began
        assert all(stage.ended is None or stage.ended >= stage.began for stage in story.stages)
    assert sum(story.outcome == UNDER_WAY for story in told) <= 1
    found = figures(told, now)
    assert found["failed_changes"] <= found["changes"] <= len(told)


@given(EVENTS, st.integers(0, 25))
def test_a_journal_that_begins_anywhere_is_told(events: list[Event], cut: int) -> None:
    entries = at(*((1000.0 + number, event) for number, event in enumerate(events)))[cut:]

    checked(stories(entries), 2000.0)


@given(EVENTS, st.data())
def test_events_of_a_newer_kit_change_nothing_of_what_is_told(events: list[Event], data: Any) -> None:
    entries = at(*((1000.0 + number, event) for number, event in enumerate(events)))
    place = data.draw(st.integers(0, len(entries)))
    newer = Entry(0, 1000.0 + place, "ann", "newer.event", {"release": NEW, "of": data.draw(ANY)})

    # A backup is told with what stands right behind it.
    if not (place and entries[place - 1].event == "backup.verified"):
        assert stories([*entries[:place], newer, *entries[place:]]) == stories(entries)


@given(st.lists(st.tuples(EVENTS, st.dictionaries(st.text(max_size=4), ANY, max_size=2)), max_size=3))
def test_entries_that_say_less_or_something_else_are_told_as_far_as_they_go(
    found: list[tuple[list[Event], dict[str, Any]]],
) -> None:
    events = [(name, {**data, **dict.fromkeys(data, odd)}) for group, odd in found for name, data in group]

    stories(at(*((1000.0 + number, event) for number, event in enumerate(events))))
