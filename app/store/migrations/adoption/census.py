"""How many notes are there, expired or removed today, and what a purge would take."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from app.store.migrations.tables import UNIQUE, look
from app.worker.purge import GONE

# What is told while nothing is purged: what it would be, were it switched on.
EXAMPLE_DAYS = 30


def census(connection: Connection, purge_after_days: int | None) -> Mapping[str, Any]:
    """Count the notes; ``purge`` is what the first purge would delete for good, with so many days.

    Empty where no notes are; columns that are missing count as empty.
    """
    notes = look(connection, "notes")
    if not {"id", "text"} <= notes.types.keys():
        return {}
    columns = ", ".join(
        name if name in notes.types else f"NULL::timestamp AS {name}" for name in ("expires_at", "deleted_at")
    )
    source = f"(SELECT id, {columns} FROM notes) AS notes"
    counted = connection.execute(
        text(
            "SELECT count(*) AS notes, count(*) FILTER (WHERE deleted_at IS NOT NULL) AS removed,"
            " count(*) FILTER (WHERE deleted_at IS NULL AND expires_at <= timezone('utc', now())) AS expired"
            f" FROM {source}"
        )
    ).mappings()
    days = purge_after_days or EXAMPLE_DAYS
    gone = f"SELECT id FROM {source} WHERE {GONE % {'days': ':days'}}"
    would = {"notes": connection.execute(text(f"SELECT count(*) FROM ({gone}) AS gone"), {"days": days})}
    for log in UNIQUE:
        if "note_id" in look(connection, log).types:
            query = f"SELECT count(*) FROM {log} WHERE note_id IN ({gone})"
            would[log] = connection.execute(text(query), {"days": days})
    purge = {name: result.scalar_one() for name, result in would.items()}
    return {**counted.one(), "purge": {"is_on": purge_after_days is not None, "days": days, **purge}}
