"""Tables that are not where, or not what, they should be: another schema, another application, leftovers."""

import re
from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, text

from app.store.migrations.adoption.obstacle import Obstacle, Weight, in_words, some
from app.store.migrations.tables import COLUMNS, look

OWN_REVISION = re.compile(r"[0-9]{4}")
OWN_TABLES = [*COLUMNS, "view_queue", "alembic_version"]

# Of people: what an extension made, and the server's own, is left out.
TABLES = """
pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                  AND deptype = 'e')
"""
# A table `notes` is Paste12's if its notes have a text and expire.
SELECT_ELSEWHERE = f"""
SELECT nspname::text AS schema, relname::text AS table, reltuples::bigint AS rows_estimated FROM {TABLES}
  AND relname = 'notes' AND pg_class.oid IS DISTINCT FROM to_regclass('notes')
  AND (SELECT count(*) FROM pg_attribute WHERE attrelid = pg_class.oid AND NOT attisdropped
       AND attname IN ('text', 'expires_at')) = 2 ORDER BY nspname
"""
SELECT_OTHERS = f"""
SELECT nspname::text AS schema, relname::text AS table, pg_get_userbyid(relowner)::text AS owner
FROM {TABLES} AND NOT relname = ANY(CAST(:ours AS text[])) ORDER BY nspname, relname
"""
SELECT_STRAYS = f"""
SELECT nspname::text AS schema, relname::text AS table, reltuples::bigint AS rows_estimated,
       pg_total_relation_size(pg_class.oid) AS bytes
FROM {TABLES} AND relname LIKE 'note%' AND relname <> 'notes' ORDER BY nspname, relname
"""
SELECT_KINDS = """
SELECT relname::text AS name, relkind::text AS kind FROM pg_class
WHERE oid = ANY(ARRAY(SELECT to_regclass(name) FROM unnest(CAST(:ours AS text[])) AS name))
  AND relkind <> 'r' ORDER BY relname
"""
KINDS = {"v": "a view", "m": "a materialized view", "p": "partitioned", "f": "a foreign table"}


def not_ours(connection: Connection) -> Iterator[Obstacle]:
    """What makes it the wrong database, or the wrong schema of the right one."""
    notes = look(connection, "notes")
    count, rows = some(connection, SELECT_ELSEWHERE)
    if count:
        yield _elsewhere(count, rows, notes.is_there)
    if notes.is_there and "text" not in notes.types:
        error = f"notes is a table of another application: its columns are {', '.join(notes.types)}"
        mend = "give the address of Paste12's database, or a database of its own"
        yield Obstacle("another_application", Weight.STOPS, error, mend)
    yield from _other_kinds(connection)
    yield from other_revision(connection)


def only_others(connection: Connection) -> Iterator[Obstacle]:
    """Tables, and none of them a Paste12's: the service's would be made among them."""
    if any(look(connection, table).is_there for table in COLUMNS):
        return
    if some(connection, SELECT_ELSEWHERE)[0]:
        return
    count, rows = some(connection, SELECT_OTHERS, ours=OWN_TABLES)
    if count:
        error = f"the database holds {count} tables, none of them Paste12's: {in_words(count, rows)}"
        mend = "give the address of Paste12's database; CREATE DATABASE paste12 makes one that is empty"
        query = "SELECT schemaname, tablename, tableowner FROM pg_tables ORDER BY 1, 2"
        yield Obstacle("another_application", Weight.HARMS, error, mend, query, count, rows)


def strays(connection: Connection) -> Iterator[Obstacle]:
    """Tables called ``note…`` that the service does not read. Triggers may."""
    count, rows = some(connection, SELECT_STRAYS)
    if count:
        error = f"{count} tables are called note… and are not the service's: {in_words(count, rows)}"
        mend = "they stay as they are; once no trigger reads one: " + "; ".join(
            f"ALTER TABLE {row['schema']}.{row['table']} RENAME TO unused_{row['table']}" for row in rows
        )
        query = "SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE 'note%'"
        yield Obstacle("stray_table", Weight.TELLS, error, mend, query, count, rows)


def other_revision(connection: Connection) -> Iterator[Obstacle]:
    """Another application's migrations in this database: ours would take its revision for theirs."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return
    query = "SELECT version_num FROM alembic_version"
    others = [
        revision
        for revision in connection.execute(text(query)).scalars()
        if not OWN_REVISION.fullmatch(revision)
    ]
    if others:
        error = f"alembic_version is another application's: it is at {', '.join(others)}"
        mend = "ALTER TABLE alembic_version RENAME TO alembic_version_before, if nobody uses it any more"
        yield Obstacle("another_application", Weight.STOPS, error, mend, query, len(others))


def _elsewhere(count: int, rows: tuple[Mapping[str, object], ...], is_here_too: bool) -> Obstacle:
    schema = rows[0]["schema"]
    where = f"notes that look like Paste12's are in the schema {in_words(count, rows)}"
    query = "SELECT schemaname, tablename FROM pg_tables WHERE tablename = 'notes'"
    if is_here_too:
        error = f"{where}, and others in the search path: the service reads only those"
        mend = f"leave them, or make them the search path's: ALTER ROLE … SET search_path = {schema}"
        return Obstacle("another_schema", Weight.TELLS, error, mend, query, count, rows)
    error = f"{where}, and the search path does not lead there: new, empty ones would be made"
    mend = f"ALTER ROLE paste12 SET search_path = {schema}, or ALTER TABLE {schema}.notes SET SCHEMA public, "
    mend += "with view_log, like_log and report_log"
    return Obstacle("another_schema", Weight.STOPS, error, mend, query, count, rows)


def _other_kinds(connection: Connection) -> Iterator[Obstacle]:
    count, rows = some(connection, SELECT_KINDS, ours=list(COLUMNS))
    if count:
        said = ", ".join(f"{row['name']} is {KINDS.get(str(row['kind']), row['kind'])}" for row in rows)
        query = "SELECT relname, relkind FROM pg_class WHERE relname IN ('notes', 'view_log')"
        mend = "make a plain table of each, or give the address of the database that has them"
        yield Obstacle(
            "not_a_table", Weight.STOPS, f"{said}, and not a plain table", mend, query, count, rows
        )
