"""What grows towards its limit is found; what wanders, jumps or warms up is not."""

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from checks.base.report import Finding, Verdict
from checks.window.leaks import Leaks, Series, growth, seconds_to, slope_of
from checks.window.limits import WindowLimits

LIMITS = WindowLimits(3600, 7200, 100, 0.01, resident_mb=512, cold_seconds=150)
NEW, OLD = "green", "blue"
Value = Callable[[float], float]


def watched(
    seconds: float, new: Value, old: Value = lambda _: 100.0, name: str = "resident_mb", **more: Any
) -> list[Finding]:
    """Watch two slots of an instance each, every ten seconds, until something stops it."""
    leaks = Leaks(LIMITS, NEW)
    for look in range(int(seconds / 10)):
        at = 10.0 * look
        values = {NEW: new(at), OLD: old(at)}
        instances = {slot: {"started": 1.0, name: value, **more} for slot, value in values.items()}
        leaks.add(at, {"at": at, "instances": instances}, str)
        if any(found.verdict is not Verdict.PASSED for found in leaks.findings()):
            break
    return leaks.findings()


def noisy(sd: float, seed: int = 1) -> Value:
    chance = random.Random(seed)
    return lambda _: 100 + chance.gauss(0, sd)


def warming(height: float, minutes: float, chance: random.Random) -> Value:
    return lambda at: 100 + height * (1 - math.exp(-at / 60 / minutes)) + chance.gauss(0, 1)


def test_a_leak_is_found_with_the_time_to_its_limit() -> None:
    noise = noisy(2)

    (found,) = watched(1200, lambda at: noise(at) + 12 * at / 60)

    assert found.verdict is Verdict.FAILED
    assert found.sentence.startswith(
        "memory grows 12 MB/min more than the old slot's: at its limit of 512 MB"
    )
    assert 0.1 < float(found.measured or 0) < 0.6
    assert found.hint.startswith("green is the first")


def test_what_does_not_grow_passes() -> None:
    (found,) = watched(3600, noisy(5))

    assert found.verdict is Verdict.PASSED


def test_what_grows_in_the_old_slot_as_well_is_not_the_new_ones_leak() -> None:
    def leaking(seed: int) -> Value:
        noise = noisy(2, seed)
        return lambda at: noise(at) + at / 60

    (found,) = watched(3600, leaking(1), leaking(2))

    assert found.verdict is Verdict.PASSED


def test_a_leak_that_reaches_no_limit_in_the_time_that_the_site_names_passes() -> None:
    (found,) = watched(3600, lambda at: 100 + 10 * at / 3600)

    assert found.verdict is Verdict.PASSED


def test_a_process_that_warms_up_is_no_leak() -> None:
    for minutes in (2, 5, 10, 20):
        (found,) = watched(3600, warming(150, minutes, random.Random(1)))
        assert found.verdict is Verdict.PASSED


def test_what_nobody_tells_is_no_finding() -> None:
    assert watched(3600, lambda _: 1.0, name="cpu_seconds") == []
    assert watched(3600, lambda _: math.nan) == []
    assert watched(100, lambda at: 100 + at) == []


def test_open_files_are_held_against_what_the_process_may_have() -> None:
    leaks = {"name": "open_files", "open_files_limit": 1024}

    (found,) = watched(1800, lambda at: 40 + int(at / 5), lambda _: 40, **leaks)

    assert found.verdict is Verdict.FAILED
    assert found.sentence.startswith("open files grows 12/min more than the old slot's: at its limit of 1024")


def test_a_process_that_began_anew_begins_anew() -> None:
    leaks = Leaks(LIMITS, NEW)
    for look in range(240):
        at = 5.0 * look
        grown = 100 + 2 * (at % 100) / 5
        leaks.add(at, {"instances": {NEW: {"started": at // 100, "resident_mb": grown}}}, str)

    assert leaks.findings() == []


def test_what_both_slots_share_is_held() -> None:
    leaks = Leaks(LIMITS, NEW)
    for look in range(400):
        reading = {"connections": 20, "connection_limit": 100, "queue_lag_seconds": look / 20}
        leaks.add(5.0 * look, {"database": reading}, str)

    connections, lag = leaks.findings()

    assert connections.verdict is Verdict.PASSED
    assert lag.verdict is Verdict.HELD
    assert lag.sentence.startswith("the queue's lag grows 36 s/h: ")


def test_a_third_of_wild_values_does_not_move_the_slope() -> None:
    points = [(float(x), 2.0 * x + (1000 if x % 4 == 3 else 0)) for x in range(40)]

    assert slope_of(points) == pytest.approx(2, rel=0.05)


def test_the_bounds_hold_the_slope_as_often_as_they_say() -> None:
    """3.5 standard errors leave out one in two thousand."""
    missed = 0
    for seed in range(400):
        chance = random.Random(seed)
        found = growth([(float(x), 3.0 * x + chance.gauss(0, 20)) for x in range(30)])
        missed += not found.low <= 3 <= found.high

    assert missed <= 2


def test_a_series_keeps_few_points_however_long_it_is() -> None:
    series = Series(0.0)
    for look in range(3000):
        series.add(5.0 * look, 5.0 * look)

    assert 20 <= len(series.points) <= 40
    assert slope_of(series.points) == pytest.approx(1)
    assert seconds_to(30000, series.last, series.points) == pytest.approx(15005, rel=0.01)


def healthy(chance: random.Random) -> Iterator[tuple[str, Value]]:
    """What memory of healthy processes does, drawn with ranges."""

    def ar1() -> Value:
        sd, memory, state = chance.uniform(1, 15), chance.uniform(0.8, 0.999), [0.0]

        def value(_: float) -> float:
            state[0] = memory * state[0] + math.sqrt(1 - memory**2) * chance.gauss(0, sd)
            return 110 + state[0]

        return value

    def sawtooth() -> Value:
        height, period, shift = chance.uniform(5, 60), chance.uniform(60, 900), chance.uniform(0, 900)
        return lambda at: 100 + height * (((at + shift) % period) / period) + chance.gauss(0, 1)

    def jumps() -> Value:
        state = [90.0]

        def value(at: float) -> float:
            state[0] += chance.uniform(1, 10) if chance.random() < 0.3 * math.exp(-at / 600) / 5 else 0
            return state[0] + chance.gauss(0, 0.2)

        return value

    yield from (
        ("AR(1)", ar1()),
        ("sawtooth", sawtooth()),
        ("warming", warming(chance.uniform(10, 120), chance.uniform(0.5, 15), chance)),
        ("jumps", jumps()),
    )


@pytest.mark.parametrize("kind", range(4))
def test_healthy_memory_alarms_in_at_most_one_window_of_a_hundred(kind: int) -> None:
    runs, alarms = 100, 0
    for seed in range(runs):
        chance = random.Random(seed)
        new, old = ([*healthy(chance)][kind][1] for _ in range(2))
        alarms += any(f.verdict is not Verdict.PASSED for f in watched(1800, new, old))

    assert alarms <= 0.01 * runs
