"""What the database holds of a note's views: its counter, its rows in the log, and what is still queued."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from checks.base.postgres import rows

# One statement, so one snapshot: the three numbers belong to the same moment.
COUNT = """
SELECT asked.id::text AS id, n.views,
       (SELECT count(*) FROM view_log l WHERE l.note_id = asked.id) AS logged,
       {queued} AS queued
FROM unnest(%(ids)s::int[]) AS asked (id) LEFT JOIN notes n ON n.id = asked.id
"""
QUEUED = "(SELECT count(*) FROM view_queue q WHERE q.note_id = asked.id)"


@dataclass(frozen=True)
class Counted:
    """What the database holds of one note; ``views`` is None if the note is not there."""

    views: int | None
    logged: int
    queued: int


def count(connection: Any, ids: Iterable[str]) -> dict[str, Counted]:
    """Read every note's counter, log rows and queued views in one snapshot."""
    (queue,) = rows(connection, "SELECT to_regclass('view_queue') IS NOT NULL AS is_there")
    query = COUNT.format(queued=QUEUED if queue["is_there"] else "0")
    found = rows(connection, query, {"ids": [int(note_id) for note_id in ids]})
    return {row.pop("id"): Counted(**row) for row in found}
