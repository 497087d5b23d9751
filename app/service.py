"""What every request handler works with, put together once per process."""

from dataclasses import dataclass
from typing import cast

from flask import current_app, g

from app.errors import ReadOnlyError
from app.flags import READ_ONLY, FlagSet
from app.live_flags import LiveFlags
from app.metrics import Metrics
from app.release import Release
from app.settings import Settings
from app.store.database import Database
from app.store.retry import RetryPolicy

EXTENSION = "paste12"


@dataclass(frozen=True)
class Service:
    """The parts of a running instance."""

    settings: Settings
    release: Release
    flags: LiveFlags
    database: Database
    retry: RetryPolicy
    metrics: Metrics

    def close(self) -> None:
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
    )


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
