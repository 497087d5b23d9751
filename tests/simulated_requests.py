"""Two slots' requests as the request log's cells, with what befalls healthy services and what releases break.

A look is of ten seconds. Answers nobody minds stand in one cell each look, what failed in the second it did.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from checks.window.cells import BELOW_A_MILLISECOND
from tests.simulated import happened

LOOK = 10.0
NEW, OLD = "green", "blue"
# Each route's part of the traffic, and its median in ms.
ROUTES: Mapping[str, tuple[float, float]] = {
    "GET /api/notes/N": (0.40, 8.0),
    "GET /api/notes": (0.25, 20.0),
    "POST /api/notes/N/view": (0.20, 12.0),
    "POST /api/notes": (0.10, 15.0),
    "POST /api/notes/N/like": (0.05, 12.0),
}
USUAL: Mapping[str, float] = {"5xx": 0.001, "404": 0.01, "429": 0.005, "3xx": 0.002, "4xx": 0.002}
SPREAD = 0.5
COUNTERS = ("deadlocks", "busy", "unjudged", "retries")
STEP = math.log(1.04)
# second, slot, route, status, requests, and the mark of the one client that asked
Extra = tuple[float, str, str, str, int, int]
MARKS = 2**16


class Moment(NamedTuple):
    """A second, and whose requests for what are meant."""

    at: float
    slot: str
    route: str


@dataclass
class World:
    """What the services do, moment by moment.

    ``statuses`` stand over a route's usual ones; ``slower`` is the ln of how many times slower; ``tail`` says
    how many answers take how many times as long; ``others`` are who else comes. ``coupled`` worlds that
    differ only in a ratio are asked the same, so that whoever meets the smaller one meets the larger as well.
    """

    rate: Callable[[float], float] = lambda _: 1.0
    arriving: Callable[[Moment], float] = lambda _: 1.0
    statuses: Callable[[Moment], Mapping[str, float]] = lambda _: {}
    slower: Callable[[Moment], float] = lambda _: 0.0
    tail: Callable[[Moment], tuple[float, float]] = lambda _: (0.0, 1.0)
    others: Callable[[float], list[Extra]] = lambda _: []
    usual: Mapping[str, float] = field(default_factory=lambda: USUAL)
    coupled: bool = False


def looks(
    seed: int, seconds: float, per_minute: float, share: float, world: World
) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield each look's end and what the request log brought in it; ``share`` is the new slot's, 0 to 1."""
    chance = random.Random(seed)
    for number in range(int(seconds / LOOK)):
        at = number * LOOK
        cells: list[list[Any]] = []
        marks: dict[str, list[int]] = {}
        clients = Counter({NEW: 0, OLD: 0})
        for slot, part in ((NEW, share), (OLD, 1 - share)):
            for route, (weight, median) in ROUTES.items():
                moment = Moment(at, slot, route)
                if world.coupled:
                    chance = random.Random(f"{seed} {at} {slot} {route}")
                mean = per_minute / 60 * LOOK * part * weight * world.rate(at) * world.arriving(moment)
                n = left = poisson(chance, mean)
                clients[slot] += n
                for status, ratio in {**world.usual, **world.statuses(moment)}.items():
                    own = random.Random(f"{seed} {at} {slot} {route} {status}") if world.coupled else chance
                    k = min(happened(own, n, min(ratio, 1.0)), left)
                    left -= k
                    for second, m in Counter(int(at + LOOK * chance.random()) for _ in range(k)).items():
                        marks[str(len(cells))] = [chance.randrange(MARKS) for _ in range(m)]
                        cells.append([second, slot, route, status, m, m, 1, {}])
                if left:
                    timed = timings(chance, left, median, world.slower(moment), world.tail(moment))
                    cells.append([int(at), slot, route, "2xx", left, left, 1, timed])
        for second, slot, route, status, n, mark in world.others(at):
            clients[slot] += 1
            marks[str(len(cells))] = [mark]
            cells.append([second, slot, route, status, n, 1, n, {}])
        yield at + LOOK, {"cells": cells, "clients": dict(clients), "marks": marks}


def samples(
    seed: int, seconds: float, per_minute: float, share: float, world: World
) -> Iterator[dict[str, Any]]:
    """Yield what the guard would sample, from an empty one at the start."""
    counted = {slot: Counter(requests=0, errors=0) for slot in (NEW, OLD)}
    instance = {"started": 1.0, "resident_mb": 80.0, "latency": {}} | dict.fromkeys(COUNTERS, 0)
    yield _sample(0.0, counted, instance, {"cells": [], "clients": {}})
    for at, found in looks(seed, seconds, per_minute, share, world):
        for _, slot, _, status, n, *_ in found["cells"]:
            if slot in counted:
                counted[slot].update(requests=n, errors=n * (status in ("5xx", "503")))
        yield _sample(at, counted, instance, found)


def _sample(
    at: float, counted: Mapping[str, Counter[str]], instance: Mapping[str, Any], found: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "at": at,
        "servers": {slot: {"slot": slot, "up": True, **counts} for slot, counts in counted.items()},
        "instances": {slot: instance for slot in counted},
        "requests": {**found, "broken": [], "failures": []},
    }


def timings(
    chance: random.Random, n: int, median: float, slower: float, tail: tuple[float, float]
) -> dict[int, int]:
    """A histogram of so many latencies, log-normal around a median in ms."""
    ratio, times = tail
    middle, late = math.log(median) + slower, math.log(times)
    found: dict[int, int] = {}
    for _ in range(n):
        value = chance.gauss(middle, SPREAD)
        if ratio and chance.random() < ratio:
            value += late
        bucket = math.ceil(value / STEP) if value >= 0 else BELOW_A_MILLISECOND
        found[bucket] = found.get(bucket, 0) + 1
    return found


def poisson(chance: random.Random, mean: float) -> int:
    if mean > 40:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    found, place, floor = 0, chance.random(), math.exp(-mean)
    while place > floor:
        found += 1
        place *= chance.random()
    return found
