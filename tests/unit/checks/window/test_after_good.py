"""A good release is watched for days: nothing is said of a healthy one, and late trouble is found."""

import random
from collections.abc import Callable

import pytest

from checks.window.absence import Tolerable
from checks.window.against_before import AgainstBefore, Asked
from checks.window.before import Before, before
from checks.window.minutes import Minute
from checks.window.streams import Block
from tests.simulated_causes import ar
from tests.simulated_minutes import BEGUN
from tests.simulated_requests import OLD, ROUTES, USUAL, poisson, timings

DAYS, ALPHA = 3, 0.01
CLASSES = {"5xx": "failed", "503": "busy", "404": "not_found", "429": "limited", "3xx": "redirected"}
PER_MINUTE = 60.0


def minute(
    chance: random.Random, start: float, more: dict[str, float], slower: float, rate: float = 1.0
) -> Minute:
    """A minute as it is kept, drawn as such."""
    block = Block(start)
    for route, (weight, median) in ROUTES.items():
        n = poisson(chance, PER_MINUTE * weight * rate)
        failed = 0
        for status, of in CLASSES.items():
            k = poisson(chance, n * (USUAL.get(status, 0.0) + more.get(status, 0.0)))
            block.events[of, OLD] += k
            block.route_events[of, route, OLD] += k
            failed += k if of in ("failed", "busy") else 0
        block.good[OLD, route] += n
        block.judged[OLD, route] += n + failed
        block.untimed[OLD, route].append(timings(chance, n, median, slower, (0.0, 1.0)))
    block.close()
    return Minute(int(start), 60.0, "aaaa", block)


def hour_before(chance: random.Random) -> Before:
    found, why = before([[minute(chance, BEGUN - 3600 + 60 * n, {}, 0.0) for n in range(60)]])
    assert found, why
    return found


def watched(
    seed: int, hours: int, more: Callable[[float], dict[str, float]] = lambda _: {}, storms: bool = False
) -> float | None:
    """The minute in which something is said, None where nothing is."""
    chance = random.Random(seed)
    known, wander = hour_before(chance), ar(chance, 0.15, 0.95, 60 * hours)
    begin = chance.randrange(0, 60 * hours)
    for hour in range(hours):
        asked = Asked(OLD, Tolerable(), ALPHA / 24 / DAYS, 3600, 60, 300)
        judging = AgainstBefore(known, asked)
        for n in range(60):
            at = 60 * hour + n
            extra = {"503": 0.5} if storms and begin <= at < begin + 3 else more(at)
            found = minute(chance, BEGUN + 60 * at, extra, wander[at])
            judging.add(60.0 * (n + 1), 60.0, found.block)
            if any(each.verdict == "failed" for each in judging.findings()):
                return at
    return None


@pytest.mark.parametrize("seed", range(4))
def test_of_a_healthy_release_nothing_is_said_in_a_day(seed: int) -> None:
    assert watched(seed, 24, storms=True) is None


@pytest.mark.parametrize(("errors", "within"), [(0.1, 15), (0.05, 45)])
def test_errors_that_begin_late_are_found(errors: float, within: int) -> None:
    found = watched(1, 5, lambda at: {"5xx": errors} if at >= 190 else {})

    assert found is not None
    assert 190 <= found <= 190 + within
