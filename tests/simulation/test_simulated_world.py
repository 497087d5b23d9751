"""Whatever befalls a release in a simulated world, it ends as one that nothing befell, or turned back."""

import pytest

from tests.simulation.__main__ import first_failing
from tests.simulation.bugs import BUGS, Bug
from tests.simulation.release import plan_of, run

SEEDS = 100


def test_no_seed_violates_anything() -> None:
    assert first_failing(range(SEEDS)) is None


def test_a_seed_replays_the_same_run() -> None:
    assert run(7) == run(7)
    assert run(7, plan_of(7)) == run(7)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.words)
def test_a_bug_can_be_planted(bug: Bug) -> None:
    with bug.planted():
        pass
