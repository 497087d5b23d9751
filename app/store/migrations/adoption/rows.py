"""Columns and rows of the tables that are there: what a constraint or the service would trip over."""

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, text

from app.store.migrations.adoption.obstacle import Obstacle, Weight, in_words, some
from app.store.migrations.tables import COLUMNS, UNIQUE, Existing, look

COUNTERS = ("likes", "views", "reports")
# Without a value in these a row is nobody's: a note that no path names, a view of no note.
IDENTIFYING: Mapping[str, tuple[str, ...]] = {"notes": ("id",), **UNIQUE}

SELECT_NULLABLE = """
SELECT attname::text FROM pg_attribute
WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped AND NOT attnotnull
"""
SELECT_SEQUENCE = "SELECT pg_get_serial_sequence('notes', 'id')"
SELECT_BEHIND = """
SELECT last_value, (SELECT max(id) FROM notes) AS highest_id FROM pg_sequences
WHERE format('%I.%I', schemaname, sequencename)::regclass = to_regclass(:sequence)
  AND coalesce(last_value, 0) < (SELECT max(id) FROM notes)
"""


def in_the_way_of_migrations(connection: Connection) -> Iterator[Obstacle]:
    """What the first migration cannot take over."""
    for existing in _existing(connection):
        yield from _columns(connection, existing)
        yield from _not_unique(connection, existing)


def without_values(connection: Connection) -> Iterator[Obstacle]:
    """Ids that may be null, or are, and counters that count from nothing."""
    for existing in _existing(connection):
        table = existing.table
        nullable = set(connection.execute(text(SELECT_NULLABLE), {"table": table}).scalars())
        for name in sorted(nullable.intersection(IDENTIFYING[table])):
            yield _nullable(connection, table, name)
        if table == "notes" and (counters := [name for name in COUNTERS if name in nullable]):
            yield from _null_counters(connection, counters)


def orphans(connection: Connection) -> Iterator[Obstacle]:
    """Rows of logs whose note is not there."""
    there = {existing.table: existing for existing in _existing(connection)}
    if "notes" not in there or "id" not in there["notes"].types:
        return
    for table in UNIQUE.keys() & there.keys():
        if "note_id" not in there[table].types:
            continue
        gone = f"NOT EXISTS (SELECT FROM notes WHERE notes.id = {table}.note_id)"
        query = f"SELECT note_id, count(*) FROM {table} WHERE {gone} GROUP BY note_id ORDER BY note_id"
        count, rows = some(connection, query)
        if count:
            error = f"{table} holds rows of {count} notes that are not there: {in_words(count, rows)}"
            mend = f"DELETE FROM {table} WHERE {gone}"
            yield Obstacle("orphans", Weight.TELLS, error, mend, query, count, rows)


def new_ids(connection: Connection) -> Iterator[Obstacle]:
    """A new note without an id of its own, or with one that is taken."""
    existing = look(connection, "notes")
    if "id" not in existing.types:
        return
    sequence = connection.execute(text(SELECT_SEQUENCE)).scalar()
    if sequence:
        count, rows = some(connection, SELECT_BEHIND, sequence=sequence)
        if count:
            error = f"{sequence} gives ids that notes has already: {in_words(count, rows)}"
            mend = f"SELECT setval('{sequence}', (SELECT max(id) FROM notes))"
            query = f"SELECT last_value, (SELECT max(id) FROM notes) FROM {sequence}"
            yield Obstacle("new_ids", Weight.HARMS, error, mend, query, count, rows)
    elif "id" not in existing.defaulted:
        mend = (
            "CREATE SEQUENCE notes_id_seq OWNED BY notes.id; "
            "SELECT setval('notes_id_seq', coalesce((SELECT max(id) FROM notes), 0) + 1, false); "
            "ALTER TABLE notes ALTER COLUMN id SET DEFAULT nextval('notes_id_seq')"
        )
        yield Obstacle("new_ids", Weight.HARMS, "notes.id has no default: a new note would have none", mend)


def duplicates_query(table: str) -> str:
    """Return the query that shows the duplicates in a log; rows without a value are none to a constraint."""
    key = ", ".join(UNIQUE[table])
    whole = f"WHERE ({key}) IS NOT NULL GROUP BY {key}"
    return f"SELECT {key}, count(*) FROM {table} {whole} HAVING count(*) > 1 ORDER BY {key}"


