"""From shares to HAProxy's weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.target.haproxy import HIGHEST_WEIGHT, weights_for
from rollout.target.target import SLOTS, Instance

COUNTS = st.integers(1, 12)
SHARES = st.integers(0, 100)


def fleet(blue: int, green: int) -> tuple[Instance, ...]:
    return tuple(
        Instance(f"{slot}-{number}", slot, "127.0.0.1", 1)
        for slot, count in (("blue", blue), ("green", green))
        for number in range(count)
    )


def true_shares(weights: dict[str, int], instances: tuple[Instance, ...]) -> dict[str, float]:
    total = sum(weights.values())
    return {
        slot: 100 * sum(weights[i.name] for i in instances if i.slot == slot) / total if total else 0.0
        for slot in SLOTS
    }


@given(COUNTS, COUNTS, SHARES)
def test_a_slot_gets_its_share_within_rounding_whatever_the_number_of_instances(
    blue: int, green: int, share: int
) -> None:
    instances = fleet(blue, green)

    weights = weights_for({"green": share, "blue": 100 - share}, instances)

    at_the_end_of_the_scale = set(weights.values()) == {1, HIGHEST_WEIGHT}
    assert round(true_shares(weights, instances)["green"]) == share or at_the_end_of_the_scale


@pytest.mark.parametrize("share", [1, 5, 10, 25, 50, 75, 99])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 12])
def test_the_usual_steps_are_exact_to_half_a_point_where_both_slots_are_of_one_size(
    share: int, count: int
) -> None:
    instances = fleet(count, count)

    weights = weights_for({"green": share, "blue": 100 - share}, instances)

    assert true_shares(weights, instances)["green"] == pytest.approx(share, abs=0.5)


@given(COUNTS, COUNTS, SHARES)
def test_every_weight_is_one_that_haproxy_takes(blue: int, green: int, share: int) -> None:
    weights = weights_for({"green": share, "blue": 100 - share}, fleet(blue, green))

    assert all(0 <= weight <= HIGHEST_WEIGHT for weight in weights.values())


@given(COUNTS, COUNTS, st.sampled_from(SLOTS))
def test_a_share_of_0_is_a_weight_of_0(blue: int, green: int, left: str) -> None:
    instances = fleet(blue, green)

    weights = weights_for(dict.fromkeys(SLOTS, 100) | {left: 0}, instances)

    assert all((weights[i.name] == 0) == (i.slot == left) for i in instances)


@given(COUNTS, COUNTS, st.integers(1, 99))
def test_any_share_at_all_is_more_than_none(blue: int, green: int, share: int) -> None:
    weights = weights_for({"green": share, "blue": 100 - share}, fleet(blue, green))

    assert min(weights.values()) >= 1


@given(COUNTS, COUNTS, SHARES)
def test_instances_of_a_slot_weigh_the_same(blue: int, green: int, share: int) -> None:
    instances = fleet(blue, green)

    weights = weights_for({"green": share, "blue": 100 - share}, instances)

    assert all(len({weights[i.name] for i in instances if i.slot == slot}) == 1 for slot in SLOTS)


def test_a_slot_that_is_not_named_gets_nothing() -> None:
    assert weights_for({"blue": 100}, fleet(1, 1))["green-0"] == 0


def test_no_share_for_anybody_is_no_weight_for_anybody() -> None:
    assert set(weights_for({"blue": 0, "green": 0}, fleet(2, 2)).values()) == {0}


def test_a_target_with_one_slot_only_gives_it_everything() -> None:
    assert weights_for({"blue": 100, "green": 0}, fleet(2, 0)) == {
        "blue-0": HIGHEST_WEIGHT,
        "blue-1": HIGHEST_WEIGHT,
    }
