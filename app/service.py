"""What every request handler works with, put together once per process."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from flask import current_app, g, has_app_context
from opentelemetry.trace import Span
from sqlalchemy.exc import DBAPIError

from app.errors import ReadOnlyError
from app.flags import READ_ONLY, FlagSet
from app.live_flags import LiveFlags
from app.metrics import Metrics, resource_of
from app.release import Release
from app.settings import Settings
from app.store.database import Database
from app.store.retry import CONTENTION, RetryPolicy, sqlstate
from app.telemetry import Traces

EXTENSION = "paste12"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Service:
    """The parts of a running instance."""

    settings: Settings
    release: Release
    flags: LiveFlags
    database: Database
    retry: RetryPolicy
    metrics: Metrics
    traces: Traces

    def transact(self, kind: str, work: Callable[[], Result]) -> Result:
        """Run a transaction as ``RetryPolicy.run`` does; time each try, and make all of them one span.

        A try that contention ended was spent in waiting for a lock.
        """
        tries = 0

        def tried() -> Result:
            nonlocal tries
            tries, started, outcome = tries + 1, time.perf_counter(), "failed"
            try:
                result = work()
                outcome = "done"
                return result
            except DBAPIError as error:
                if sqlstate(error) in CONTENTION:
                    self.metrics.time_lock_wait(kind, time.perf_counter() - started)
                raise
            finally:
                self.metrics.time_transaction(kind, outcome, time.perf_counter() - started)

        with self.traces.transaction(_span(), kind) as span:
            try:
                return self.retry.run(tried)
            finally:
                if span:
                    span.set_attribute("p12.tries", tries)

    def close(self) -> None:
        self.traces.close()
        self.metrics.close()
        self.database.close()


def build_service(settings: Settings, release: Release) -> Service:
    """Put the parts together; opens no connection."""
    metrics = Metrics(settings, release)
    database = Database(settings, metrics.count_error, metrics.time_checkout)
    metrics.connections_in_use = database.in_use
    return Service(
        settings,
        release,
        LiveFlags(settings.flags_file, settings.target, settings.slot, settings.environment_flags),
        database,
        RetryPolicy(budget_seconds=settings.retry_budget_ms / 1000, on_retry=metrics.count_retry),
        metrics,
        Traces(settings.trace_ratio, resource_of(settings, release)),
    )


def _span() -> Span | None:
    return g.get("span") if has_app_context() else None


def service() -> Service:
    """Return the service that the current request runs in."""
    return cast(Service, current_app.extensions[EXTENSION])


def flags_in_force() -> FlagSet:
    """Return the flags that hold for the whole of the current request, as read when it began."""
    if "flags" not in g:
        g.flags = service().flags.current()
    return cast(FlagSet, g.flags)


def must_be_writable() -> None:
    """Refuse a write while the service is read-only.

    :raises ReadOnlyError: while ``P12_READ_ONLY`` is on.
    """
    if flags_in_force().on(READ_ONLY):
        raise ReadOnlyError
