"""The process of a slot that counts queued views and purges if told to: ``python -m app.worker``."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.flags import READ_ONLY
from app.live_flags import LiveFlags
from app.settings import Settings, SettingsError, load_settings
from app.store.database import Database
from app.store.retry import RetryPolicy
from app.worker.chore import Chore
from app.worker.purge import purge_batch
from app.worker.rollup import count_batch
from app.worker_errors import WorkerErrors

log = logging.getLogger("app.worker")


@dataclass
class Worker:
    """Drains, and purges if told to, until it is stopped; a database that is away only makes it wait."""

    settings: Settings
    database: Database
    flags: LiveFlags
    stop: threading.Event
    monotonic: Callable[[], float] = time.monotonic

    def run(self) -> None:
        """Work until ``stop`` is set."""
        now, poll_seconds = self.monotonic(), self.settings.worker_poll_seconds
        chores = [Chore("counting", lambda: self._written(count_batch), poll_seconds, now)]
        days, interval_seconds = self.settings.purge_after_days, self.settings.purge_interval_seconds
        if days is not None:
            purge = partial(purge_batch, days=days)
            chores.append(Chore("purging", lambda: self._written(purge), interval_seconds, now))
        while not self.stop.is_set():
            for chore in chores:
                if chore.due <= self.monotonic():
                    chore.do(self.monotonic)
            self.stop.wait(max(0.0, min(chore.due for chore in chores) - self.monotonic()))

    def _written(self, batch: Callable[[Database], int]) -> int:
        if self.flags.current().on(READ_ONLY):
            return 0
        policy = RetryPolicy(budget_seconds=self.settings.retry_budget_ms / 1000)
        return policy.run(lambda: batch(self.database))


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = Database(settings, WorkerErrors(settings.flags_file).add)
    flags = LiveFlags(settings.flags_file, settings.target, settings.slot, settings.environment_flags)
    log.info("worker of %s %s started", settings.target, settings.slot)
    Worker(settings, database, flags, stop).run()
    database.close()
    log.info("worker stopped")
    return 0
