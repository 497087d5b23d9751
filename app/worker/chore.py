"""Something the worker does again and again, in batches, on its own time."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from app.errors import ServiceError

LONGEST_PAUSE_SECONDS = 10.0
# A longer pause than 2¹⁰ times the first is cut off anyway, and a float has no room for 2¹⁰²⁴.
MOST_DOUBLINGS = 10

log = logging.getLogger("app.worker")


@dataclass
class Chore:
    """Work that is due at once while there is some, and every ``idle_seconds`` while there is none.

    A failure pauses it twice as long each time, up to ``LONGEST_PAUSE_SECONDS`` or, if that is longer, its
    ``idle_seconds``; other chores are due when they were. ``due`` is a time of the monotonic clock.
    """

    name: str
    batch: Callable[[], int]
    idle_seconds: float
    due: float
    failures: int = 0

    def do(self, now: Callable[[], float]) -> None:
        """Do one batch, and set when the next one is due; a database in trouble is only logged."""
        try:
            pause = 0.0 if self.batch() else self.idle_seconds
            self.failures = 0
        except (ServiceError, SQLAlchemyError) as error:
            self.failures += 1
            pause = self._pause_seconds()
            code = getattr(error, "code", type(error).__name__)
            log.warning("%s: %s: trying again in %.1f s", self.name, code, pause)
        self.due = now() + pause

    def _pause_seconds(self) -> float:
        doubled = self.idle_seconds * 2.0 ** min(self.failures, MOST_DOUBLINGS)
        return max(self.idle_seconds, min(LONGEST_PAUSE_SECONDS, doubled))
