"""Prove that the rate limits are on: without a pass, the request after the last allowed one is a 429."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from checks.burst.outcomes import Booking, Visit
from checks.visitors.http_client import Door

# The contract's limits per client: the alias 5 in a minute, creating 1 in 10 s.
ALIAS_LIMIT = 5
CREATE_LIMIT = 1
LIMIT_WINDOW_SECONDS = 61


async def prove_limits(
    door: Door, booking: Booking, note_id: str, sleep: Callable[[float], Awaitable[None]]
) -> dict[str, Any]:
    """Count what gets through a rate limit without a pass: of the alias, or of creating if that is off.

    A limiter's window that ended between two requests would let more through, once; so too many are tried
    again in a window of their own.
    """

    async def alias() -> int | None:
        return await _unlifted_view(door, booking, note_id)

    async def create() -> int | None:
        body = {"text": "A burst was here, without a pass"}
        return (await door.ask("POST", "/api/notes", body=body)).status

    proof = await _until_limited("POST /api/view", ALIAS_LIMIT, 200, alias, sleep)
    if set(proof["statuses"]) == {404}:
        proof = await _until_limited("POST /api/notes", CREATE_LIMIT, 201, create, sleep)
    return proof


async def _until_limited(
    route: str,
    limit: int,
    expected: int,
    ask: Callable[[], Awaitable[int | None]],
    sleep: Callable[[float], Awaitable[None]],
) -> dict[str, Any]:
    statuses: list[int | None] = []
    for attempt in range(2):
        statuses = []
        while len(statuses) <= limit and 429 not in statuses:
            statuses.append(await ask())
        if attempt or set(statuses) != {expected}:
            break
        await sleep(LIMIT_WINDOW_SECONDS)
    passed = sum(status != 429 for status in statuses)
    return {"route": route, "limit": limit, "expected": expected, "passed": passed, "statuses": statuses}


async def _unlifted_view(door: Door, booking: Booking, note_id: str) -> int | None:
    visit = Visit("view", note_id, f"burst-{secrets.token_hex(8)}")
    answer = await door.ask("POST", f"/api/view?id={note_id}", {"X-Author-Fp": visit.fingerprint})
    if answer.status == 200:
        booking.set(visit, "accepted")
    elif answer.status is None or answer.status >= 500:
        booking.set(visit, "unknown")
    return answer.status
