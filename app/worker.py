"""The process of a slot that counts queued views and purges gone notes: ``python -m app.worker``.

With ``--until-empty`` it counts what is queued and exits 0 when nothing is left: what a slot that no
longer serves needs after a rollback.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from app.database import Database
from app.errors import ServiceError
from app.flags import READ_ONLY
from app.live_flags import LiveFlags
from app.purge import purge_batch
from app.retry import RetryPolicy
from app.rollup import count_batch, is_drained
from app.settings import Settings, SettingsError, load_settings

LONGEST_PAUSE_SECONDS = 10.0

log = logging.getLogger("app.worker")


@dataclass
class Worker:
    """Drains and purges until told to stop; a database that is away only makes it wait."""

    settings: Settings
    database: Database
    flags: LiveFlags
    stop: threading.Event
    monotonic: Callable[[], float] = time.monotonic

    def run(self, *, until_empty: bool = False) -> None:
        """Work until ``stop`` is set or, if asked for, the queue is empty."""
        failures = 0
        next_purge = self.monotonic()
        while not self.stop.is_set():
            pause = self.settings.worker_poll_seconds
            try:
                if until_empty and is_drained(self.database):
                    return
                if not self.flags.current().on(READ_ONLY):
                    if self._retried(lambda: count_batch(self.database)):
                        pause = 0.0
                    elif not until_empty and self.monotonic() >= next_purge:
                        removed = self._retried(lambda: purge_batch(self.database))
                        pause = 0.0 if removed else pause
                        next_purge += 0.0 if removed else self.settings.purge_interval_seconds
                failures = 0
            except (ServiceError, SQLAlchemyError) as error:
                failures += 1
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2**failures)
                log.warning("%s: trying again in %.1f s", getattr(error, "code", type(error).__name__), pause)
            self.stop.wait(pause)

    def _retried(self, transaction: Callable[[], int]) -> int:
        return RetryPolicy(budget_seconds=self.settings.retry_budget_ms / 1000).run(transaction)


def main(arguments: Sequence[str]) -> int:
    if list(arguments) not in ([], ["--until-empty"]):
        print("usage: python -m app.worker [--until-empty]", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = Database(settings)
    flags = LiveFlags(settings.flags_file, settings.target, settings.slot, settings.environment_flags)
    log.info("worker of %s %s started", settings.target, settings.slot)
    Worker(settings, database, flags, stop).run(until_empty=bool(arguments))
    database.close()
    log.info("worker stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
