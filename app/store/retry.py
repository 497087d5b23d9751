"""Try a database transaction again when that can help, and shed it when it cannot."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import BusyError, UnavailableError

Result = TypeVar("Result")

CONTENTION = {
    "40P01": "deadlock detected",
    "40001": "serialization failure",
    "55P03": "lock not available in time",
}
OVERLOAD_CLASSES = ("53", "57014")
AWAY_CLASSES = ("08", "57P", "25006")
# A refused connection carries no SQLSTATE, only the server's or the pooler's words.
FULL_HOUSE = (
    "too many clients",
    "connection slots are reserved",
    "too many connections",
    "no more connections allowed",
)


class Trouble(StrEnum):
    """Why a transaction failed, as far as it matters for what to do next."""

    CONTENTION = "contention"
    OVERLOAD = "overload"
    LOST = "lost"
    OTHER = "other"


@dataclass(frozen=True)
class RetryPolicy:
    """At most ``tries`` tries, none of which starts more than ``budget_seconds`` after the first.

    A request therefore gives up within the budget and one lock timeout. Pauses are drawn evenly from
    0 to ``pause_seconds`` · 2ⁿ (full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    tries: int = 3
    budget_seconds: float = 0.3
    pause_seconds: float = 0.02
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    # Jitter spreads load; nobody gains by guessing it.
    uniform: Callable[[float, float], float] = random.uniform
    on_retry: Callable[[str], None] = lambda _: None

    def run(self, transaction: Callable[[], Result]) -> Result:
        """Run a transaction until it succeeds.

        It is run as a whole each time, so it must be safe to repeat after a lost connection: its unique
        key decides, not its caller.

        :raises BusyError: on contention past the budget, on overload, and on a connection lost after a
            long wait, which is how the pooler says that it is full.
        :raises UnavailableError: when the database is away.
        """
        started = self.monotonic()
        lost = 0
        for attempt in range(1, self.tries + 1):
            try:
                return transaction()
            except PoolTimeoutError as error:
                raise BusyError from error
            except DBAPIError as error:
                trouble = classify(error)
                if trouble is Trouble.OTHER:
                    raise
                lost += trouble is Trouble.LOST
                left = self.budget_seconds - (self.monotonic() - started)
                if trouble is Trouble.OVERLOAD or attempt == self.tries or left <= 0 or lost > 1:
                    raise _give_up(trouble, out_of_time=left <= 0) from error
                self.on_retry(sqlstate(error))
                self.sleep(min(left, self.uniform(0, self.pause_seconds * 2**attempt)))
        raise AssertionError("the last try returns or raises")


def sqlstate(error: DBAPIError) -> str:
    """Return the SQLSTATE of an error, ``none`` when the connection was lost before one came."""
    return getattr(error.orig, "pgcode", None) or "none"


def classify(error: DBAPIError) -> Trouble:
    """Say which kind of trouble a database error is."""
    state = sqlstate(error)
    if state in CONTENTION:
        return Trouble.CONTENTION
    if state.startswith(OVERLOAD_CLASSES):
        return Trouble.OVERLOAD
    if state.startswith(AWAY_CLASSES):
        return Trouble.LOST
    if state == "none" and (error.connection_invalidated or isinstance(error, OperationalError)):
        return Trouble.OVERLOAD if any(words in str(error.orig) for words in FULL_HOUSE) else Trouble.LOST
    return Trouble.OTHER


def _give_up(trouble: Trouble, *, out_of_time: bool) -> BusyError | UnavailableError:
    return UnavailableError() if trouble is Trouble.LOST and not out_of_time else BusyError()
