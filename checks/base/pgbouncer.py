"""pgbouncer's console: what it was told to allow, who is connected, and what it is told to do."""

import contextlib
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import connection as Connection  # noqa: N812

from checks.base.errors import CannotMeasure
from checks.base.postgres import CONNECT_SECONDS, check, error_text, parse, rows_of
from checks.base.secrets import secret

CONSOLE = "P12_POOLER_URL"
Rows = Sequence[Mapping[str, Any]]


def url(env_file: Any = None) -> str:
    """The console's DSN; raises Misused without one."""
    found = secret(CONSOLE, env_file)
    parse(found, CONSOLE)
    return found


class TooLate(CannotMeasure):
    """The console did not answer in time; what was asked for may still happen."""


@contextlib.contextmanager
def console(dsn: str = "", named: str = CONSOLE, **place: Any) -> Iterator[Connection]:
    """Connect to the console, for ``ask``; raises CannotMeasure, without the DSN that ``named`` holds."""
    with contextlib.ExitStack() as stack:
        try:
            # The console knows no statement time-out, so the waiting is ours.
            connection = stack.enter_context(contextlib.closing(psycopg2.connect(dsn, async_=1, **place)))
            _wait(connection, CONNECT_SECONDS)
        except psycopg2.Error as error:
            at = psycopg2.extensions.parse_dsn(psycopg2.extensions.make_dsn(dsn, **place))
            where = f"pgbouncer's console at {at.get('host', '')}:{at.get('port', '')}"
            reason = f"{where} does not let us in: {error_text(error)}.{check(named)}"
            raise CannotMeasure(reason) from None
        yield connection


def ask(connection: Connection, words: str, seconds: float = CONNECT_SECONDS) -> list[dict[str, Any]]:
    """Give the console one command and return its rows by column name.

    Raises CannotMeasure when it is away or refuses, TooLate when it takes longer than ``seconds``.
    """
    try:
        cursor = connection.cursor()
        cursor.execute(words)
        _wait(connection, seconds)
        return rows_of(cursor)
    except psycopg2.Error as error:
        raise CannotMeasure(f"pgbouncer's console says: {error_text(error)}.") from None


def waiting(connection: Connection, database: str) -> int:
    """How many clients wait in the pooler's line for a database; raises ValueError if it does not say."""
    pools = ask(connection, "SHOW POOLS")
    if not pools or not {"database", "cl_waiting"} <= pools[0].keys():
        raise ValueError(f"SHOW POOLS has no cl_waiting; it has {', '.join(pools[0] if pools else [])}.")
    return sum(int(pool["cl_waiting"]) for pool in pools if pool["database"] == database)


def clients(connection: Connection) -> dict[str, int]:
    """How many clients the pooler has, and how many of them wait for a server connection."""
    pools = [row for row in ask(connection, "SHOW POOLS") if row["database"] != "pgbouncer"]
    active, queued = (sum(int(row[name]) for row in pools) for name in ("cl_active", "cl_waiting"))
    return {"pooler_clients": active + queued, "pooler_waiting": queued}


def allowed(connection: Connection) -> dict[str, int]:
    """How many clients the pooler lets in."""
    config = {row["key"]: row["value"] for row in ask(connection, "SHOW CONFIG")}
    return {"max_client_conn": int(config["max_client_conn"])}


def limits(connection: Connection, database: str) -> dict[str, Any]:
    """What the pooler gives a database; what stands with the database wins over what holds for all.

    ``pool_mode``, ``max_client_conn``, ``pool_size`` (with the reserve), ``max_db_connections`` (0: no
    limit). Raises CannotMeasure if the pooler does not know the database.
    """
    return limits_in(ask(connection, "SHOW CONFIG"), ask(connection, "SHOW DATABASES"), database)


def limits_in(settings: Rows, databases: Rows, database: str) -> dict[str, Any]:
    """Find the ``limits`` in what the console said to ``SHOW CONFIG`` and ``SHOW DATABASES``."""
    config = {row["key"]: row["value"] for row in settings}
    own = next((row for row in databases if row["name"] == database), None)
    if own is None:
        raise CannotMeasure(f"pgbouncer serves no database {database}. Check its [databases].")
    reserve = own.get("reserve_pool", own.get("reserve_pool_size"))
    return {
        "pool_mode": own.get("pool_mode") or config["pool_mode"],
        "max_client_conn": int(config["max_client_conn"]),
        "pool_size": int(own["pool_size"]) + int(reserve or 0),
        "max_db_connections": int(own["max_connections"]),
    }


def _wait(connection: Connection, seconds: float) -> None:
    """Wait for an asynchronous connection; see psycopg's documentation, "Asynchronous support"."""
    deadline = time.monotonic() + seconds
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        left = deadline - time.monotonic()
        reading = [connection] if state == psycopg2.extensions.POLL_READ else []
        writing = [] if reading else [connection]
        if left <= 0 or not any(select.select(reading, writing, [], left)):
            raise TooLate(f"pgbouncer's console did not answer within {seconds:g} s.")
