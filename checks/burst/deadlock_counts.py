"""What the database and the instances counted across a stretch of time, or why that cannot be known."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from checks.base.errors import CannotMeasure, error_text
from checks.base.postgres import rows
from checks.base.prometheus import label, series_in
from checks.base.validation import Count, Number

# An idle backend keeps what it counted to itself for up to 10 s (PGSTAT_IDLE_INTERVAL, PostgreSQL 15).
SETTLE_SECONDS = 11.0
SCRAPE_SECONDS = 5.0


class DatabaseCount(msgspec.Struct):
    """The deadlocks of a database, and what shows whether two counts belong together."""

    deadlocks: Count
    stats_reset: str
    started: str


class InstanceCount(msgspec.Struct, omit_defaults=True):
    """How often an instance saw each SQLSTATE since its start, or the ``error`` why that is not known."""

    started: Number | None = None
    errors: dict[str, Number] = {}
    error: str = ""

    def __post_init__(self) -> None:
        if self.started is None and not self.error:
            raise ValueError("an instance has neither started nor an error")


def database_count(connection: Any) -> DatabaseCount:
    """Read the counters of the connected database; outside a transaction, for they freeze inside one.

    Raises CannotMeasure if the database has no counters: an empty answer is not 0 deadlocks.
    """
    found = rows(
        connection,
        "SELECT deadlocks, coalesce(stats_reset::text, 'never') AS stats_reset,"
        " pg_postmaster_start_time()::text AS started"
        " FROM pg_stat_database WHERE datname = current_database()",
    )
    if not found:
        raise CannotMeasure(f"pg_stat_database has no row of the database {connection.info.dbname}.")
    return DatabaseCount(**found[0])


def deadlocks_between(before: DatabaseCount, after: DatabaseCount) -> tuple[int | None, str]:
    """Return the deadlocks between two counts, or None and the reason why nobody knows."""
    if before.started != after.started:
        return None, f"Postgres was restarted at {after.started}."
    if before.stats_reset != after.stats_reset:
        return None, f"The statistics were reset at {after.stats_reset}."
    if after.deadlocks < before.deadlocks:
        return None, f"The counter fell from {before.deadlocks} to {after.deadlocks}."
    return after.deadlocks - before.deadlocks, ""


async def scrape(urls: Sequence[str]) -> dict[str, InstanceCount]:
    """Read every instance's ``/internal/metrics``; one that does not answer has an ``error`` instead."""
    timeout = aiohttp.ClientTimeout(total=SCRAPE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return dict(zip(urls, await asyncio.gather(*(_scrape(session, url) for url in urls)), strict=True))


async def _scrape(session: aiohttp.ClientSession, url: str) -> InstanceCount:
    try:
        async with session.get(f"{url.rstrip('/')}/internal/metrics") as response:
            text = await response.text()
            if response.status != 200:
                return InstanceCount(error=f"/internal/metrics answered {response.status}")
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
        return InstanceCount(error=error_text(error))
    return parse(text)


def parse(text: str) -> InstanceCount:
    """Return when the instance started and how often each SQLSTATE that has a series was raised since."""
    started: float | None = None
    errors: dict[str, float] = {}
    for name, labels, value in series_in(text):
        if name == "p12_process_start_time_seconds":
            started = value
        elif name == "p12_db_errors_total":
            state = label(labels, "sqlstate")
            errors[state] = errors.get(state, 0.0) + value
    if started is None:
        return InstanceCount(error="/internal/metrics has no p12_process_start_time_seconds")
    return InstanceCount(started, errors)


def raised_between(
    before: Mapping[str, InstanceCount], after: Mapping[str, InstanceCount], sqlstate: str
) -> tuple[int | None, str]:
    """Return how often the instances saw a SQLSTATE between two scrapes, or None and the reason.

    A service shows contention's SQLSTATEs from its start, be they 0; without such a line nothing is known.
    """
    total = 0.0
    for url, first in before.items():
        last = after.get(url, InstanceCount(error="was not scraped again"))
        if error := first.error or last.error:
            return None, f"{url}: {error}."
        if first.started != last.started:
            return None, f"{url} was restarted; what it had counted is gone."
        if sqlstate not in first.errors.keys() & last.errors.keys():
            return None, f'{url}: /internal/metrics has no p12_db_errors_total{{sqlstate="{sqlstate}"}}.'
        raised = last.errors[sqlstate] - first.errors[sqlstate]
        if not raised >= 0:
            return None, f"{url}: its counter fell."
        total += raised
    return round(total), ""
