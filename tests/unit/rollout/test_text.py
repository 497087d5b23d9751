"""Words that several rooms say in the same way."""

import pytest

from rollout.text import size_text


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 kB"), (38_400, "38 kB"), (79_840_000, "79.8 MB"), (1_204_000_000, "1204 MB")]
)
def test_a_size_is_said_in_the_unit_that_shows_it(size: int, said: str) -> None:
    assert size_text(size) == said
