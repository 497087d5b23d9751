"""Fire a burst and write down what happened; what it means is for ``checks.burst`` to say.

Everything measured is plain JSON, so that it can be kept and judged again.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from checks import counters, statistics, volley
from checks.database import connected
from checks.door import Answer, Door, session
from checks.errors import CannotMeasure
from checks.rehearsal import HEADER, Pass

SPREAD_NOTES = 10
# A busy machine may be interrupted while it fires; then it fires again, and everything it fired counts.
ATTEMPTS = 4
TOGETHER = 0.95
# How many requests share a fingerprint in a volley of duplicates.
DUPLICATES = 4
# The contract's limits per client: the alias 5 in a minute, creating 1 in 10 s.
ALIAS_LIMIT = 5
CREATE_LIMIT = 1
LIMIT_WINDOW_SECONDS = 61
DAY_SECONDS = 86_400
MIDNIGHT_SECONDS = 30
SHAPES = tuple((notes, visitors) for notes in ("hot", "spread") for visitors in ("distinct", "duplicate"))


@dataclass(frozen=True)
class Plan:
    """What to fire at, and how much. ``database`` and the pass hold secrets and are kept nowhere."""

    base_url: str
    target: str
    levels: tuple[int, ...]
    rounds: int
    instances: tuple[str, ...]
    timeout_seconds: float
    settle_seconds: float
    drain_seconds: float
    database: str = field(repr=False)
    shown: Pass = field(repr=False)

    def inputs(self) -> dict[str, Any]:
        """What was asked for, without the secrets."""
        kept = ("base_url", "target", "levels", "rounds", "instances", "timeout_seconds")
        return {name: getattr(self, name) for name in kept}


@dataclass
class Booking:
    """The ledger of a burst: per note, the visitors whose view was accepted or may have been."""

    notes: dict[str, dict[str, int]] = field(default_factory=dict)

    def book(self, note_id: str, outcomes: Sequence[str]) -> None:
        """Book the outcomes of all requests of one visitor to one note, as one view at most."""
        views = self.notes.setdefault(note_id, {"accepted": 0, "unknown": 0})
        for outcome in ("accepted", "unknown"):
            if outcome in outcomes:
                views[outcome] += 1
                return


@dataclass
class Firing:
    """A burst under way: where it fires, what it has booked, and the clock it goes by."""

    plan: Plan
    booking: Booking
    say: Callable[[str], None]
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def salvos(self, notes: Sequence[str]) -> list[dict[str, Any]]:
        """Fire every level in every shape, as often as planned."""
        fired: list[dict[str, Any]] = []
        salvo = 0
        for level in self.plan.levels:
            for where, who in SHAPES * self.plan.rounds:
                salvo += 1
                for _ in range(ATTEMPTS):
                    fired.append({"salvo": salvo, **await self.shoot(notes, level, where, who)})
                    if fired[-1]["in_flight_peak"] >= level * TOGETHER:
                        break
        return fired

    async def shoot(self, notes: Sequence[str], level: int, where: str, who: str) -> dict[str, Any]:
        """Fire ``level`` requests at one moment and book their views."""
        await avoid_midnight(self.now, self.sleep)
        crowd = secrets.token_hex(6)
        # All requests of one visitor go to one note, so that the duplicates meet there.
        numbers = [i if who == "distinct" else i // DUPLICATES for i in range(level)]
        visitors = [(aim(notes, where, number), f"burst-{crowd}-{number}") for number in numbers]
        headers = {HEADER: self.plan.shown.header(self.now())}
        shots = [
            volley.Shot(f"/api/notes/{note_id}/view", {**headers, "X-Author-Fp": fingerprint})
            for note_id, fingerprint in visitors
        ]
        fired = await volley.fire(self.plan.base_url, shots, self.plan.timeout_seconds)
        self.book(visitors, fired.hits)
        together = f"{fired.in_flight_peak} in flight together"
        self.say(f"{level} at once, {where} notes, {who} visitors: {together}")
        return {
            "level": level,
            "notes": where,
            "visitors": who,
            "in_flight_peak": fired.in_flight_peak,
            "write_ms": round(fired.write_milliseconds, 3),
            "hits": [
                [hit.status, round(hit.milliseconds, 3), hit.error or outcome(hit), hit.release]
                for hit in fired.hits
            ],
        }

    def book(self, visitors: Sequence[tuple[str, str]], hits: Sequence[volley.Hit]) -> None:
        outcomes: dict[tuple[str, str], list[str]] = {}
        for visitor, hit in zip(visitors, hits, strict=True):
            outcomes.setdefault(visitor, []).append(outcome(hit))
        for (note_id, _), of_visitor in outcomes.items():
            self.booking.book(note_id, of_visitor)


async def fire(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Fire every volley of a plan; raises CannotMeasure if the target or the database does not answer."""
    firing = Firing(plan, Booking(), say)
    booked = firing.booking.notes
    with connected(plan.database) as connection:
        async with session(plan.timeout_seconds) as http:
            door = Door(plan.base_url, http, plan.shown)
            notes = [await create_note(door) for _ in range(SPREAD_NOTES + 1)]
            booked |= {note_id: {"accepted": 0, "unknown": 0} for note_id in notes}
            before = await count(plan, connection)
            volleys = await firing.salvos(notes)
            limits = await prove_limits(
                Door(plan.base_url, http, None), firing.booking, notes[0], firing.sleep
            )
        say(f"waiting {plan.settle_seconds:g} s for Postgres to publish its statistics")
        await firing.sleep(plan.settle_seconds)
        after = await count(plan, connection)
        held = counters.settle(connection, list(booked), plan.drain_seconds)
    return {
        "volleys": volleys,
        "limits": limits,
        "before": before,
        "after": after,
        "notes": booked,
        "counted": {note_id: asdict(counted) for note_id, counted in held.items()},
    }


