"""What a database holds, in numbers that two databases can be compared by."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg2 import sql

from checks.base.postgres import rows
from checks.base.report import Finding, compare

# How a row reads as text must not depend on either server's settings.
SETTINGS = (
    "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET timezone = 'UTC';"
    " SET extra_float_digits = 1; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET row_security = off;"
    " SET idle_in_transaction_session_timeout = 0"
)
# Of what an extension made, a dump holds only the rows that the extension says are its users' own.
RELATIONS = """
SELECT n.nspname, c.relname, coalesce(e.extcondition[array_position(e.extconfig, c.oid)], '') AS condition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = d.refobjid
WHERE c.relkind = ANY(%s) AND c.relpersistence <> 't' AND c.relispopulated
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%%'
  AND (d.objid IS NULL OR c.oid = ANY(e.extconfig))
ORDER BY 1, 2
"""
TABLES, VIEWS_WITH_ROWS, FOREIGN, SEQUENCE = "r", "m", "f", "S"
HAS_ROW = "SELECT EXISTS (SELECT FROM ONLY {} {}) AS is_there"
HAS_LARGE_OBJECT = "SELECT EXISTS (SELECT FROM pg_largeobject_metadata) AS is_there"
# The sum does not depend on the order of the rows, and unlike an xor it counts a row that is there twice.
DIGEST = """
SELECT count(*) AS rows, coalesce(sum(hashtextextended(p12_row::text, 0)::numeric), 0)::text AS digest
FROM ONLY {} AS p12_row {}
"""
# In parts, for a large object may be larger than a value.
LARGE_OBJECTS = """
WITH RECURSIVE part(object, number, bytes) AS (
  SELECT oid, 0::bigint, lo_get(oid, 0, 4194304) FROM pg_largeobject_metadata
  UNION ALL SELECT object, number + 1, lo_get(object, (number + 1) * 4194304, 4194304)
  FROM part WHERE length(bytes) = 4194304)
SELECT count(DISTINCT object) AS rows,
       sum(hashtextextended(concat_ws(' ', object, number, md5(bytes)), 0)::numeric)::text AS digest
FROM part
"""
SEQUENCES = """
SELECT schemaname || '.' || sequencename AS name, schemaname, sequencename, last_value, increment_by
FROM pg_sequences
"""
# One that gave out nothing since it was set has no last value yet.
UNUSED = "SELECT last_value - CASE WHEN is_called THEN 0 ELSE {} END AS value FROM {}"
# What pg_dump writes anew each time, or from the server's version.
UNSTABLE = re.compile(r"^(--.*|\\(un)?restrict .*|)$")
NAMED = 5


@dataclass(frozen=True)
class Contents:
    """Rows and digest of each table, how far each sequence got, and digests of the schema and its objects.

    Without ``objects`` it is of an older kit, which saw neither large objects, rows of extensions' tables,
    owners nor privileges.
    """

    tables: Mapping[str, Mapping[str, Any]]
    sequences: Mapping[str, int]
    schema_sha256: str = ""
    objects: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(table["rows"] for table in self.tables.values())


def read_sequences(connection: Any) -> dict[str, int]:
    """Read every sequence; its value belongs to no snapshot, so read it before the dump does."""
    held = relations(connection, SEQUENCE)
    return {
        found["name"]: _reached(connection, held[found["name"]][0], found)
        for found in rows(connection, SEQUENCES)
        if found["name"] in held
    }


def _reached(connection: Any, name: sql.Composable, found: Mapping[str, Any]) -> int:
    """How far a sequence got in its own direction."""
    value, step = found["last_value"], found["increment_by"]
    if value is None:
        value = rows(connection, sql.SQL(UNUSED).format(sql.Literal(step), name))[0]["value"]
    return int(value if step > 0 else -value)


def relations(connection: Any, kinds: str) -> dict[str, tuple[sql.Composable, sql.Composable]]:
    """Name what a dump holds of these kinds, in any schema: as SQL, and the condition its rows must meet."""
    return {
        f"{found['nspname']}.{found['relname']}": (
            sql.Identifier(found["nspname"], found["relname"]),
            sql.SQL(found["condition"]),
        )
        for found in rows(connection, RELATIONS, [list(kinds)])
    }


def has_rows(connection: Any) -> bool:
    """Say whether there is a row or a large object in anything that is the database's own."""
    asked = [
        sql.SQL(HAS_ROW).format(*each) for each in relations(connection, TABLES + VIEWS_WITH_ROWS).values()
    ]
    return any(rows(connection, query)[0]["is_there"] for query in [sql.SQL(HAS_LARGE_OBJECT), *asked])


def read_tables(connection: Any) -> dict[str, dict[str, Any]]:
    """Count and digest every table, in the transaction that the connection is in, if it is in one."""
    tables = {
        name: rows(connection, sql.SQL(DIGEST).format(*table))[0]
        for name, table in relations(connection, TABLES).items()
    }
    (large,) = rows(connection, LARGE_OBJECTS)
    return tables | ({"large objects": large} if large["rows"] else {})


def schema_sha256(dumped: str) -> str:
    """Digest what ``pg_dump --schema-only`` wrote, without what changes from dump to dump."""
    lines = [line for line in dumped.splitlines() if not UNSTABLE.match(line)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def same(source: Contents, copy: Contents) -> tuple[Finding, ...]:
    """Hold a copy against its source, whose sequences were read earlier and may have gone on since."""
    if not source.objects:
        known = {name: table for name, table in copy.tables.items() if name in source.tables}
        copy = replace(copy, tables=known, objects={})
    absent = sorted(source.tables.keys() ^ copy.tables.keys())
    both = source.tables.keys() & copy.tables.keys()
    differing = sorted(name for name in both if source.tables[name] != copy.tables[name])
    behind = sorted(name for name, value in source.sequences.items() if copy.sequences.get(name, -1) < value)
    others = {name for name, _ in source.objects.items() ^ copy.objects.items()}
    rows = f"{copy.rows} rows in the copy, {source.rows} in the source."
    return (
        compare("tables", len(copy.tables), ">=", 1, "Nothing was restored."),
        compare("tables_not_in_both", len(absent), "==", 0, _named(absent)),
        compare("tables_that_differ", len(differing), "==", 0, f"{_named(differing)} {rows}"),
        compare("rows", copy.rows, "==", source.rows, _named(differing)),
        compare("sequences_behind", len(behind), "==", 0, _named(behind)),
        compare("schema", copy.schema_sha256[:12], "==", source.schema_sha256[:12], "pg_dump -s differs."),
        compare("objects_that_differ", len(others), "==", 0, _named(sorted(others))),
    )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}." if names else ""
