"""A target's front door as a visitor sees it: one request, one answer, never an exception."""

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from checks.base.errors import error_text
from checks.visitors.limit_pass import HEADER, Pass

# Shorter than any server keeps an idle connection, so that a request never meets one being closed.
KEEPALIVE_SECONDS = 2.0


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
    """The base URL of a target, and the pass that lifts its rate limits (None: none is shown)."""

    base_url: str
    session: aiohttp.ClientSession
    rehearsal: Pass | None
    now: Callable[[], float] = time.time

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> Answer:
        """Send one request; connection errors and timeouts are answers too."""
        sent = dict(headers or {})
        if self.rehearsal is not None:
            sent[HEADER] = self.rehearsal.header(self.now())
        try:
            async with self.session.request(
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


def session(timeout_seconds: float) -> aiohttp.ClientSession:
    """Make a session for a door: no cookies, no limit on connections; to be closed by the caller."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


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
