"""What an engineer sees of a target's flags."""

from typing import Any

from rollout.steps.flags import flags_text
from tests.unit.rollout.steps.test_status_text import OLD, slot


def flags(**slots: Any) -> dict[str, Any]:
    return {"target": "production", "slots": {"blue": {"release": None}, "green": {"release": None}} | slots}


def test_flags_are_listed_for_each_slot_with_those_raised_marked() -> None:
    held = slot(OLD, ("P12_READ_ONLY",)) | {"share": 100, "instances": {"blue-1.local": 7, "blue-2.local": 6}}

    shown = [" ".join(one.split()) for one in flags_text(flags(blue=held)).splitlines()]

    assert shown == [
        f"production blue 100 % {OLD} generation 7",
        "P12_ENABLE_VIEW_QUEUE 0",
        "P12_READ_ONLY 1 raised",
        "blue-1.local has 7",
        "blue-2.local has 6",
    ]


def test_flags_before_the_first_release_say_so() -> None:
    assert flags_text(flags()) == "production: no release yet: ./p12 release"
