"""Views as counted at the notes, held against the log of views: who counts otherwise is found as it happens.

Old notes may be off for reasons of long ago, so it is told what changes: what a note is off by when it is
first seen, and nothing for a note that is newer than the first look, is usual. A view that is queued is one
that is logged and will be counted. Of the newest notes only, and of none that is viewed too often to count.
"""

import contextlib
from typing import Any

import psycopg2

from checks.base.postgres import rows
from checks.base.view_counts import count

LOOK_SECONDS = 20.0
NEWEST, REMEMBERED, MOST_VIEWS = 50, 200, 20_000
TABLES = "SELECT to_regclass('notes') IS NOT NULL AND to_regclass('view_log') IS NOT NULL AS there"
LOOKED_AT = """
SELECT id::text FROM notes
WHERE (id = ANY(%(known)s) OR id IN (SELECT id FROM notes ORDER BY id DESC LIMIT %(newest)s))
  AND coalesce(views, 0) < %(most)s
"""


class CountWatch:
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
            with contextlib.suppress(psycopg2.errors.QueryCanceled):
                self._look(database)
        return self.off

    def _look(self, database: Any) -> None:
        (tables,) = rows(database, TABLES)
        if not tables["there"]:
            return
        asked = {"known": [*self._usual], "newest": NEWEST, "most": MOST_VIEWS}
        counted = count(database, [row["id"] for row in rows(database, LOOKED_AT, asked) if row["id"]])
        found = {
            int(note): (has.views or 0) + has.queued - has.logged
            for note, has in counted.items()
            if has.views is not None or has.logged  # one that is gone meanwhile has neither
        }
        if self._newest is None:
            self._newest = max(found, default=0)
        for note in found.keys() - self._usual.keys():
            self._usual[note] = found[note] if note <= self._newest else 0
        self.off = sorted(note for note, off in found.items() if off != self._usual[note])
        # Those that are off are not forgotten for newer ones.
        for note in sorted(self._usual.keys() - set(self.off))[:-REMEMBERED]:
            del self._usual[note]
