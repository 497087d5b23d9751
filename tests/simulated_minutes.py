"""Minutes of a service that nobody changes, from what ``simulated_requests`` brings."""

from collections.abc import Iterator

from checks.window.before import Before, before
from checks.window.minutes import Minute, Minutes
from tests.simulated_requests import OLD, World, looks

# In the middle of nowhere, at a full hour.
BEGUN = 1_795_885_200.0


def minutes(seed: int, begin: float, seconds: float, per_minute: float, world: World) -> Iterator[Minute]:
    """What the guard would keep of so many seconds in which only the old slot was asked."""
    folding = Minutes((OLD, "green"))
    for at, found in looks(seed, seconds + 60, per_minute, 0.0, world):
        moved = [[int(cell[0] + begin), *cell[1:]] for cell in found["cells"]]
        over = folding.add(begin + at, {**found, "cells": moved}, "aaaa")
        if over is not None and over.start < begin + seconds:
            yield over


def known(seed: int = 1, per_minute: float = 600, world: World | None = None, days: int = 0) -> Before:
    """How a service was in the hour before, and at that time on so many days."""
    given = world or World()
    stretches = [
        list(minutes(seed + day, BEGUN - 3600 - 86400 * day, 3600, per_minute, given))
        for day in range(days + 1)
    ]
    found, why = before(stretches)
    assert found is not None, why
    return found
