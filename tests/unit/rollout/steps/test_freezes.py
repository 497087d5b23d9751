"""When a site is frozen, by the clocks of its zone."""

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rollout.errors import Refused
from rollout.steps.house_rules import frozen, refuse_branch, refuse_frozen
from rollout.target.target import Target

BERLIN = "Europe/Berlin"
ONCE = {"name": "Christmas", "from": "2026-12-23", "until": "2026-12-27T08:00", "zone": BERLIN}
WEEKEND = {
    **{"name": "weekends", "from": "2026-01-02T16:00", "until": "2026-01-05T07:00", "zone": BERLIN},
    "repeat": "FREQ=WEEKLY",
}
EVENINGS = {
    **{"name": "evenings", "from": "2026-01-02T20:00:00", "until": "2026-01-03T06:00:00"},
    "repeat": "FREQ=WEEKLY;BYDAY=MO,TH",
}
YEARLY = {**ONCE, "name": "every Christmas", "repeat": "RRULE:FREQ=YEARLY"}


def target(**settings: Any) -> Target:
    return Target("production", Path("/nowhere"), settings)


def at(said: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(said).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("freeze", "when", "found"),
    [
        (ONCE, "2026-12-22T23:59", ""),
        (ONCE, "2026-12-23T00:00", "Christmas until 2026-12-27 08:00 Europe/Berlin"),
        (ONCE, "2026-12-27T07:59", "Christmas until 2026-12-27 08:00 Europe/Berlin"),
        (ONCE, "2026-12-27T08:00", ""),
        (ONCE, "2027-12-24T12:00", ""),
        (YEARLY, "2030-12-24T12:00", "every Christmas until 2030-12-27 08:00 Europe/Berlin"),
        (YEARLY, "2025-12-24T12:00", ""),  # before its first
        (WEEKEND, "2026-11-27T15:59", ""),
        (WEEKEND, "2026-11-28T12:00", "weekends until 2026-11-30 07:00 Europe/Berlin"),
        (WEEKEND, "2026-07-03T16:00", "weekends until 2026-07-06 07:00 Europe/Berlin"),  # summer time
        (EVENINGS, "2026-11-30T21:30", "evenings until 2026-12-01 06:00 UTC"),
        (EVENINGS, "2026-11-30T20:30", ""),  # 19:30 in UTC
        (EVENINGS, "2026-12-01T23:30", ""),
        ({**EVENINGS, "repeat": "FREQ=DAILY"}, "2026-12-01T23:30", "evenings until 2026-12-02 06:00 UTC"),
        ({**EVENINGS, "repeat": "FREQ=MONTHLY"}, "2026-12-02T23:30", "evenings until 2026-12-03 06:00 UTC"),
        ({**EVENINGS, "repeat": "FREQ=MONTHLY"}, "2026-12-05T23:30", ""),
    ],
)
def test_a_freeze_holds_as_long_as_it_says(freeze: dict[str, str], when: str, found: str) -> None:
    assert frozen(target(freezes=[freeze]), at(when)) == found


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"repeat": "FREQ=HOURLY"}, "FREQ=HOURLY is none of"),
        ({"repeat": "FREQ=WEEKLY;BYDAY=1MO"}, "is none of"),
        ({"repeat": "FREQ=DAILY;COUNT=3"}, "is none of"),
        ({"repeat": "weekly"}, "weekends of p12_freezes"),
        ({"until": "2026-01-01T00:00"}, "no stretch"),
        ({"until": "soon"}, "soon"),
        ({"zone": "Europe/Atlantis"}, "Europe/Atlantis"),
        ({"from": "2026-01-02T16:00+01:00"}, "weekends"),
    ],
)
def test_a_freeze_that_cannot_be_understood_is_refused_and_never_taken_for_none(
    change: dict[str, str], why: str
) -> None:
    with pytest.raises(Refused, match=f"cannot be understood.*|{why}") as raised:
        frozen(target(freezes=[{**WEEKEND, **change}]), at("2026-12-01T12:00"))

    assert why in str(raised.value)
    assert "p12_freezes" in str(raised.value)
    assert "./p12 provision" in raised.value.hint


def test_a_refusal_names_the_rule_and_the_way_out_and_a_reason_breaks_it() -> None:
    site, now = target(freezes=[ONCE]), at("2026-12-24T12:00")

    with pytest.raises(Refused, match=r"frozen: Christmas until .* \(p12_freezes\)") as raised:
        refuse_frozen(site, " ", now)

    assert "--why" in raised.value.hint
    assert refuse_frozen(site, "the site is down", now).startswith("Christmas")
    assert refuse_frozen(site, "", at("2026-12-28T12:00")) == ""


@pytest.mark.parametrize(
    ("allowed", "known", "is_refused"),
    [
        ([], [], False),
        (["main"], ["main", "try"], False),
        (["main"], ["try"], True),
        (["origin/main"], ["main"], True),
        (["release/*"], ["release/7"], False),
        (["main"], [], True),
    ],
)
def test_only_what_is_on_a_branch_of_the_inventory_goes_to_production(
    allowed: list[str], known: list[str], is_refused: bool
) -> None:
    site = target(branches=allowed)
    if not is_refused:
        refuse_branch(site, "b" * 12, known)
        return
    with pytest.raises(Refused, match=r"takes what is on .* \(p12_branches\)") as raised:
        refuse_branch(site, "b" * 12, known)
    assert "./p12 release --branch" in raised.value.hint
