"""Wrong bodies that visitors found: evidence beside the old slot, or against the limit, none of nothing."""

from typing import Any

import pytest

from checks.base.report import Verdict
from checks.window.bodies import Bodies
from checks.window.limits import WindowLimits

LIMITS = WindowLimits(seconds=60, max_seconds=180, min_requests=100, max_error_ratio=0.01)


def verdict(*looks: Any, control: str | None = "blue") -> Verdict | None:
    bodies = Bodies(LIMITS, "green", control)
    for look in looks:
        bodies.add(look)
    found = bodies.findings()
    return found[0].verdict if found else None


def look(new: int, new_wrong: int, old: int, old_wrong: int = 0) -> dict[str, dict[str, int]]:
    return {
        "green": {"answers": new, "wrong": new_wrong},
        "blue": {"answers": old, "wrong": old_wrong},
    }


@pytest.mark.parametrize("control", ["blue", None])
def test_a_release_that_says_nonsense_with_200_fails(control: str | None) -> None:
    assert verdict(look(0, 0, 900), look(100, 12, 1000), control=control) is Verdict.FAILED


@pytest.mark.parametrize("control", ["blue", None])
def test_right_bodies_pass(control: str | None) -> None:
    assert verdict(look(0, 0, 900), look(100, 0, 1000), control=control) is Verdict.PASSED


def test_what_the_old_release_says_as_well_is_not_the_new_ones() -> None:
    assert verdict(look(0, 0, 0), look(100, 10, 100, 10)) is Verdict.PASSED


def test_what_was_before_the_window_is_not_of_it() -> None:
    assert verdict(look(500, 500, 900), look(600, 500, 1000)) is Verdict.PASSED


def test_a_ledger_that_began_anew_says_nothing_of_what_was_before() -> None:
    assert verdict(look(500, 100, 900), look(5, 2, 9), look(105, 2, 109)) is Verdict.PASSED


@pytest.mark.parametrize(
    "looks", [[{}], [{}, {}], [look(5, 0, 5)], [{"green": 3}, {"green": {"answers": "x"}}]]
)
def test_visitors_that_are_gone_leave_it_unknown(looks: list[Any]) -> None:
    assert verdict(*looks) is Verdict.UNKNOWN


@pytest.mark.parametrize("looks", [[], [None], [None, None]])
def test_a_site_without_visitors_is_not_asked(looks: list[Any]) -> None:
    assert verdict(*looks) is None
