"""Look at Postgres and the pooler again and again while a burst is under way; keep what was seen."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from checks.base import pgbouncer
from checks.base.errors import CannotMeasure
from checks.base.postgres import connected

LOOK_SECONDS = 0.05
# One statement: the backends of all databases, since max_connections counts them all, and blocked locks.
LOOK = """
SELECT (SELECT sum(numbackends) FROM pg_stat_database WHERE datid <> 0),
       (SELECT count(*) FROM pg_locks WHERE NOT granted)
"""
SETTINGS = ("max_connections", "superuser_reserved_connections")


@dataclass
class Seen:
    """What was seen so far: how often, and the most of each number; ``error`` says why it ended early."""

    looks: int = 0
    most: dict[str, int] = field(default_factory=dict)
    error: str = ""

    def add(self, **numbers: int) -> None:
        for name, number in numbers.items():
            self.most[name] = max(number, self.most.get(name, 0))

    def to_dict(self) -> dict[str, Any]:
        return {"looks": self.looks, "most": dict(self.most), "error": self.error}


def settings(connection: Any) -> dict[str, int]:
    """How many connections Postgres takes, and keeps for its superuser."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, setting::int FROM pg_settings WHERE name = ANY(%s)", [list(SETTINGS)])
        return dict(cursor.fetchall())


@contextlib.contextmanager
def watching(
    look: Callable[[threading.Event, Seen], None],
) -> Iterator[Seen]:
    """Look from a thread of its own for as long as the block lasts."""
    seen, stop = Seen(), threading.Event()
    thread = threading.Thread(target=look, args=(stop, seen), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def looking(database: str, console: str | None) -> Callable[[threading.Event, Seen], None]:
    """Make what looks at a database and, if its console's DSN is known, at the pooler."""

    def look(stop: threading.Event, seen: Seen) -> None:
        try:
            with connected(database) as postgres, contextlib.ExitStack() as ending:
                pools = ending.enter_context(pgbouncer.console(console)) if console else None
                while not stop.is_set():
                    once(postgres, pools, seen)
                    stop.wait(LOOK_SECONDS)
        except (CannotMeasure, psycopg2.Error) as error:
            seen.error = str(error).strip() or type(error).__name__
        except Exception as error:
            # Such as a console with other columns. Who looks no more must say so, or its few looks pass.
            seen.error = f"{type(error).__name__}: {error}"

    return look


def once(postgres: Any, pools: Any, seen: Seen) -> None:
    """Look one time."""
    with postgres.cursor() as cursor:
        cursor.execute(LOOK)
        connections, blocked = cursor.fetchone()
    seen.add(postgres_connections=int(connections or 0), blocked_locks=int(blocked))
    if pools is not None:
        seen.add(**pgbouncer.clients(pools))
    seen.looks += 1


def moment() -> dict[str, float]:
    """Now, by the wall clock and by the one that never jumps."""
    return {"wall": time.time(), "monotonic": time.monotonic()}
