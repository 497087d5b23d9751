"""When to send: an open loop, so that a slow server cannot slow the measurement of itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

# How long a stop may go unnoticed.
NOTICE_SECONDS = 0.2


@dataclass(frozen=True)
class Pacer:
    """Yields the moments at which requests are due, ``rate`` per second, whatever became of those before.

    Latency is to be measured from the moment yielded, not from when the request got away: a request that
    had to wait for its turn was late for its visitor too (no coordinated omission).
    """

    rate: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def due(self, stop: asyncio.Event, seconds: float | None = None) -> AsyncIterator[float]:
        """Yield due moments of ``clock`` until ``stop`` is set or ``seconds`` have gone by."""
        start = self.clock()
        sent = 0
        while not stop.is_set():
            moment = start + sent / self.rate
            if seconds is not None and moment - start >= seconds:
                return
            wait = moment - self.clock()
            if wait > 0:
                await self.sleep(min(wait, NOTICE_SECONDS))
                continue
            sent += 1
            yield moment
            await self.sleep(0)
