"""Views as counted at the notes, held against the log of views: who counts otherwise is found as it happens.

Old notes may be off for reasons of long ago, so it is told what changes: what a note is off by when it is
first seen, and nothing for a note that is newer than the first look, is usual. A view that is queued is one
that is logged and will be counted. Of the newest notes only, and of none that is viewed too often to count.
"""

from typing import Any

import psycopg2

from checks.base.postgres import rows

LOOK_SECONDS = 20.0
NEWEST, REMEMBERED, MOST_VIEWS = 50, 200, 20_000
TABLES = "SELECT to_regclass('notes') IS NOT NULL AND to_regclass('view_log') IS NOT NULL AS there, "
TABLES += "to_regclass('view_queue') IS NOT NULL AS queued"
QUEUED = "SELECT note_id, count(*) AS views FROM view_queue GROUP BY note_id"
NO_QUEUE = "SELECT NULL::int AS note_id, 0 AS views WHERE false"
OFF = """
SELECT id, coalesce(notes.views, 0) + coalesce(q.views, 0)
           - (SELECT count(*) FROM view_log WHERE note_id = notes.id) AS off
FROM notes LEFT JOIN ({queued}) AS q ON q.note_id = notes.id
WHERE (id = ANY(%(known)s) OR id IN (SELECT id FROM notes ORDER BY id DESC LIMIT %(newest)s))
  AND coalesce(notes.views, 0) < %(most)s
"""


class Counted:
    """Remembers what each note was off by; ``off`` are those whose counts changed and their logs did not."""

    def __init__(self) -> None:
        self.off: list[int] = []
        self._usual: dict[int, int] = {}
        self._newest: int | None = None
        self._looked_at = -float("inf")

    def look(self, database: Any, at: float) -> list[int]:
        """Return ``off``, looking again when it is due; a look that takes too long changes nothing."""
        if at - self._looked_at >= LOOK_SECONDS:
            self._looked_at = at
            try:
                self._look(database)
            except psycopg2.errors.QueryCanceled:
                return self.off
        return self.off

    def _look(self, database: Any) -> None:
        (has,) = rows(database, TABLES)
        if not has["there"]:
            return
        sql = OFF.format(queued=QUEUED if has["queued"] else NO_QUEUE)
        asked = {"known": [*self._usual], "newest": NEWEST, "most": MOST_VIEWS}
        found = {row["id"]: int(row["off"]) for row in rows(database, sql, asked) if row["id"] is not None}
        if self._newest is None:
            self._newest = max(found, default=0)
        for note in found.keys() - self._usual.keys():
            self._usual[note] = found[note] if note <= self._newest else 0
        self.off = sorted(note for note, off in found.items() if off != self._usual[note])
        # Those that are off are not forgotten for newer ones.
        for note in sorted(self._usual.keys() - set(self.off))[:-REMEMBERED]:
            del self._usual[note]
