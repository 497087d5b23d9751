"""Roles and the database of a target, made over the local socket by the cluster's superuser."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import sql

from rollout.errors import RolloutError
from rollout.target.target import Target

OWNER = "paste12"
MONITOR = "p12_monitor"


def ensure(target: Target, seconds: float = 30.0) -> dict[str, Any]:
    """Create what is missing and set the passwords that the inventory holds. Repeating changes nothing.

    ``paste12`` owns the database and is what the service and its migrations use; ``p12_monitor`` reads
    statistics (``pg_monitor``) and rows, and writes nothing.

    :raises RolloutError: the server does not answer.
    """
    changed: list[str] = []
    with _connect(target, "postgres", seconds) as cursor:
        for role, secret in ((OWNER, "database"), (MONITOR, "monitor")):
            if not _exists(cursor, "SELECT 1 FROM pg_roles WHERE rolname = %s", role):
                cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
                changed.append(f"role {role}")
            cursor.execute(
                sql.SQL("ALTER ROLE {} PASSWORD %s").format(sql.Identifier(role)), [target.secrets[secret]]
            )
        cursor.execute(sql.SQL("GRANT pg_monitor, pg_read_all_data TO {}").format(sql.Identifier(MONITOR)))
        name = target.settings["database"]
        if not _exists(cursor, "SELECT 1 FROM pg_database WHERE datname = %s", name):
            cursor.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0").format(
                    sql.Identifier(name), sql.Identifier(OWNER)
                )
            )
            changed.append(f"database {name}")
    return {"changed": bool(changed), "created": changed}


@contextmanager
def _connect(target: Target, database: str, seconds: float) -> Iterator[Any]:
    """A cursor in autocommit over the local socket, once the server is up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection = psycopg2.connect(
                host=target.settings["postgres_socket_directory"],
                port=target.settings["postgres_port"],
                dbname=database,
                connect_timeout=3,
            )
            break
        except psycopg2.OperationalError as error:
            if time.monotonic() >= deadline:
                raise RolloutError(f"Postgres does not answer: {error}", "./p12 provision") from error
            time.sleep(0.1)
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


def _exists(cursor: Any, query: str, name: str) -> bool:
    cursor.execute(query, [name])
    return cursor.fetchone() is not None
