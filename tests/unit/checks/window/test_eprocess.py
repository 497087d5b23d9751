"""Evidence is a fair bet, worked out by hand, and never overflows."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.window.eprocess import AgainstControl, AgainstRatio


def test_the_evidence_of_a_hand_calculated_block() -> None:
    test = AgainstControl(harm=(3.0,))

    test.add(100, 4, 300, 1)

    share, worse = 100 / 400, 300 / 600
    expected = 4 * math.log(worse / share) + 1 * math.log((1 - worse) / (1 - share))
    assert test.log_e == pytest.approx(expected)


def test_counts_of_one_arm_wait_for_the_other() -> None:
    waiting, at_once = AgainstControl(), AgainstControl()

    assert not waiting.add(50, 3, 0, 0)
    assert waiting.log_e == 0
    assert waiting.add(0, 0, 50, 0)
    at_once.add(50, 3, 50, 0)

    assert waiting.log_e == at_once.log_e > 0


def test_no_events_are_no_evidence_against_anyone() -> None:
    test = AgainstControl()

    test.add(1000, 0, 1000, 0)

    assert test.log_e == 0


@given(st.lists(st.tuples(*[st.integers(0, 10**9)] * 4), max_size=20))
def test_evidence_is_always_a_number(blocks: list[tuple[int, int, int, int]]) -> None:
    test, alone = AgainstControl(), AgainstRatio(0.01)

    for block in blocks:
        test.add(*block)
        alone.add(*block[:2])

    assert math.isfinite(test.log_e)
    assert math.isfinite(alone.log_e)


@pytest.mark.parametrize("allowed", [0.001, 0.01, 0.5, 0.99])
def test_evidence_against_a_ratio_is_a_fair_bet_when_the_ratio_is_just_met(allowed: float) -> None:
    test_of_one = {event: AgainstRatio(allowed) for event in (0, 1)}
    for event, test in test_of_one.items():
        test.add(1, event)

    expected = sum(
        chance * math.exp(test_of_one[event].log_e) for event, chance in ((0, 1 - allowed), (1, allowed))
    )

    assert expected == pytest.approx(1)
