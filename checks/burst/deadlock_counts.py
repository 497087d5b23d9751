"""What the database and the instances counted across a stretch of time, or why that cannot be known."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
import psycopg2.extensions

from checks.base.errors import CannotMeasure

# An idle backend keeps what it counted to itself for up to 10 s (PGSTAT_IDLE_INTERVAL, PostgreSQL 15).
SETTLE_SECONDS = 11.0
SCRAPE_SECONDS = 5.0
SERIES = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)")
SQLSTATE = re.compile(r'sqlstate="([^"]*)"')


@dataclass(frozen=True)
class DatabaseCount:
    """The deadlocks of a database, and what shows whether two counts belong together."""

    deadlocks: int
    stats_reset: str
    started: str


def database_count(connection: psycopg2.extensions.connection) -> dict[str, Any]:
    """Read the counters of the connected database; outside a transaction, for they freeze inside one.

    Raises CannotMeasure if the database has no counters: an empty answer is not 0 deadlocks.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT deadlocks, coalesce(stats_reset::text, 'never'), pg_postmaster_start_time()::text"
            " FROM pg_stat_database WHERE datname = current_database()"
        )
        row = cursor.fetchone()
    if row is None:
        raise CannotMeasure(f"pg_stat_database has no row of the database {connection.info.dbname}.")
    return asdict(DatabaseCount(*row))


def deadlocks_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return the deadlocks between two counts, or None and the reason why nobody knows."""
    if before["started"] != after["started"]:
        return None, f"Postgres was restarted at {after['started']}."
    if before["stats_reset"] != after["stats_reset"]:
        return None, f"The statistics were reset at {after['stats_reset']}."
    if after["deadlocks"] < before["deadlocks"]:
        return None, f"The counter fell from {before['deadlocks']} to {after['deadlocks']}."
    return after["deadlocks"] - before["deadlocks"], ""


async def scrape(urls: Sequence[str]) -> dict[str, Any]:
    """Read every instance's ``/internal/metrics``; one that does not answer has an ``error`` instead."""
    timeout = aiohttp.ClientTimeout(total=SCRAPE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return dict(zip(urls, await asyncio.gather(*(_scrape(session, url) for url in urls)), strict=True))


async def _scrape(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    try:
        async with session.get(f"{url.rstrip('/')}/internal/metrics") as response:
            text = await response.text()
            if response.status != 200:
                return {"error": f"/internal/metrics answered {response.status}"}
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    return parse(text)


def parse(text: str) -> dict[str, Any]:
    """Return ``started`` and how often each SQLSTATE that has a series was raised so far, in ``errors``."""
    started: float | None = None
    errors: dict[str, float] = {}
    for line in text.splitlines():
        series = SERIES.match(line)
        if not series:
            continue
        try:
            value = float(series["value"])
        except ValueError:
            continue
        if series["name"] == "p12_process_start_time_seconds":
            started = value
        elif series["name"] == "p12_db_errors_total":
            state = SQLSTATE.search(series["labels"] or "")
            name = state[1] if state else ""
            errors[name] = errors.get(name, 0.0) + value
    if started is None:
        return {"error": "/internal/metrics has no p12_process_start_time_seconds"}
    return {"started": started, "errors": errors}


def raised_between(
    before: Mapping[str, Any], after: Mapping[str, Any], sqlstate: str
) -> tuple[int | None, str]:
    """Return how often the instances saw a SQLSTATE between two scrapes, or None and the reason.

    A service shows contention's SQLSTATEs from its start, be they 0; without such a line nothing is known.
    """
    total = 0.0
    for url, first in before.items():
        last = after.get(url, {"error": "was not scraped again"})
        for scraped in (first, last):
            if "error" in scraped:
                return None, f"{url}: {scraped['error']}."
        if first["started"] != last["started"]:
            return None, f"{url} was restarted; what it had counted is gone."
        if sqlstate not in first["errors"].keys() & last["errors"].keys():
            return None, f'{url}: /internal/metrics has no p12_db_errors_total{{sqlstate="{sqlstate}"}}.'
        raised = last["errors"][sqlstate] - first["errors"][sqlstate]
        if not raised >= 0:
            return None, f"{url}: its counter fell."
        total += raised
    return round(total), ""
