"""The database that is backed up: what it is, and a moment of it that nobody can change while it is read."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql

from checks.backup import digest, properties
from checks.backup.properties import Properties
from checks.base.errors import CannotMeasure, Misused
from checks.base.postgres import connected, rows

MOMENT = """
SELECT pg_export_snapshot(),
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text
"""
SOURCE = """
SELECT pg_backend_pid() AS pid, current_database() AS database,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
       split_part(current_setting('server_version'), ' ', 1) AS server_version,
       current_setting('server_encoding') AS encoding, current_setting('lc_monetary') AS lc_monetary,
       current_schemas(false) AS search_path, ARRAY(SELECT extname::text FROM pg_extension) AS extensions,
       ARRAY(SELECT pg_get_userbyid(refobjid)::text FROM pg_shdepend JOIN pg_database d ON d.oid = dbid
             WHERE refclassid = 'pg_authid'::regclass AND datname = current_database()
             UNION SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid >= 16384
             UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE oid >= 16384
             UNION SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE oid >= 16384) AS roles,
       pg_database_size(current_database()) AS database_bytes,
       to_regclass('alembic_version') IS NOT NULL AS is_migrated
"""
# Whoever holds what not even a reader may share.
HOLDERS = """
SELECT a.pid, coalesce(nullif(a.application_name, ''), 'no name'), a.usename, c.relname,
       round(extract(epoch FROM clock_timestamp() - a.xact_start))::int,
       left(regexp_replace(a.query, '\\s+', ' ', 'g'), 200)
FROM pg_locks l
JOIN pg_stat_activity a USING (pid)
JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND a.datname = current_database()
  AND c.relkind IN ('r', 'S', 'p', 'm') AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY a.xact_start, c.relname LIMIT 1
"""


@dataclass(frozen=True)
class Source:
    """The database as the dump will see it."""

    database: str
    system_identifier: str
    server_version: str
    encoding: str
    database_bytes: int
    schema_revision: str | None
    foreign_tables: tuple[str, ...]
    properties: Properties
    roles: list[str]
    # What the copy needs around it: the service's schemas, how money is written, and extensions.
    search_path: list[str]
    lc_monetary: str
    extensions: list[str]

    @property
    def server_major(self) -> int:
        return int(self.server_version.split(".")[0])


def read_source(connection: Any) -> Source:
    """Read what the manifest says about a database; raises Misused if a pooler is in between."""
    (found,) = rows(connection, SOURCE)
    # A pooler greets with a number of its own. A dump through it would poison other clients' sessions.
    if found.pop("pid") != connection.info.backend_pid:
        raise Misused("DATABASE_URL leads through a pooler. Name Postgres itself, by its own port.")
    revision = rows(connection, "SELECT version_num FROM alembic_version") if found.pop("is_migrated") else []
    return Source(
        **found,
        schema_revision=revision[0]["version_num"] if revision else None,
        foreign_tables=tuple(digest.relations(connection, digest.FOREIGN)),
        properties=properties.read(connection, found["database"]),
    )


def has_rows(connection: Any, lock_seconds: float, watching: str) -> bool:
    """Say whether the database holds anything; raises CannotMeasure as ``snapshot`` does."""
    with _lock_holder_named(lock_seconds, watching):
        rows(connection, f"{digest.SETTINGS}; SET lock_timeout = {lock_seconds * 1000:.0f}")
        found = digest.has_rows(connection)
        rows(connection, "RESET lock_timeout")
        return found


@contextlib.contextmanager
def snapshot(
    connection: psycopg2.extensions.connection, lock_seconds: float, watching: str
) -> Iterator[tuple[str, str]]:
    """Hold one moment of the database; yield the exported snapshot's name and the moment's WAL position.

    Every table is locked against changes of its shape before the moment is taken, since a table that is
    truncated or rewritten afterwards would look empty. Raises CannotMeasure, naming who holds a lock, when
    that takes more than ``lock_seconds``; ``watching`` is a DSN that may see what others do.
    """
    tables = digest.relations(connection, digest.TABLES).values()
    with _lock_holder_named(lock_seconds, watching), connection.cursor() as cursor:
        cursor.execute(digest.SETTINGS)
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            cursor.execute(f"SET LOCAL lock_timeout = {lock_seconds * 1000:.0f}")
            if tables:
                names = sql.SQL(", ONLY ").join(name for name, _ in tables)
                cursor.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(names))
            cursor.execute(MOMENT)
            name, lsn = cursor.fetchone() or ("", "")
            yield name, lsn
        finally:
            # What ended the moment is worth more than that Postgres has gone since.
            with contextlib.suppress(psycopg2.Error):
                cursor.execute("ROLLBACK")


@contextlib.contextmanager
def _lock_holder_named(lock_seconds: float, watching: str) -> Iterator[None]:
    try:
        yield
    except psycopg2.errors.LockNotAvailable:
        raise CannotMeasure(blocked(watching, lock_seconds)) from None


def blocked(url: str, seconds: float) -> str:
    """Say who holds the lock that a backup waited for in vain, and what to do."""
    waited = f"A table stayed locked for {seconds:g} s"
    again = "earlier backups are untouched. Then: ./p12 backup"
    with connected(url) as connection, connection.cursor() as cursor:
        cursor.execute(HOLDERS)
        holder = cursor.fetchone()
    if not holder:
        return f"{waited}; whoever held it has let go meanwhile, and {again}"
    pid, application, user, table, held, query = holder
    return (
        f"{waited}: pid {pid} ({application}, user {user}) has held {table} for {held} s with: {query}. "
        f"Let it end, or end it: SELECT pg_terminate_backend({pid}); {again}"
    )
