"""What instances counted between two scrapes is known, or said not to be."""

import math

import pytest

from app.flags import Arm
from checks.burst import deadlock_counts
from checks.burst.deadlock_counts import InstanceCount

STARTED = "p12_process_start_time_seconds 5.0e0\n"
DEADLOCKED = 'p12_db_errors_total{sqlstate="40P01",x="}"} 3 17\n'


def test_metrics_hold_the_sqlstates_that_have_a_series_and_without_a_start_are_none() -> None:
    assert deadlock_counts.parse(STARTED) == InstanceCount(5.0, {})
    assert deadlock_counts.parse(STARTED + DEADLOCKED).errors == {"40P01": 3.0}
    assert "no p12_process_start" in deadlock_counts.parse("<html>").error


def test_a_sqlstate_is_added_up_over_whatever_else_tells_its_series_apart() -> None:
    series = "".join(f'p12_db_errors_total{{sqlstate="40P01",arm="{arm}"}} 2\n' for arm in Arm)

    found = deadlock_counts.parse(f"p12_process_start_time_seconds 5\n{series}")

    assert found.errors == {"40P01": 2 * len(Arm)}


@pytest.mark.parametrize(
    ("before", "after"),
    [(STARTED, STARTED), (STARTED, STARTED + DEADLOCKED), (STARTED + DEADLOCKED, STARTED)],
    ids=["never", "only after", "only before"],
)
def test_metrics_without_a_sqlstate_s_series_do_not_say_that_it_was_never_raised(
    before: str, after: str
) -> None:
    scraped = [{"http://a": deadlock_counts.parse(text)} for text in (before, after)]

    number, why = deadlock_counts.raised_between(*scraped, "40P01")

    assert number is None
    assert why == 'http://a: /internal/metrics has no p12_db_errors_total{sqlstate="40P01"}.'


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({}, "not scraped again"),
        ({"a": InstanceCount(error="timeout")}, "timeout"),
        ({"a": InstanceCount(2.0, {})}, "restarted"),
        ({"a": InstanceCount(1.0, {"40P01": 0.0})}, "fell"),
        ({"a": InstanceCount(1.0, {"40P01": math.nan})}, "fell"),
    ],
)
def test_what_an_instance_forgot_is_unknown(after: dict[str, InstanceCount], words: str) -> None:
    before = {"a": InstanceCount(1.0, {"40P01": 1.0})}

    number, why = deadlock_counts.raised_between(before, after, "40P01")

    assert number is None
    assert words in why
