"""The lock of a target: who took it from whom is on record, and who lost it is told."""

import pytest

from rollout.errors import Refused
from rollout.steps import lock
from tests.integration.rollout.steered import NEW, OLD, Steered

ANN, EVE = ("ann@desk", "desk:1:1.0"), ("eve@tower", "tower:2:2.0")


def test_every_taking_is_journaled_with_from_whom(live: Steered) -> None:
    first = lock.take(live.steering, *ANN, dead="")
    lock.take(live.steering, *ANN, dead="")
    second = lock.take(live.steering, *EVE, dead=ANN[1])

    taken = [entry for entry in live.steering.journal.entries() if entry.event == "lock.taken"]
    assert [(entry.owner, entry.data["token"]) for entry in taken] == [
        ("ann@desk", first["token"]),
        ("eve@tower", second["token"]),
    ]
    assert taken[0].data["taken_from"] is None
    assert taken[1].data["taken_from"]["owner"] == "ann@desk"


def test_being_refused_journals_nothing(live: Steered) -> None:
    lock.take(live.steering, *ANN, dead="")
    events = live.events()

    assert not lock.take(live.steering, *EVE, dead="", tentative=True)["held"]

    assert live.events() == events


def test_who_lost_it_to_a_rollback_is_told_who_what_is_true_and_how_to_go_on(live: Steered) -> None:
    live.offer(NEW)
    live.roll_back("notes vanish")

    with pytest.raises(Refused) as raised:
        live.shift(NEW, 5)

    assert "You lost the lock, by rollback: to bob@tower" in str(raised.value)
    assert f"{OLD} serves production. {NEW} was rolled back: notes vanish." in str(raised.value)
    assert "./p12 release --branch" in raised.value.hint
    begun = next(e for e in live.steering.journal.entries() if e.event == "rollback.begun")
    assert begun.data["taken_from"]["owner"] == "ann@desk"


def test_who_lost_it_to_a_takeover_is_told_to_whom_and_what_serves(live: Steered) -> None:
    live.offer(NEW)
    lock.break_(live.steering, "eve@tower", "ann is away")
    lock.take(live.steering, *EVE, dead="")

    with pytest.raises(Refused, match=f"by takeover: to eve@tower .* {OLD} serves production"):
        live.shift(NEW, 5)
