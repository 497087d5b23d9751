"""A direct connection to Postgres, for reading what is true there."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

from checks.base.errors import CannotMeasure, Misused
from checks.base.secrets import secret

CONNECT_SECONDS = 5
SQLALCHEMY_SCHEME = re.compile(r"^postgres(?:ql)?(?:\+\w+)?://")


def dsn(env_file: Path | None = None) -> str:
    """Return DATABASE_URL as libpq takes it; raises Misused without one, or if it is none."""
    url = SQLALCHEMY_SCHEME.sub("postgresql://", secret("DATABASE_URL", env_file))
    parse(url)
    return url


def parse(url: str, name: str = "DATABASE_URL") -> dict[str, Any]:
    """Take a DSN apart; raises Misused, without showing it, if it is none."""
    try:
        return dict(psycopg2.extensions.parse_dsn(url))
    except psycopg2.Error:
        raise Misused(f"{name} is not a DSN. Use postgresql://user@host:port/database.") from None


@contextlib.contextmanager
def connected(
    url: str, statement_seconds: float | None = 60, named: str = "DATABASE_URL"
) -> Iterator[psycopg2.extensions.connection]:
    """Connect in autocommit, so that every statement sees the present.

    ``named`` is where the DSN was given, empty for nowhere. Raises CannotMeasure, without the DSN, if
    Postgres is away, refuses, or fails a statement. PGOPTIONS changes nothing.
    """
    given: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "application_name": "p12 checks"}
    try:
        # Only what the DSN says itself: libpq would take the environment's where nothing is given.
        given["options"] = psycopg2.extensions.parse_dsn(url).get("options", "")
        connection = psycopg2.connect(url, **given)
    except psycopg2.Error as error:
        raise CannotMeasure(f"Postgres does not let us in: {error_text(error)}.{check(named)}") from None
    try:
        connection.autocommit = True
        if statement_seconds is not None:
            with connection.cursor() as cursor:
                cursor.execute(f"SET statement_timeout = {statement_seconds * 1000:.0f}")
        yield connection
    except psycopg2.Error as error:
        raise CannotMeasure(f"Postgres says: {error_text(error)}.") from None
    finally:
        connection.close()


def check(named: str) -> str:
    return f" Check {named}." if named else ""


def rows(connection: Any, query: Any, values: Any = None) -> list[dict[str, Any]]:
    """What a query gives, by the names of its columns."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return rows_of(cursor)


def rows_of(cursor: Any) -> list[dict[str, Any]]:
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in (cursor.fetchall() if names else ())]


def error_text(error: psycopg2.Error) -> str:
    """The first line of what Postgres said, which never holds a password."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