def _existing(connection: Connection) -> list[Existing]:
    return [existing for table in COLUMNS if (existing := look(connection, table)).is_there]


def _columns(connection: Connection, existing: Existing) -> Iterator[Obstacle]:
    table = existing.table
    for name, found in existing.columns_of_another_type.items():
        yield Obstacle(
            "another_type",
            Weight.STOPS,
            f"{table}.{name} is {found}, and the service writes {COLUMNS[table][name]}",
            f"ALTER TABLE {table} ALTER COLUMN {name} TYPE … USING …, while the older service is stopped",
        )
    for name in existing.unknown_columns_that_must_be_given:
        yield Obstacle(
            "unknown_column",
            Weight.STOPS,
            f"{table}.{name} must be given in every row, and the service does not know it",
            f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT …",
        )
    for name, kind in existing.missing_columns.items():
        if "NOT NULL" in kind and "DEFAULT" not in kind and _has_rows(connection, table):
            yield Obstacle(
                "missing_column",
                Weight.STOPS,
                f"{table}.{name} is missing, and what the rows that are there should have in it is not known",
                f"ALTER TABLE {table} ADD COLUMN {name} {kind.split()[0]}; fill it; then run this again",
            )


def _not_unique(connection: Connection, existing: Existing) -> Iterator[Obstacle]:
    table = existing.table
    if existing.is_unique:
        return
    if table == "notes":
        yield from _no_unique_id(connection, existing)
    elif not existing.missing_columns.keys() & set(UNIQUE[table]):
        query = duplicates_query(table)
        count, rows = some(connection, query)
        if count:
            shown = in_words(count, rows)
            error = f"{table} holds {count} duplicates under a missing unique constraint: {shown}"
            same = " AND ".join(f"a.{name} = b.{name}" for name in UNIQUE[table])
            mend = f"DELETE FROM {table} a USING {table} b WHERE a.ctid > b.ctid AND {same}"
            mend = f"keep one row of each: {mend}"
            yield Obstacle("duplicates", Weight.STOPS, error, mend, query, count, rows)


def _no_unique_id(connection: Connection, existing: Existing) -> Iterator[Obstacle]:
    error, add, query = "notes has no unique id", "ALTER TABLE notes ADD PRIMARY KEY (id)", ""
    count, rows = some(connection, "SELECT 1 WHERE false")
    if "id" in existing.types:
        query = "SELECT id, count(*) FROM notes GROUP BY id HAVING count(*) > 1 OR id IS NULL ORDER BY id"
        count, rows = some(connection, query)
    if rows:
        error += f", and {count} stand for several notes or none: {in_words(count, rows)}"
        add = f"give each note an id of its own, then {add}"
    yield Obstacle("no_unique_id", Weight.STOPS, error, add, query if rows else "", max(count, 1), rows)


def _nullable(connection: Connection, table: str, name: str) -> Obstacle:
    query = f"SELECT * FROM {table} WHERE {name} IS NULL"
    count, rows = some(connection, query)
    forbid = f"ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL"
    if not count:
        return Obstacle("nullable_id", Weight.TELLS, f"{table}.{name} may be null, and is not", forbid)
    # A note that no path can name is lost to its reader; a row of a log counts for nobody.
    weight = Weight.HARMS if table == "notes" else Weight.TELLS
    remove = f"DELETE FROM {table} WHERE {name} IS NULL"
    given = "UPDATE notes SET id = nextval(pg_get_serial_sequence('notes', 'id')) WHERE id IS NULL"
    mend = f"{given if table == 'notes' else remove}; {forbid}"
    return Obstacle(
        "nullable_id", weight, f"{table}.{name} is null in {count} rows", mend, query, count, rows
    )


def _null_counters(connection: Connection, counters: list[str]) -> Iterator[Obstacle]:
    missing = " OR ".join(f"{name} IS NULL" for name in counters)
    query = f"SELECT id, {', '.join(counters)} FROM notes WHERE {missing} ORDER BY id"
    count, rows = some(connection, query)
    if count:
        error = f"{count} notes have a counter without a value; the service counts them from 0"
        filled = ", ".join(f"{name} = coalesce({name}, 0)" for name in counters)
        mend = f"UPDATE notes SET {filled} WHERE {missing}"
        yield Obstacle("null_counters", Weight.TELLS, error, mend, query, count, rows)


def _has_rows(connection: Connection, table: str) -> bool:
    return connection.execute(text(f"SELECT 1 FROM {table} LIMIT 1")).first() is not None
