"""The server and the role: whether a migration could work there at all."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, text

from app.store.migrations.adoption.obstacle import Obstacle, Weight, in_words, some
from app.store.migrations.tables import COLUMNS

# The oldest that its makers still mended when this was written.
OLDEST_SERVER = 13

SELECT_SERVER = """
SELECT current_setting('server_version_num')::int / 10000 AS version, pg_is_in_recovery() AS is_replica,
       current_setting('default_transaction_read_only')::boolean AS is_read_only,
       current_setting('server_encoding') AS encoding, current_database()::text AS database,
       current_user::text AS role, current_schema()::text AS schema,
       current_setting('search_path') AS search_path,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
       EXISTS (SELECT FROM pg_language WHERE lanname = 'plpgsql' AND has_language_privilege(oid, 'USAGE'))
         AS has_plpgsql
"""
SELECT_FOREIGN_OWNERS = """
SELECT relname::text AS table, pg_get_userbyid(relowner)::text AS owner FROM pg_class
WHERE oid = ANY(ARRAY(SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name))
  AND NOT pg_has_role(relowner, 'USAGE') ORDER BY relname
"""
SELECT_LACKING = """
SELECT relname::text AS table, string_agg(privilege, ', ' ORDER BY privilege) AS lacking
FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
WHERE pg_class.oid = ANY(ARRAY(SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name))
  AND NOT has_table_privilege(pg_class.oid, privilege) GROUP BY relname ORDER BY relname
"""
SELECT_ROW_SECURITY = """
SELECT relname::text AS table FROM pg_class
WHERE oid = ANY(ARRAY(SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name))
  AND row_security_active(oid) ORDER BY relname
"""


def of_server(connection: Connection) -> Iterator[Obstacle]:
    """What the server itself, the schema and the role do not allow."""
    return judge_server(dict(connection.execute(text(SELECT_SERVER)).mappings().one()))


def judge_server(server: Mapping[str, Any]) -> Iterator[Obstacle]:
    """Judge a row of ``SELECT_SERVER``; reads nothing else."""
    database, role, schema = (_quoted(server[name] or "") for name in ("database", "role", "schema"))
    if server["version"] < OLDEST_SERVER:
        error = f"the server is Postgres {server['version']}; supported are {OLDEST_SERVER} and newer"
        yield Obstacle("old_server", Weight.STOPS, error, "upgrade it with pg_upgrade, or move by a dump")
    if server["is_replica"]:
        error = "the server is a replica, which takes no writes"
        yield Obstacle("read_only", Weight.STOPS, error, "give the address of the primary")
    elif server["is_read_only"]:
        error = f"transactions of {role} in {database} are read-only by default_transaction_read_only"
        mend = f"ALTER DATABASE {database} RESET default_transaction_read_only, or ALTER ROLE {role} …"
        yield Obstacle("read_only", Weight.STOPS, error, mend)
    if server["encoding"] != "UTF8":
        error = f"the database's encoding is {server['encoding']}, and notes may hold any Unicode"
        yield Obstacle("encoding", Weight.HARMS, error, "move by a dump into a database of ENCODING 'UTF8'")
    if not server["schema"]:
        error = f"no schema of the search path ({server['search_path']}) is there"
        mend = f"ALTER ROLE {role} IN DATABASE {database} SET search_path = public"
        yield Obstacle("no_rights", Weight.STOPS, error, mend)
    elif not server["may_create"]:
        error = f"{role} may create nothing in the schema {schema}, and migrations do"
        yield Obstacle("no_rights", Weight.STOPS, error, f"GRANT CREATE ON SCHEMA {schema} TO {role}")
    if not server["has_plpgsql"]:
        error = f"{role} may not use the language plpgsql, in which views are counted"
        mend = f"CREATE EXTENSION plpgsql; GRANT USAGE ON LANGUAGE plpgsql TO {role}"
        yield Obstacle("no_rights", Weight.STOPS, error, mend)


def of_owners(connection: Connection) -> Iterator[Obstacle]:
    """Tables that the role may not alter: only a table's owner may."""
    role = _quoted(connection.execute(text("SELECT current_user")).scalar_one())
    count, rows = some(connection, SELECT_FOREIGN_OWNERS, tables=list(COLUMNS))
    if count:
        error = f"{count} tables belong to somebody that {role} is no member of: {in_words(count, rows)}"
        mend = "; ".join(f"ALTER TABLE {row['table']} OWNER TO {role}" for row in rows)
        query = "SELECT tablename, tableowner FROM pg_tables ORDER BY 1"
        yield Obstacle("foreign_owner", Weight.STOPS, error, mend, query, count, rows)


def of_rights(connection: Connection) -> Iterator[Obstacle]:
    """Rights on the rows that the role lacks, and policies that hide rows from it."""
    role = _quoted(connection.execute(text("SELECT current_user")).scalar_one())
    count, rows = some(connection, SELECT_LACKING, tables=list(COLUMNS))
    if count:
        error = f"{role} lacks rights on {count} tables: {in_words(count, rows)}"
        mend = "; ".join(f"GRANT {row['lacking']} ON {row['table']} TO {role}" for row in rows)
        query = "SELECT * FROM information_schema.table_privileges WHERE grantee = current_user"
        yield Obstacle("no_rights", Weight.STOPS, error, mend, query, count, rows)
    count, rows = some(connection, SELECT_ROW_SECURITY, tables=list(COLUMNS))
    if count:
        error = f"row security may hide rows from {role}: {in_words(count, rows)}"
        mend = "; ".join(f"ALTER TABLE {row['table']} DISABLE ROW LEVEL SECURITY" for row in rows)
        yield Obstacle("row_security", Weight.HARMS, error, mend, "SELECT * FROM pg_policies", count, rows)


def _quoted(name: str) -> str:
    """A name as SQL takes it."""
    plain = name.replace("_", "").isalnum() and name.isascii() and name.islower() and not name[:1].isdigit()
    return name if plain else '"{}"'.format(name.replace('"', '""'))