async def count(plan: Plan, connection: Any) -> dict[str, Any]:
    instances = await statistics.scrape(plan.instances)
    return {"database": statistics.database_count(connection), "instances": instances}


async def create_note(door: Door) -> str:
    """Create a note to fire at; raises CannotMeasure, saying why, if the service does not."""
    answer = await door.ask("POST", "/api/notes", body={"text": "A burst was here", "ttl_hours": 168})
    if answer.status == 201 and isinstance(answer.body, dict) and isinstance(answer.body.get("id"), int):
        return str(answer.body["id"])
    raise CannotMeasure(f"{door.base_url} creates no note: {reason(answer)}")


def reason(answer: Answer) -> str:
    """Say what is wrong with an answer that should have been a note."""
    if answer.status is None:
        return f"{answer.error}. Is the target up?"
    if answer.status == 429:
        return "429, although a pass was shown. P12_REHEARSAL_SECRET or --target is not this target's."
    if answer.body is None:
        return f"{answer.status} without JSON. Is this the service's front door?"
    return f"{answer.status} {json.dumps(answer.body)[:200]}. See the service's log."


def aim(notes: Sequence[str], where: str, visitor: int) -> str:
    """The note that a visitor views: the first, or one of the others in turn."""
    return notes[0] if where == "hot" else notes[1 + visitor % SPREAD_NOTES]


def outcome(hit: volley.Hit) -> str:
    """Say of a view whether it was accepted, certainly not, or nobody knows."""
    if hit.status == 200:
        try:
            body = json.loads(hit.body)
        except ValueError:
            return "unknown"
        return "accepted" if isinstance(body, dict) and body.get("ok") is True else "unknown"
    return "unknown" if hit.status is None or not 400 <= hit.status < 500 else "refused"


async def avoid_midnight(now: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
    """Wait for the next UTC day if it is close: a duplicate on both sides of it would be two views."""
    left = DAY_SECONDS - now() % DAY_SECONDS
    if left < MIDNIGHT_SECONDS:
        await sleep(left + 1)


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
    headers = {"X-Author-Fp": f"burst-{secrets.token_hex(8)}"}
    answer = await door.ask("POST", f"/api/view?id={note_id}", headers)
    if answer.status == 200:
        booking.book(note_id, ["accepted"])
    elif answer.status is None or answer.status >= 500:
        booking.book(note_id, ["unknown"])
    return answer.status
