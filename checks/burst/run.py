"""Fire a burst and write down what happened; what it means is for ``checks.burst.judge`` to say.

Everything measured is plain JSON, so that it can be kept and judged again.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from checks.base import pgbouncer
from checks.base.errors import CannotMeasure
from checks.base.postgres import connected
from checks.burst import connection_peaks, deadlock_counts, like_counts, postgres_log, shapes, volley
from checks.burst.outcomes import KINDS, Outcomes, outcome
from checks.burst.rate_limit_proof import prove_limits
from checks.visitors import view_counts
from checks.visitors.http_client import Answer, Door, sessions
from checks.visitors.limit_pass import HEADER, Pass

# A busy machine may be interrupted while it fires; then it fires again, and everything it fired counts.
ATTEMPTS = 8
DAY_SECONDS = 86_400
MIDNIGHT_SECONDS = 30


@dataclass(frozen=True)
class BurstPlan:
    """What to fire at, and how much. The DSNs and the pass hold secrets and are kept nowhere."""

    base_url: str
    target: str
    levels: tuple[int, ...]
    rounds: int
    shapes: tuple[str, ...]
    visitors: tuple[str, ...]
    instances: tuple[str, ...]
    timeout_seconds: float
    settle_seconds: float
    drain_seconds: float
    postgres_log: Path | None
    database: str = field(repr=False)
    console: str | None = field(repr=False)
    shown: Pass = field(repr=False)

    @property
    def salvos(self) -> list[tuple[int, str, str]]:
        """What is fired in turn: how many requests, in which shape, by which visitors."""
        return shapes.salvos(self.levels, self.rounds, self.shapes, self.visitors)

    def inputs(self) -> dict[str, Any]:
        """What was asked for, without the secrets."""
        kept = "base_url target levels rounds shapes visitors instances timeout_seconds"
        return {name: getattr(self, name) for name in kept.split()}


@dataclass
class Firing:
    """A burst under way: where it fires, what came of it, and the clock it goes by."""

    plan: BurstPlan
    outcomes: Outcomes
    say: Callable[[str], None]
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def salvos(self, notes: Sequence[str]) -> list[dict[str, Any]]:
        """Fire every level in every shape, as often as planned."""
        fired: list[dict[str, Any]] = []
        for salvo, (level, shape, visitors) in enumerate(self.plan.salvos, 1):
            for _ in range(ATTEMPTS):
                fired.append({"salvo": salvo, **await self.shoot(notes, level, shape, visitors)})
                if fired[-1]["in_flight_peak"] == level:
                    break
        return fired

    async def shoot(self, notes: Sequence[str], level: int, shape: str, visitors: str) -> dict[str, Any]:
        """Fire ``level`` requests at one moment and book what they did."""
        await avoid_midnight(self.now, self.sleep)
        visits = shapes.visits(notes, level, shape, visitors, secrets.token_hex(6))
        headers = {HEADER: self.plan.shown.header(self.now())}
        text = json.dumps({"text": "A burst was here", "ttl_hours": 168}).encode()
        shots = [
            volley.Shot(
                shapes.path(visit),
                {**headers, "X-Author-Fp": visit.fingerprint},
                text if visit.kind == "create" else b"",
            )
            for visit in visits
        ]
        fired = await asyncio.to_thread(volley.fire, self.plan.base_url, shots, self.plan.timeout_seconds)
        self.outcomes.record(visits, fired.hits)
        together = f"{fired.in_flight_peak} in flight together"
        self.say(f"{level} at once, {shape}, {visitors} visitors: {together}")
        return {
            "level": level,
            "shape": shape,
            "visitors": visitors,
            "in_flight_peak": fired.in_flight_peak,
            "write_ms": round(fired.write_milliseconds, 3),
            "hits": [
                (h.status, round(h.milliseconds, 3), h.error or outcome(h, v.kind), h.release, v.kind)
                for v, h in zip(visits, fired.hits, strict=True)
            ],
        }


async def fire(plan: BurstPlan, say: Callable[[str], None]) -> dict[str, Any]:
    """Fire every volley of a plan; raises CannotMeasure if the target or the database does not answer."""
    firing = Firing(plan, Outcomes(), say)
    with connected(plan.database) as connection:
        began = connection_peaks.moment()
        log = postgres_log.mark(connection, plan.postgres_log)
        async with sessions(plan.timeout_seconds) as http:
            door = Door(plan.base_url, http, plan.shown)
            notes = [await create_note(door) for _ in range(shapes.SPREAD_NOTES + 1)]
            for note_id in notes:
                firing.outcomes.open(note_id)
            before = await count(plan, connection)
            with connection_peaks.watching(plan.database, plan.console) as seen:
                volleys = await firing.salvos(notes)
            limits = await prove_limits(
                Door(plan.base_url, http, None), firing.outcomes, notes[0], firing.sleep
            )
        say(f"waiting {plan.settle_seconds:g} s for Postgres to publish its statistics")
        await firing.sleep(plan.settle_seconds)
        after = await count(plan, connection)
        ids = firing.outcomes.note_ids
        measured = {
            "began": began,
            "instances": plan.instances,
            "planned": plan.salvos,
            "volleys": volleys,
            "limits": limits,
            "before": before,
            "after": after,
            "peaks": seen,
            "booked": {kind: firing.outcomes.of(kind) for kind in KINDS if kind != "create"},
            "counted": view_counts.wait_drained(connection, ids, plan.drain_seconds),
            "settings": {**connection_peaks.settings(connection), **pooler_settings(plan)},
            "log": postgres_log.since(connection, log),
            "tallied": like_counts.tally(connection, ids) if "mix" in plan.shapes else {},
            "ended": connection_peaks.moment(),
        }
        return dict(msgspec.to_builtins(measured))


def pooler_settings(plan: BurstPlan) -> dict[str, Any]:
    """What the pooler allows, if its console is known."""
    if plan.console is None:
        return {}
    with pgbouncer.console(plan.console) as console:
        return pgbouncer.allowed(console)


async def count(plan: BurstPlan, connection: Any) -> dict[str, Any]:
    instances = await deadlock_counts.scrape(plan.instances)
    return {"database": deadlock_counts.database_count(connection), "instances": instances}


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


async def avoid_midnight(now: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
    """Wait for the next UTC day if it is close: a duplicate on both sides of it would be two views."""
    left = DAY_SECONDS - now() % DAY_SECONDS
    if left < MIDNIGHT_SECONDS:
        await sleep(left + 1)
