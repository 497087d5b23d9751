"""Code at the tables that is not the service's: triggers, functions, rules, foreign keys, each with its text.

Which of them are harmless cannot be told from their text, so each that runs is in the way.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from app.store.migrations.adoption.obstacle import Obstacle, Weight
from app.store.migrations.tables import COLUMNS

RETURNS = "Today's service makes it again each time it starts: end that first"

TABLES = "ANY(ARRAY(SELECT to_regclass(name)::oid FROM unnest(CAST(:tables AS text[])) AS name))"
SELECT_TRIGGERS = f"""
SELECT tgname::text AS name, tgrelid::regclass::text AS table, tgenabled::text AS enabled,
       pg_get_triggerdef(pg_trigger.oid) AS definition, tgfoid::regprocedure::text AS function,
       pg_get_functiondef(tgfoid) AS body
FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = {TABLES} ORDER BY 2, 1
"""
# What a trigger runs is told with the trigger; what the service made is its own.
SELECT_FUNCTIONS = """
SELECT pg_proc.oid::regprocedure::text AS name, pg_get_functiondef(pg_proc.oid) AS body
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE prokind IN ('f', 'p') AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%'
  AND proname NOT LIKE 'p12\\_%'
  AND prosrc ~ ('\\m(' || array_to_string(CAST(:tables AS text[]), '|') || ')\\M')
  AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = pg_proc.oid AND NOT tgisinternal)
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid
                  AND deptype = 'e')
ORDER BY 1
"""
SELECT_RULES = f"""
SELECT rulename::text AS name, ev_class::regclass::text AS table, pg_get_ruledef(pg_rewrite.oid) AS definition
FROM pg_rewrite WHERE rulename <> '_RETURN' AND ev_class = {TABLES} ORDER BY 2, 1
"""
SELECT_FOREIGN_KEYS = f"""
SELECT conname::text AS name, conrelid::regclass::text AS table, confrelid::regclass::text AS parent,
       pg_get_constraintdef(oid) AS definition
FROM pg_constraint WHERE contype = 'f' AND conrelid = {TABLES}
  AND confrelid IS DISTINCT FROM to_regclass('notes')::oid ORDER BY 2, 1
"""


def triggers(connection: Connection) -> Iterator[Obstacle]:
    """Every trigger on the tables, with its text and that of its function."""
    for row in connection.execute(text(SELECT_TRIGGERS), {"tables": list(COLUMNS)}):
        is_off = row.enabled == "D"
        says = "is switched off" if is_off else "runs with every change there"
        yield Obstacle(
            "trigger",
            Weight.TELLS if is_off else Weight.HARMS,
            f"the trigger {row.name} on {row.table} {says}, and is not the service's",
            f'DROP TRIGGER "{row.name}" ON {row.table}; '
            f"once no trigger runs it, DROP FUNCTION {row.function}. {RETURNS}",
            f"SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = '{row.table}'::regclass",
            rows=({"trigger": row.name, "table": row.table, "function": row.function},),
            text=f"{row.definition};\n{row.body}",
        )


def functions(connection: Connection) -> Iterator[Obstacle]:
    """Every other function that speaks of the tables: it does nothing by itself."""
    for row in connection.execute(text(SELECT_FUNCTIONS), {"tables": list(COLUMNS)}):
        yield Obstacle(
            "function",
            Weight.TELLS,
            f"the function {row.name} speaks of the tables, and no trigger runs it",
            f"it stays as it is; if nobody calls it: DROP FUNCTION {row.name}",
            f"SELECT pg_get_functiondef('{row.name}'::regprocedure)",
            text=row.body,
        )


def rules(connection: Connection) -> Iterator[Obstacle]:
    """Rules that make something else of a statement."""
    for row in connection.execute(text(SELECT_RULES), {"tables": list(COLUMNS)}):
        yield Obstacle(
            "rule",
            Weight.HARMS,
            f"the rule {row.name} on {row.table} makes something else of the service's statements",
            f'DROP RULE "{row.name}" ON {row.table}',
            f"SELECT * FROM pg_rules WHERE tablename = '{row.table}'",
            rows=({"rule": row.name, "table": row.table},),
            text=row.definition,
        )


def foreign_keys(connection: Connection) -> Iterator[Obstacle]:
    """Foreign keys that ask for a row in a table which the service does not write."""
    for row in connection.execute(text(SELECT_FOREIGN_KEYS), {"tables": list(COLUMNS)}):
        yield Obstacle(
            "foreign_key",
            Weight.HARMS,
            f"{row.table} asks for a row in {row.parent}, which the service does not write",
            f'ALTER TABLE {row.table} DROP CONSTRAINT "{row.name}"',
            f"SELECT conname FROM pg_constraint WHERE conrelid = '{row.table}'::regclass",
            rows=({"constraint": row.name, "table": row.table, "parent": row.parent},),
            text=row.definition,
        )
