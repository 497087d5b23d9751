"""Look at Postgres and the pooler again and again while a burst is under way; keep what was seen."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from checks.base import pgbouncer
from checks.base.errors import CannotMeasure, error_text
from checks.base.postgres import connected, rows
from checks.base.validation import Count

LOOK_SECONDS = 0.05
# One statement: the backends of all databases, since max_connections counts them all, and blocked locks.
LOOK = """
SELECT (SELECT sum(numbackends)::int FROM pg_stat_database WHERE datid <> 0) AS postgres_connections,
       (SELECT count(*) FROM pg_locks WHERE NOT granted) AS blocked_locks
"""
SETTINGS = ("max_connections", "superuser_reserved_connections")


class Peaks(msgspec.Struct):
    """How often was looked so far, and the most of each number; ``error`` says why it ended early."""

    looks: Count
    most: dict[str, Count]
    error: str

    def add(self, **numbers: int) -> None:
        for name, number in numbers.items():
            self.most[name] = max(number, self.most.get(name, 0))


def settings(connection: Any) -> dict[str, int]:
    """How many connections Postgres takes, and keeps for its superuser."""
    query = "SELECT name, setting::int FROM pg_settings WHERE name = ANY(%s)"
    return {row["name"]: row["setting"] for row in rows(connection, query, [list(SETTINGS)])}


@contextlib.contextmanager
def watching(database: str, console: str | None) -> Iterator[Peaks]:
    """Look at a database and, if its console's DSN is known, at the pooler, while the block lasts."""
    seen, stop = Peaks(0, {}, ""), threading.Event()
    thread = threading.Thread(target=_look, args=(database, console, stop, seen), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def _look(database: str, console: str | None, stop: threading.Event, seen: Peaks) -> None:
    try:
        with connected(database) as postgres, contextlib.ExitStack() as ending:
            pools = ending.enter_context(pgbouncer.console(console)) if console else None
            while not stop.is_set():
                seen.add(**rows(postgres, LOOK)[0])
                if pools is not None:
                    seen.add(**pgbouncer.clients(pools))
                seen.looks += 1
                stop.wait(LOOK_SECONDS)
    except CannotMeasure as error:
        seen.error = str(error)
    except Exception as error:
        # Such as a console with other columns. Who looks no more must say so, or its few looks pass.
        seen.error = error_text(error)


def moment() -> dict[str, float]:
    """Now, by the wall clock and by the one that never jumps."""
    return {"wall": time.time(), "monotonic": time.monotonic()}
