"""Prove that the rate limits are on: without a pass, the request after the last allowed one is a 429."""

import secrets
from collections.abc import Awaitable, Callable

import msgspec

from checks.base.validation import Count
from checks.burst.outcomes import Outcomes, Visit
from checks.visitors.http_client import Door

# The contract's limits per client: the alias 5 in a minute, creating 1 in 10 s.
ALIAS, ALIAS_LIMIT = "POST /api/view", 5
CREATE, CREATE_LIMIT = "POST /api/notes", 1
LIMIT_WINDOW_SECONDS = 61


class LimitProof(msgspec.Struct):
    """How many of the requests without a pass a route let through, of at most ``limit``."""

    route: str
    limit: Count
    expected: Count
    passed: Count
    statuses: list[Count | None]


async def prove_limits(
    door: Door, outcomes: Outcomes, note_id: str, sleep: Callable[[float], Awaitable[None]]
) -> LimitProof:
    """Count what gets through a rate limit without a pass: of the alias, or of creating if that is off.

    A limiter's window that ended between two requests would let more through, once; so too many are tried
    again in a window of their own.
    """

    async def alias() -> int | None:
        visit = Visit("view", note_id, f"burst-{secrets.token_hex(8)}")
        answer = await door.ask("POST", f"/api/view?id={note_id}", {"X-Author-Fp": visit.fingerprint})
        if answer.status is None or answer.status >= 500:
            outcomes.record_outcome(visit, "unknown")
        elif answer.status == 200:
            outcomes.record_outcome(visit, "accepted")
        return answer.status

    async def create() -> int | None:
        body = {"text": "A burst was here, without a pass"}
        return (await door.ask("POST", "/api/notes", body=body)).status

    async def until_limited(route: str, limit: int, expected: int) -> LimitProof:
        statuses: list[int | None] = []
        for attempt in range(2):
            statuses = []
            while len(statuses) <= limit and 429 not in statuses:
                statuses.append(await (create if route == CREATE else alias)())
            if attempt or set(statuses) != {expected}:
                break
            await sleep(LIMIT_WINDOW_SECONDS)
        return LimitProof(route, limit, expected, sum(s != 429 for s in statuses), statuses)

    proof = await until_limited(ALIAS, ALIAS_LIMIT, 200)
    return await until_limited(CREATE, CREATE_LIMIT, 201) if set(proof.statuses) == {404} else proof
