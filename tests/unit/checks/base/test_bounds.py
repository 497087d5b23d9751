"""What clean requests prove is said as it is in the tables."""

import pytest

from checks.base import bounds


@pytest.mark.parametrize(
    ("failed", "requests", "bound"),
    # Clopper and Pearson, one-sided 95 %: 0/300 is the rule of three; the others from tables.
    [(0, 300, 0.00994), (0, 1, 0.95), (1, 100, 0.0466), (5, 100, 0.1023), (3, 3, 1.0), (0, 0, 1.0)],
)
def test_what_clean_requests_prove(failed: int, requests: int, bound: float) -> None:
    assert bounds.upper_bound(failed, requests) == pytest.approx(bound, abs=2e-4)


def test_power_names_what_was_shown_and_the_count_that_would_show_the_wanted_limit() -> None:
    said = bounds.in_words(0, 300, 0.001)

    assert said.startswith("300 requests can only show < 0.99 % errors (95% sure)")
    assert said.endswith("2995 clean ones would show < 0.1 %")
    assert bounds.upper_bound(0, bounds.clean_requests(0.001)) < 0.001
    assert bounds.upper_bound(0, bounds.clean_requests(0.001) - 1) >= 0.001
