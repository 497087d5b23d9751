"""Give a restored database, and everything in it, to the role that serves from it."""

from typing import Any

from psycopg2 import sql

# A sequence that belongs to a column follows its table, and what an extension made stays with it.
OBJECTS = """
WITH ours AS (SELECT oid, nspname FROM pg_namespace
  WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%'),
extension AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
SELECT 'TABLE', c.oid::regclass::text FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND ('pg_class'::regclass, c.oid) NOT IN (SELECT * FROM extension)
  AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
           AND d.objid = c.oid AND d.deptype IN ('a', 'i')))
UNION ALL
SELECT 'ROUTINE', p.oid::regprocedure::text FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace
WHERE ('pg_proc'::regclass, p.oid) NOT IN (SELECT * FROM extension)
UNION ALL
SELECT 'TYPE', t.oid::regtype::text FROM pg_type t JOIN ours n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd') AND ('pg_type'::regclass, t.oid) NOT IN (SELECT * FROM extension)
UNION ALL
SELECT 'SCHEMA', quote_ident(nspname) FROM ours WHERE nspname <> 'public'
"""


def give(cursor: Any, database: str, owner: str) -> None:
    """Make ``owner`` the owner of the database that the cursor is in, and of everything it holds."""
    role = sql.Identifier(owner)
    cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), role))
    cursor.execute(OBJECTS)
    for kind, name in cursor.fetchall():
        # The names come quoted from the server itself.
        cursor.execute(sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(kind), sql.SQL(name), role))
