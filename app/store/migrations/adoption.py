"""What stands in the way of taking over the tables of an older Paste12, found before anything changes."""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from app.store.migrations.tables import COLUMNS, UNIQUE, Existing, look

SHOWN_ROWS = 5


class AdoptionError(RuntimeError):
    """The data that is there cannot be taken over as it is; ``hint`` says how to see why, or what to do."""

    def __init__(self, error: str, hint: str) -> None:
        super().__init__(error)
        self.hint = hint


def obstacles(connection: Connection) -> list[AdoptionError]:
    """Return everything that stands in the way; changes nothing."""
    found: list[AdoptionError] = []
    for existing in (look(connection, table) for table in COLUMNS):
        if existing.is_there:
            found += _columns_in_the_way(connection, existing)
            found += _rows_in_the_way(connection, existing)
    return found


def duplicates_query(table: str) -> str:
    """Return the query that shows the duplicates in a log."""
    key = ", ".join(UNIQUE[table])
    return f"SELECT {key}, count(*) FROM {table} GROUP BY {key} HAVING count(*) > 1 ORDER BY {key}"  # noqa: S608


def _columns_in_the_way(connection: Connection, existing: Existing) -> Iterator[AdoptionError]:
    table = existing.table
    for name, found in existing.columns_of_another_type.items():
        yield AdoptionError(
            f"{table}.{name} is {found}, and the service writes {COLUMNS[table][name]}",
            f"ALTER TABLE {table} ALTER COLUMN {name} TYPE … USING …, while the older service is stopped",
        )
    for name in existing.unknown_columns_that_must_be_given:
        yield AdoptionError(
            f"{table}.{name} must be given in every row, and the service does not know it",
            f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT …",
        )
    for name, kind in existing.missing_columns.items():
        if "NOT NULL" in kind and "DEFAULT" not in kind and _has_rows(connection, table):
            yield AdoptionError(
                f"{table}.{name} is missing, and what the rows that are there should have in it is not known",
                f"ALTER TABLE {table} ADD COLUMN {name} {kind.split()[0]}; fill it; then run this again",
            )


def _rows_in_the_way(connection: Connection, existing: Existing) -> Iterator[AdoptionError]:
    table = existing.table
    if existing.is_unique:
        return
    if table == "notes":
        yield AdoptionError("notes has no unique id", "ALTER TABLE notes ADD PRIMARY KEY (id)")
    elif not existing.missing_columns.keys() & set(UNIQUE[table]):
        query = duplicates_query(table)
        rows = connection.execute(text(query)).all()
        if rows:
            shown = "; ".join(", ".join(map(str, row)) for row in rows[:SHOWN_ROWS])
            more = " …" if len(rows) > SHOWN_ROWS else ""
            yield AdoptionError(
                f"{table} holds {len(rows)} duplicates under a missing unique constraint: {shown}{more}",
                f"{query}; keep one row of each, then run this again",
            )


def _has_rows(connection: Connection, table: str) -> bool:
    return connection.execute(text(f"SELECT 1 FROM {table} LIMIT 1")).first() is not None  # noqa: S608
