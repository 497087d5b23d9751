"""The guard's own eyes on the database: a reader beside it, that may hang and never makes it wait long.

Whoever cannot be read is not zero: without a fresh reading a window's time does not count as watched.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from rollout.target.dsn import MONITOR, console_url, database_url, pooled_database
from rollout.target.target import Target

STATEMENT_SECONDS = 2
# A reading takes milliseconds; a round of the guard waits this long for it and then goes on without.
PATIENCE_SECONDS = 1.0
Reading = Mapping[str, Any]


class PressureReader:
    """Reads every ``interval_seconds`` while it is asked, in a thread of its own.

    ``connect`` gives a function that takes a reading, and closes what it opened with the stack.
    """

    def __init__(
        self, connect: Callable[[ExitStack], Callable[[], Reading]], interval_seconds: float
    ) -> None:
        self._connect, self._interval = connect, interval_seconds
        self._last: Reading | None = None
        self._asked_at = -float("inf")
        self._wanted, self._answered = threading.Event(), threading.Event()
        self._answered.set()
        self._thread: threading.Thread | None = None
        self.error = ""

    def latest(self) -> Reading | None:
        """Return the last reading, taking a new one when it is due; None while there never was one."""
        due = time.monotonic() - self._asked_at >= self._interval
        if due and self._answered.is_set():
            self._asked_at = time.monotonic()
            self._answered.clear()
            self._wanted.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._read_for_ever, name="pressure", daemon=True)
                self._thread.start()
            self._answered.wait(PATIENCE_SECONDS)
        return self._last

    def _read_for_ever(self) -> None:
        while True:
            with ExitStack() as stack:
                try:
                    self._wanted.wait()
                    take = self._connect(stack)
                    while True:
                        self._wanted.wait()
                        self._wanted.clear()
                        self._last = take()
                        self.error = ""
                        self._answered.set()
                except Exception as error:
                    self._wanted.clear()
                    self.error = str(error).strip().split("\n")[0] or type(error).__name__
                    self._answered.set()


def reader(target: Target, clock: Callable[[], float] = time.time) -> PressureReader:
    """A reader of a target's Postgres and pgbouncer, as the role that may only look."""

    def connect(stack: ExitStack) -> Callable[[], Reading]:
        # Imported only here: a rollback needs no database driver.
        from checks.base.pgbouncer import console
        from checks.base.postgres import connected
        from checks.window import reading
        from checks.window.counted import CountWatch

        database = stack.enter_context(connected(database_url(target, MONITOR), STATEMENT_SECONDS, named=""))
        console_of_pooler = console_url(target)
        pooler = stack.enter_context(console(console_of_pooler, named="")) if console_of_pooler else None
        counted, name = CountWatch(), pooled_database(target)
        return lambda: {
            **reading.read(database, pooler, name, clock),
            "miscounted": counted.look(database, clock()),
        }

    return PressureReader(connect, float(target.settings["guard"]["database_seconds"]))
