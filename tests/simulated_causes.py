"""What befalls healthy releases, drawn from ranges, and what broken ones do, for ``simulated_requests``."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from tests.simulated_requests import LOOK, MARKS, NEW, OLD, ROUTES, USUAL, Extra, Moment, World, poisson

HOUR = 3600.0
POOL_TIMEOUT = 10.0
NOTE = "GET /api/notes/N"
RARE = "POST /api/notes/N/like"


class Make(Protocol):
    """Draws a world; the new slot gets such a share of its requests, 0 to 1."""

    def __call__(self, chance: random.Random, share: float = 0.25, /) -> World: ...


def quiet(*_: Any) -> World:
    return World()


def stalls(chance: random.Random, _: float = 0.25, /) -> World:
    """The database answers nobody for 1 to 30 seconds, a few times; who waits too long gets a 503."""
    times = [(chance.uniform(0, HOUR), chance.uniform(1, 30)) for _ in range(chance.randint(1, 4))]

    def part(at: float, begin: float, length: float) -> float:
        return max(0.0, min(at + LOOK, begin + length) - max(at, begin)) / LOOK

    def statuses(m: Moment) -> Mapping[str, float]:
        late = sum(part(m.at, begin, length - POOL_TIMEOUT) for begin, length in times)
        return {"503": late} if late > 0 else {}

    def tail(m: Moment) -> tuple[float, float]:
        waiting = sum(part(m.at, begin, min(length, POOL_TIMEOUT)) for begin, length in times)
        return waiting, 250.0

    return World(statuses=statuses, tail=tail)


def storms(chance: random.Random, _: float = 0.25, /) -> World:
    """Both slots shed load with 503s for 10 to 120 seconds, one a little more than the other."""
    begin, length = chance.uniform(0, HOUR), chance.uniform(10, 120)
    ratio = chance.uniform(0.05, 0.8)
    of = {NEW: ratio * chance.uniform(0.8, 1.2), OLD: ratio * chance.uniform(0.8, 1.2)}
    return World(statuses=lambda m: {"503": of[m.slot]} if begin <= m.at < begin + length else {})


def clumps(chance: random.Random, share: float = 0.25, /) -> World:
    """Now and then one client fails 2 to 20 times within five seconds, in its slot or in any."""
    extras: dict[float, list[Extra]] = defaultdict(list)
    at, every = 0.0, chance.uniform(60, 600)
    while (at := at + chance.expovariate(1 / every)) < HOUR:
        sticky, status = chance.random() < 0.5, chance.choice(("5xx", "503", "5xx", "4xx"))
        home, route, mark = _slot(chance, share), chance.choice(list(ROUTES)), chance.randrange(MARKS)
        for _ in range(chance.randint(2, 20)):
            second = int(at + chance.uniform(0, 5))
            slot = home if sticky else _slot(chance, share)
            extras[second // LOOK * LOOK].append((second, slot, route, status, 1, mark))
    return World(others=lambda at: joined(extras[at]))


def cold(chance: random.Random, _: float = 0.25, /) -> World:
    """A new process is slow for its first seconds, flat or fading."""
    length, times, fades = chance.uniform(10, 120), math.log(chance.uniform(2, 10)), chance.random() < 0.5

    def slower(m: Moment) -> float:
        left = max(0.0, 1 - m.at / length)
        return times * (left if fades else math.ceil(left)) if m.slot == NEW else 0.0

    return World(slower=slower)


def wandering(chance: random.Random, _: float = 0.25, /) -> World:
    """Latency wanders per process as an AR(1) of a standard deviation up to 0.3."""
    sd, memory = chance.uniform(0.1, 0.3), chance.uniform(0.5, 0.98)
    paths = {slot: ar(chance, sd, memory, int(2 * HOUR / LOOK)) for slot in (NEW, OLD)}
    return World(slower=lambda m: paths[m.slot][int(m.at / LOOK)])


def ar(chance: random.Random, sd: float, memory: float, length: int) -> list[float]:
    values = [chance.gauss(0, sd)]
    for _ in range(length):
        values.append(memory * values[-1] + chance.gauss(0, sd * math.sqrt(1 - memory**2)))
    return values


def tides(chance: random.Random, _: float = 0.25, /) -> World:
    """Traffic ramps, swings fivefold or bursts, and latency and errors follow it in both slots."""
    kind, phase = chance.choice(("ramp", "day", "bursts")), chance.uniform(0, HOUR)
    busy = {t * LOOK for t in range(int(2 * HOUR / LOOK)) if chance.random() < 0.03}

    def rate(at: float) -> float:
        if kind == "ramp":
            return 0.3 + 2 * at / HOUR
        if kind == "day":
            return 1 + 0.667 * math.sin(2 * math.pi * (at + phase) / HOUR)
        return 8.0 if at in busy else 0.8

    return World(rate=rate, slower=lambda m: 0.25 * math.log(rate(m.at)))


def sticky(chance: random.Random, share: float = 0.25, /) -> World:
    """Clients stay in their slot: some ask for what is gone, some are limited, some send what is refused."""
    extras: dict[float, list[Extra]] = defaultdict(list)
    for _ in range(chance.randint(5, 20)):
        status, slot = chance.choice(("404", "429", "4xx", "3xx")), _slot(chance, share)
        _loop(chance, extras, slot, status, chance.uniform(30, 900), chance.uniform(1, 8))
    return World(others=lambda at: joined(extras[at]))


def looping(chance: random.Random, share: float = 0.25, /) -> World:
    """One client that fails tries again at once, for up to five minutes, in one slot."""
    extras: dict[float, list[Extra]] = defaultdict(list)
    status = chance.choice(("5xx", "503", "4xx", "429", "404"))
    _loop(chance, extras, _slot(chance, share), status, chance.uniform(10, 300), 1 / chance.uniform(1, 10))
    return World(others=lambda at: joined(extras[at]))


def robots(chance: random.Random, share: float = 0.25, /) -> World:
    """A robot asks for what is not there, 1 to 50 times a second, in its slot or in any."""
    extras: dict[float, list[Extra]] = defaultdict(list)
    rate, begin, length = chance.uniform(1, 50), chance.uniform(0, HOUR), chance.uniform(60, 1800)
    home = _slot(chance, share) if chance.random() < 0.5 else ""
    for second in range(int(begin), int(begin + length)):
        new = round(rate * share) if not home else round(rate) * (home == NEW)
        for slot, n in ((NEW, new), (OLD, round(rate) - new)):
            if n:
                extras[second // LOOK * LOOK].append((second, slot, "other", "404", n, 1))
    return World(others=lambda at: extras[at])


def _loop(
    chance: random.Random,
    extras: dict[float, list[Extra]],
    slot: str,
    status: str,
    length: float,
    every: float,
) -> None:
    begin, route = chance.uniform(0, HOUR - 60), chance.choice(list(ROUTES))
    mark = chance.randrange(MARKS)
    at = begin
    while (at := at + every * chance.uniform(0.7, 1.3)) < begin + length:
        extras[int(at) // LOOK * LOOK].append((int(at), slot, route, status, 1, mark))


def joined(extras: Iterable[Extra]) -> list[Extra]:
    """One client's requests of a second as one cell."""
    found: Counter[tuple[float, str, str, str, int]] = Counter()
    for second, slot, route, status, n, mark in extras:
        found[second, slot, route, status, mark] += n
    return [(*key[:4], n, key[4]) for key, n in found.items()]


