"""What the server tells of itself, of the role and of its connections: in one read-only transaction."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checks.adoption.address import without_password
from checks.base.errors import CannotMeasure, Misused
from checks.base.postgres import connected, rows
from checks.base.secrets import SECRET_PLACES
from checks.budget.cli import of_postgres

STATEMENT_SECONDS = 30
# Each question of the look has its own time-out; this is for one that hangs all the same.
LOOK_SECONDS = 1800
HOME = Path(__file__).resolve().parents[2]

SELECT_SERVER = """
SELECT current_setting('server_version') AS version, current_database()::text AS database,
       pg_database_size(current_database()) AS bytes, pg_encoding_to_char(encoding)::text AS encoding,
       pg_get_userbyid(datdba)::text AS owner, pg_is_in_recovery() AS is_replica,
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS is_encrypted,
       datconnlimit AS connection_limit
FROM pg_database WHERE datname = current_database()
"""
SELECT_ROLE = """
SELECT rolname::text AS name, rolsuper AS is_superuser, rolcreaterole AS may_create_roles,
       rolcreatedb AS may_create_databases, rolconnlimit AS connection_limit,
       coalesce(current_schema()::text, '') AS schema,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create_tables,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schemas,
       ARRAY(SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members WHERE member = pg_roles.oid)
         AS member_of
FROM pg_roles WHERE rolname = current_user
"""
SELECT_EXTENSIONS = "SELECT extname::text AS name, extversion AS version FROM pg_extension ORDER BY 1"
SELECT_TABLES = """
SELECT oid::regclass::text AS table, pg_total_relation_size(oid) AS bytes, reltuples::bigint AS rows_estimated
FROM pg_class WHERE oid = ANY(ARRAY(SELECT to_regclass(name) FROM
  unnest(ARRAY['notes', 'view_log', 'like_log', 'report_log']) AS name)) ORDER BY 1
"""
SELECT_OTHER_DATABASES = """
SELECT datname::text AS name FROM pg_database
WHERE NOT datistemplate AND datallowconn AND datname NOT IN (current_database(), 'postgres')
  AND has_database_privilege(datname, 'CONNECT') ORDER BY 1
"""
# Counted by the server for everybody; pg_stat_activity shows a stranger only half of it.
SELECT_USED = "SELECT coalesce(sum(numbackends), 0)::int AS used FROM pg_stat_database"


def server_of(url: str) -> dict[str, Any]:
    """Return server, role, extensions, sizes and connections; raises CannotMeasure if it does not answer."""
    with connected(url, statement_seconds=None, named="its URL") as connection:
        # Nothing is set for the session: behind a pooler it is somebody else's next.
        connection.set_session(readonly=True, autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_SECONDS * 1000}")
            numbers = of_postgres(cursor)
        (server,), (role,) = rows(connection, SELECT_SERVER), rows(connection, SELECT_ROLE)
        (used,) = rows(connection, SELECT_USED)
        limits = [each["connection_limit"] for each in (server, role) if each["connection_limit"] >= 0]
        connections = {
            "used": used["used"],
            "max": numbers["max_connections"],
            "reserved": numbers["reserved_connections"],
            "most_of_role_or_database": min(limits) if limits and not role["is_superuser"] else None,
        }
        return {
            "server": server,
            "role": role,
            "extensions": rows(connection, SELECT_EXTENSIONS),
            "tables": rows(connection, SELECT_TABLES),
            "other_databases": [row["name"] for row in rows(connection, SELECT_OTHER_DATABASES)],
            "connections": connections,
        }


def look(url: str, purge_after_days: str) -> Mapping[str, Any]:
    """Ask the service's own migrations what is in their way, in a process of its own.

    :raises CannotMeasure: it could not look, and says why.
    """
    if not (HOME / "app").is_dir():
        raise Misused(f"{HOME} has no service beside the checks. Run this in a checkout: ./p12 adopt --check")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", *SECRET_PLACES) if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "app.migrate", "look"],
            env={
                **kept,
                "LC_ALL": "C.UTF-8",
                "PYTHONPATH": str(HOME),
                "DATABASE_URL": url,
                "P12_PURGE_AFTER_DAYS": purge_after_days,
            },
            capture_output=True,
            text=True,
            timeout=LOOK_SECONDS,
            check=False,
        )
        answer: Mapping[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise CannotMeasure("The look at the tables did not come to an end.") from None
    if done.returncode:
        said = without_password(answer["error"], url)
        raise CannotMeasure(f"The tables cannot be looked at: {said}. {answer['hint']}")
    return answer
