"""The service's tables, and a look at those that a database already has."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "notes": {
        "id": "serial PRIMARY KEY",
        "text": "text NOT NULL",
        "timestamp": "timestamp NOT NULL DEFAULT now()",
        "expires_at": "timestamp",
        "likes": "integer NOT NULL DEFAULT 0",
        "views": "integer NOT NULL DEFAULT 0",
        "reports": "integer NOT NULL DEFAULT 0",
        "author_fp": "varchar(64)",
        "deleted_at": "timestamp",
    },
    "view_log": {
        "note_id": "integer NOT NULL",
        "fingerprint": "varchar(128) NOT NULL",
        "day": "text NOT NULL",
        "created_at": "timestamp NOT NULL DEFAULT now()",
    },
    "like_log": {
        "note_id": "integer NOT NULL",
        "fingerprint": "varchar(128) NOT NULL",
        "created_at": "timestamp NOT NULL DEFAULT now()",
    },
    "report_log": {
        "note_id": "integer NOT NULL",
        "fingerprint": "varchar(128) NOT NULL",
        "reason": "text",
        "created_at": "timestamp NOT NULL DEFAULT now()",
    },
}
UNIQUE: Mapping[str, tuple[str, ...]] = {
    "view_log": ("note_id", "fingerprint", "day"),
    "like_log": ("note_id", "fingerprint"),
    "report_log": ("note_id", "fingerprint"),
}
# What a column may be instead, by the first word of what it should be. Times with a zone are something else.
ACCEPTED_TYPES: Mapping[str, tuple[str, ...]] = {
    "serial": ("integer", "bigint"),
    "integer": ("integer", "bigint"),
    "text": ("text", "character varying"),
    "varchar(64)": ("text", "character varying"),
    "varchar(128)": ("text", "character varying"),
    "timestamp": ("timestamp without time zone",),
}

# An index that ON CONFLICT can use: complete, immediate, without conditions or expressions.
SELECT_UNIQUE_INDEXES = """
SELECT array_agg(attname::text ORDER BY attname)
FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
WHERE indrelid = to_regclass(:table) AND indisunique AND indisvalid AND indimmediate
  AND indpred IS NULL AND indexprs IS NULL
GROUP BY indexrelid
"""
SELECT_COLUMNS = """
SELECT attname::text, atttypid::regtype::text AS type,
       attnotnull AND NOT atthasdef AND attidentity = '' AS must_be_given, atthasdef
FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped
"""


@dataclass(frozen=True)
class Existing:
    """A table as it is now: its columns and their types (none when it is not there), and its uniqueness.

    ``must_be_given`` are the columns that have neither a default nor may be null, ``defaulted`` those with
    a default.
    """

    table: str
    types: Mapping[str, str] = field(default_factory=dict)
    must_be_given: frozenset[str] = frozenset()
    defaulted: frozenset[str] = frozenset()
    is_unique: bool = False

    @property
    def is_there(self) -> bool:
        return bool(self.types)

    @property
    def missing_columns(self) -> Mapping[str, str]:
        return {name: kind for name, kind in COLUMNS[self.table].items() if name not in self.types}

    @property
    def unknown_columns_that_must_be_given(self) -> list[str]:
        return sorted(self.must_be_given - set(COLUMNS[self.table]))

    @property
    def columns_of_another_type(self) -> Mapping[str, str]:
        wanted = COLUMNS[self.table]
        return {
            name: found
            for name, found in self.types.items()
            if name in wanted and found not in ACCEPTED_TYPES[wanted[name].split()[0]]
        }


def look(connection: Connection, table: str) -> Existing:
    """Look at one of the tables."""
    columns = connection.execute(text(SELECT_COLUMNS), {"table": table}).all()
    indexes = connection.execute(text(SELECT_UNIQUE_INDEXES), {"table": table}).scalars().all()
    return Existing(
        table,
        {row.attname: row.type for row in columns},
        frozenset(row.attname for row in columns if row.must_be_given),
        frozenset(row.attname for row in columns if row.atthasdef),
        sorted(UNIQUE.get(table, ("id",))) in indexes,
    )