def _slot(chance: random.Random, share: float) -> str:
    return NEW if chance.random() < share else OLD


HEALTHY: Mapping[str, Make] = {
    "nothing": quiet,
    "stalls of 1-30 s in both": stalls,
    "storm of 503s for 10-120 s in both": storms,
    "clumps of 2-20 from one client": clumps,
    "cold start to 120 s": cold,
    "latency wanders, AR(1) to sd 0.3": wandering,
    "ramps, day and night, bursts": tides,
    "sticky clients": sticky,
    "one client in a loop": looping,
    "robots": robots,
}


def answers(ratios: Mapping[str, float], begin: float = 0.0, route: str = "", both: bool = False) -> Make:
    """The new slot (or both) gives these statuses to such a part of the requests, of one route or all."""

    def statuses(m: Moment) -> Mapping[str, float]:
        is_hit = m.at >= begin and (both or m.slot == NEW) and route in ("", m.route)
        return ratios if is_hit else {}

    return lambda *_: World(statuses=statuses)


def slower(times: float, begin: float = 0.0, route: str = "", both: bool = False) -> Make:
    """The new slot (or both) takes so many times as long."""

    def shift(m: Moment) -> float:
        is_hit = m.at >= begin and (both or m.slot == NEW) and route in ("", m.route)
        return math.log(times) if is_hit else 0.0

    return lambda *_: World(slower=shift)


def tail(ratio: float, times: float) -> Make:
    """So many of the new slot's answers take so many times as long."""
    return lambda *_: World(tail=lambda m: (ratio, times) if m.slot == NEW else (0.0, 1.0))


def fewer(left: float, begin: float = 0.0, route: str = "", both: bool = False) -> Make:
    """Only so many of the requests come."""

    def arriving(m: Moment) -> float:
        is_hit = m.at >= begin and (both or m.slot == NEW) and route in ("", m.route)
        return left if is_hit else 1.0

    return lambda *_: World(arriving=arriving)


def unserved(a_minute: float, begin: float = 0.0, length: float = math.inf) -> Make:
    """So many requests get a 503 of HAProxy's own, for no slot had room for them."""

    def make(chance: random.Random, _: float = 0.25, /) -> World:
        def others(at: float) -> list[Extra]:
            if not begin <= at < begin + length:
                return []
            seconds = (int(at + LOOK * chance.random()) for _ in range(poisson(chance, a_minute * LOOK / 60)))
            return [(second, "", NOTE, "503", 1, chance.randrange(MARKS)) for second in seconds]

        return World(others=others)

    return make


def beside_robot(ratio: float) -> Make:
    """So many errors, beside a robot whose many fast 404s and answers look clean, in the new slot."""

    def others(at: float) -> list[Extra]:
        seconds = range(int(at), int(at + LOOK))
        return [(s, NEW, "other", "404", 50, 7) for s in seconds] + [
            (s, NEW, NOTE, "404", 20, 7) for s in seconds
        ]

    def statuses(m: Moment) -> Mapping[str, float]:
        return {"5xx": ratio} if m.slot == NEW else {}

    return lambda *_: World(statuses=statuses, others=others)


def limits_doubled(*_: Any) -> World:
    return World(
        usual={**USUAL, "429": 0.05},
        statuses=lambda m: {"429": 0.1} if m.slot == NEW else {},
    )


def errors_beside_503s(ratio: float) -> Make:
    """Errors in the new slot while both have 0.2 % of 503s."""
    return lambda *_: World(
        usual={**USUAL, "503": 0.002},
        statuses=lambda m: {"5xx": ratio} if m.slot == NEW else {},
    )
