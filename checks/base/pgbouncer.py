"""pgbouncer's console: what it was told to allow, and who is connected. Read by column name."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2

from checks.base.errors import CannotMeasure
from checks.base.postgres import CONNECT_SECONDS, parse, said
from checks.base.secrets import secret

CONSOLE = "P12_POOLER_URL"
Rows = Sequence[Mapping[str, Any]]


def url(env_file: Any = None) -> str:
    """The console's DSN; raises Misused without one."""
    found = secret(CONSOLE, env_file)
    parse(found, CONSOLE)
    return found


@contextlib.contextmanager
def console(dsn: str) -> Iterator[Any]:
    """Connect to the console, which takes plain statements only; raises CannotMeasure, without the DSN."""
    try:
        connection = psycopg2.connect(dsn, connect_timeout=CONNECT_SECONDS)
    except psycopg2.Error as error:
        raise CannotMeasure(
            f"pgbouncer's console does not let us in: {said(error)}. Check {CONSOLE}."
        ) from None
    try:
        connection.autocommit = True
        yield connection
    except psycopg2.Error as error:
        raise CannotMeasure(f"pgbouncer's console says: {said(error)}.") from None
    finally:
        connection.close()


def clients(connection: Any) -> dict[str, int]:
    """How many clients the pooler has, and how many of them wait for a server connection."""
    pools = [row for row in _show(connection, "SHOW POOLS") if row["database"] != "pgbouncer"]
    active, waiting = (sum(int(row[name]) for row in pools) for name in ("cl_active", "cl_waiting"))
    return {"pooler_clients": active + waiting, "pooler_waiting": waiting}


def allowed(connection: Any) -> dict[str, int]:
    """How many clients the pooler lets in."""
    config = {row["key"]: row["value"] for row in _show(connection, "SHOW CONFIG")}
    return {"max_client_conn": int(config["max_client_conn"])}


def limits(connection: Any, database: str) -> dict[str, Any]:
    """What the pooler gives a database; what stands with the database wins over what holds for all.

    ``pool_mode``, ``max_client_conn``, ``pool_size`` (with the reserve), ``max_db_connections`` (0: no
    limit). Raises CannotMeasure if the pooler does not know the database.
    """
    return limits_in(_show(connection, "SHOW CONFIG"), _show(connection, "SHOW DATABASES"), database)


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


def _show(connection: Any, command: str) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(command)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
