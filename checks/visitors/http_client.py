"""A target's front door as a visitor sees it: one request, one answer, never an exception."""

import asyncio
import contextlib
import ipaddress
import json
import random
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from checks.base.errors import error_text
from checks.visitors.limit_pass import HEADER, Pass

# Shorter than any server keeps an idle connection, so that a request never meets one being closed.
KEEPALIVE_SECONDS = 2.0
# Over loopback visitors come from so many addresses, as they do from outside: whose trouble it was is told by
# the address.
LOOPBACK_ADDRESSES = tuple(f"127.0.1.{number}" for number in range(1, 97))


@dataclass(frozen=True)
class Answer:
    """What came back. ``status`` is None and ``error`` says why when nothing did; ``body`` is parsed JSON."""

    status: int | None
    error: str = ""
    release: str | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Door:
    """The base URL of a target, and the pass that lifts its rate limits (None: none is shown).

    Each request goes out by one of the ``sessions``, which are visitors' connections: by chance, as in turn
    each visitor would always meet the same slot of two that are balanced in turn.
    """

    base_url: str
    sessions: Sequence[aiohttp.ClientSession]
    rehearsal: Pass | None
    now: Callable[[], float] = time.time
    chance: random.Random = field(default_factory=random.Random)

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> Answer:
        """Send one request; connection errors and timeouts are answers too."""
        sent = dict(headers or {})
        if self.rehearsal is not None:
            sent[HEADER] = self.rehearsal.header(self.now())
        try:
            async with self.chance.choice(self.sessions).request(
                method, f"{self.base_url}{path}", headers=sent, json=body, allow_redirects=False
            ) as response:
                text = await response.read()
                parsed = _parsed(text) if response.content_type == "application/json" else None
                release = response.headers.get("X-P12-Release")
                return Answer(response.status, "", release, parsed, response.headers)
        except TimeoutError:
            return Answer(None, "timeout")
        except (aiohttp.ClientError, OSError) as error:
            return Answer(None, error_text(error))


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


@contextlib.asynccontextmanager
async def sessions(
    timeout_seconds: float, sources: Sequence[str] = ()
) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """Make a door's sessions, one for each source address, or one that comes from anywhere.

    They know no cookies and no limit on connections.
    """
    async with contextlib.AsyncExitStack() as made:
        yield [
            await made.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        limit=0,
                        keepalive_timeout=KEEPALIVE_SECONDS,
                        local_addr=(source, 0) if source else None,
                    ),
                    timeout=aiohttp.ClientTimeout(total=timeout_seconds),
                    cookie_jar=aiohttp.DummyCookieJar(),
                )
            )
            for source in sources or (None,)
        ]


def loopback_sources(base_url: str) -> Sequence[str]:
    """The addresses that visitors of this URL come from: none of our choice unless it is an IPv4 loopback."""
    try:
        if not ipaddress.IPv4Address(urlsplit(base_url).hostname or "").is_loopback:
            return ()
        for source in LOOPBACK_ADDRESSES:
            with socket.socket() as probe:
                probe.bind((source, 0))
    except (ValueError, OSError):
        return ()
    return LOOPBACK_ADDRESSES


async def opened(door: Door, stop: asyncio.Event, pause_seconds: float = 0.5) -> bool:
    """Wait until the door answers its health check; False if ``stop`` was set first."""
    while not stop.is_set():
        if (await door.ask("GET", "/api/health")).status == 200:
            return True
        try:
            await asyncio.wait_for(stop.wait(), pause_seconds)
        except TimeoutError:
            continue
    return False


def allow_many_connections() -> None:
    """Lift the limit on open files: a hung server keeps every request open until its timeout."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
