"""Who holds the lock that a session waits for, told without the values in anybody's query."""

import re
import threading
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

LONGEST_QUERY = 200
LOOK_SECONDS = 0.05
# Where quoting is hard to follow, what comes after it may be a value.
UNCLEAR = r"""\\|--|/\*|\$[A-Za-z_]*\$|"[^"]*'"""
FROM_UNCLEAR = r"""('|--|/\*|\$[A-Za-z_]*\$|"[^"]*').*"""

# Parallel workers are told by their leader, and a prepared transaction, pid 0, has no session.
SELECT_HOLDERS = """
SELECT DISTINCT ON (xact_start, pid) pid, usename AS user, application_name AS application,
       backend_type AS kind, state, to_char(timezone('utc', xact_start), 'YYYY-MM-DD HH24:MI:SS') AS since,
       query, (SELECT mode || ' on ' || coalesce(relation::regclass::text, locktype) FROM pg_locks
               WHERE pg_locks.pid = %(waiting)s AND NOT granted LIMIT 1) AS wanted
FROM unnest(pg_blocking_pids(%(waiting)s)) AS holder (pid) LEFT JOIN pg_stat_activity USING (pid)
ORDER BY xact_start, pid
"""
# Postgres's own words for what a role may not see.
HIDDEN = "<insufficient privilege>"


@dataclass(frozen=True)
class Holder:
    """A session in the way: ``since`` is when its transaction began, in UTC; ``wanted`` is what waits for it.

    What the server does not tell is empty; ``pid`` 0 is a prepared transaction. ``query`` has no values.
    """

    pid: int
    user: str
    application: str
    kind: str
    state: str
    since: str
    query: str
    wanted: str

    def __str__(self) -> str:
        if not self.pid:
            return "a prepared transaction (SELECT * FROM pg_prepared_xacts)"
        kind = self.kind.replace("client backend", "")
        named = ", ".join(filter(None, (self.user, self.application, kind)))
        began = f" since {self.since} UTC" if self.since else ""
        doing = f", {self.state}" if self.state else ""
        return f"pid {self.pid} ({named}){began}{doing}: {self.query or 'its query is not ours to see'}"


class LockWatch:
    """Look whom a session waits for, again and again while the block runs; ``holders`` were seen last."""

    def __init__(self, engine: Engine) -> None:
        self.holders: tuple[Holder, ...] = ()
        self._engine = engine
        self._waiting = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def watch(self, waiting: int) -> None:
        """Watch a backend from now on."""
        self._waiting = waiting

    def __enter__(self) -> "LockWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look_on(self) -> None:
        try:
            with self._engine.connect() as connection:
                while not self._stop.wait(LOOK_SECONDS):
                    rows = connection.exec_driver_sql(SELECT_HOLDERS, {"waiting": self._waiting})
                    self.holders = tuple(map(_holder, rows)) or self.holders
        except SQLAlchemyError:
            return  # It would be good to know who; the migration does not depend on it.


def told(holders: tuple[Holder, ...]) -> str:
    """Say what is wanted and who has it, the one that began first before the others."""
    if not holders:
        return "a lock is held, and nobody was seen to hold it"
    first, *others = holders
    more = f", and {len(others)} more" if others else ""
    return f"{first.wanted or 'a lock'} is held by {first}{more}"


def shown(query: str) -> str:
    """Return a query in one line of at most 200 characters, without the values in it.

    The rules are those of the evidence collector: where it is not clear what is a value, the rest goes.
    """
    if re.search(UNCLEAR, query) or query.count("'") % 2:
        query = re.sub(FROM_UNCLEAR, "…", query, flags=re.DOTALL)
    else:
        query = re.sub(r"'[^']*'", "'?'", query)
    return " ".join(re.sub(r"(?<![$\w])\d+(\.\d+)?", "?", query).split())[:LONGEST_QUERY]


def _holder(row: Any) -> Holder:
    found = {name: value or "" for name, value in row._mapping.items() if name != "pid"}
    query = "" if found["query"] == HIDDEN else shown(found["query"])
    return Holder(row.pid or 0, **{**found, "query": query})
