"""Everything that stands in the way, at once: each question in a short read-only transaction of its own.

One question that cannot be answered keeps no other from being asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from app.store.migrations.adoption import code, rows, strangers
from app.store.migrations.adoption.census import census
from app.store.migrations.adoption.obstacle import Obstacle, Weight
from app.store.migrations.adoption.stopping import STOPPING, Finder
from app.store.retry import sqlstate

STATEMENT_SECONDS = 60.0
# Somebody may hold a table for long; who waits behind makes others wait.
LOCK_SECONDS = 2.0
LONGEST_VALUE = 200
NO_ROOM = "53100"

OTHERS: tuple[Finder, ...] = (
    strangers.only_others,
    code.triggers,
    code.rules,
    code.foreign_keys,
    rows.new_ids,
    rows.without_values,
    rows.orphans,
    code.functions,
    strangers.strays,
)


def look(engine: Engine, purge_after_days: int | None) -> Mapping[str, Any]:
    """Return every obstacle, what could not be looked at, and the notes that are there, as JSON values."""
    found: list[Obstacle] = []
    unseen: list[Mapping[str, str]] = []
    notes: Mapping[str, Any] = {}
    with engine.connect().execution_options(postgresql_readonly=True) as connection:
        for find in (*STOPPING, *OTHERS):
            try:
                found += _asked(connection, lambda find=find: list(find(connection)))  # type: ignore[misc]
            except DBAPIError as error:
                found += told_by(error)
                unseen.append(_unseen(find.__name__, error))
        try:
            notes = _asked(connection, lambda: census(connection, purge_after_days))
        except DBAPIError as error:
            unseen.append(_unseen("census", error))
    return {"obstacles": [_shown(obstacle) for obstacle in found], "not_seen": unseen, "notes": notes}


def _asked(connection: Connection, ask: Callable[[], Any]) -> Any:
    with connection.begin():
        # Only for this transaction: behind a pooler the connection is somebody else's next.
        connection.exec_driver_sql(
            f"SET LOCAL statement_timeout = {STATEMENT_SECONDS * 1000:.0f};"
            f"SET LOCAL lock_timeout = {LOCK_SECONDS * 1000:.0f}"
        )
        return ask()


def told_by(error: DBAPIError) -> list[Obstacle]:
    """What the failure of a question is itself a sign of."""
    if sqlstate(error) != NO_ROOM:
        return []
    mend = "make room where Postgres keeps its data; on the server: df -h"
    said = f"the server has no room to work in: {_first_line(error)}"
    return [Obstacle("no_room", Weight.STOPS, said, mend)]


def _unseen(what: str, error: DBAPIError) -> Mapping[str, str]:
    return {"what": what, "error": _first_line(error)}


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


def _shown(obstacle: Obstacle) -> Mapping[str, Any]:
    cut = [{name: _cut(value) for name, value in row.items()} for row in obstacle.rows]
    return {**asdict(obstacle), "rows": cut}


def _cut(value: Any) -> Any:
    text = value if isinstance(value, int | None) else str(value)
    return f"{text[:LONGEST_VALUE]}…" if isinstance(text, str) and len(text) > LONGEST_VALUE else text
