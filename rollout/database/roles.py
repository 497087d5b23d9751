"""Roles and the database of a target, made over the local socket by the cluster's superuser."""

from typing import Any

from psycopg2 import sql

from rollout.database.postgres import Cluster
from rollout.target.dsn import MONITOR, OWNER
from rollout.target.target import Target
from rollout.waiting import attempts

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


def ensure(target: Target, seconds: float = 30.0) -> dict[str, Any]:
    """Create what is missing and set the passwords that the inventory holds. Repeating changes nothing.

    ``paste12`` owns the database and is what the service and its migrations use; ``p12_monitor`` reads
    statistics (``pg_monitor``) and rows, and writes nothing.

    :raises RolloutError: the server does not answer.
    """
    changed: list[str] = []
    cluster, name = Cluster.of(target), target.settings["database"]
    any(cluster.answers() for _ in attempts(seconds, pause=0.1))  # one that does not says why below
    with cluster.cursor() as cursor:
        for role, secret in ((OWNER, "database"), (MONITOR, "monitor")):
            identifier = sql.Identifier(role)
            if not _exists(cursor, "SELECT 1 FROM pg_roles WHERE rolname = %s", role):
                cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(identifier))
                changed.append(f"role {role}")
            password = sql.Literal(target.secrets[secret])
            cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(identifier, password))
        cursor.execute(sql.SQL("GRANT pg_monitor, pg_read_all_data TO {}").format(sql.Identifier(MONITOR)))
        if not _exists(cursor, "SELECT 1 FROM pg_database WHERE datname = %s", name):
            create = sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0")
            cursor.execute(create.format(sql.Identifier(name), sql.Identifier(OWNER)))
            changed.append(f"database {name}")
    return {"changed": bool(changed), "created": changed}


def give(cursor: Any, database: str, owner: str, is_all: bool = True) -> None:
    """Make ``owner`` the owner of the database that the cursor is in, and of all it holds if ``is_all``."""
    role = sql.Identifier(owner)
    cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), role))
    cursor.execute(OBJECTS if is_all else f"{OBJECTS} LIMIT 0")
    for kind, name in cursor.fetchall():
        # The names come quoted from the server itself.
        cursor.execute(sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(kind), sql.SQL(name), role))


def _exists(cursor: Any, query: str, name: str) -> bool:
    cursor.execute(query, [name])
    return cursor.fetchone() is not None
