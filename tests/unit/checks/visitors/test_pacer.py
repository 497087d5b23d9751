"""Requests are due at their rate, whatever became of those before."""

import asyncio
from collections.abc import Awaitable, Callable

from checks.visitors.pacer import Pacer


class Time:
    """A clock that only sleeping advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def paced(time: Time, seconds: float, busy: Callable[[], Awaitable[None]]) -> list[float]:
    async def run() -> list[float]:
        moments = []
        async for due in Pacer(10, time.clock, time.sleep).due(asyncio.Event(), seconds):
            moments.append(round(due - 100, 6))
            await busy()
        return moments

    return asyncio.run(run())


def test_the_pacer_keeps_its_rate() -> None:
    async def idle() -> None:
        return

    assert paced(Time(), 1, idle) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_a_pacer_held_up_catches_up_and_still_says_when_each_was_due() -> None:
    time = Time()

    async def slow() -> None:
        time.now += 0.35

    assert paced(time, 1, slow) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_a_stopped_pacer_stops() -> None:
    async def run() -> int:
        stop, sent = asyncio.Event(), 0
        async for _ in Pacer(1000).due(stop):
            sent += 1
            if sent == 3:
                stop.set()
        return sent

    assert asyncio.run(run()) == 3
