"""What belongs to a database itself and not to what it holds: no restore into another one brings it along."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg2 import sql

from checks.base.postgres import rows

READ = """
SELECT d.oid, d.datdba::regrole::text AS owner, d.datconnlimit AS connection_limit,
       coalesce(shobj_description(d.oid, 'pg_database'), '') AS comment,
       pg_encoding_to_char(encoding) AS "ENCODING", datcollate AS "LC_COLLATE", datctype AS "LC_CTYPE",
       CASE to_jsonb(d)->>'datlocprovider' WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu'
         WHEN 'b' THEN 'builtin' END AS "LOCALE_PROVIDER",
       coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale') AS locale,
       to_jsonb(d)->>'daticurules' AS "ICU_RULES"
FROM pg_database d WHERE datname = %s
"""
PRIVILEGES = """
SELECT coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC') AS role, privilege_type, is_grantable
FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE datname = %s
"""
SETTINGS = """
SELECT coalesce(nullif(setrole, 0)::regrole::text, '') AS role,
       split_part(each, '=', 1) AS name, substr(each, strpos(each, '=') + 1) AS value
FROM pg_db_role_setting, unnest(setconfig) AS each WHERE setdatabase = %s
"""
LOCALE = ("ENCODING", "LC_COLLATE", "LC_CTYPE", "LOCALE_PROVIDER", "ICU_RULES")
# These are lists of names, each quoted by itself.
LISTS = ("search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries")
LISTED = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


@dataclass(frozen=True)
class Properties:
    """``locale`` are options of CREATE DATABASE; roles are quoted as SQL takes them, no role is all."""

    locale: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    connection_limit: int = -1
    comment: str = ""
    privileges: Sequence[tuple[str, str, bool]] = ()
    settings: Sequence[tuple[str, str, str]] = ()

    def differences(self, other: "Properties") -> list[str]:
        """Say what another database has otherwise; of settings, which may be secrets, only the names."""
        settings = {name for _, name, _ in set(self.settings) ^ set(other.settings)}
        return [
            f"{name.replace('_', ' ')} {getattr(self, name)!r}, and there {getattr(other, name)!r}"
            for name in vars(self)
            if name != "settings" and getattr(self, name) != getattr(other, name)
        ] + ([f"settings {', '.join(sorted(settings))}"] if settings else [])


def read(connection: Any, dbname: str) -> Properties:
    """Read what belongs to a database, from any database of its cluster."""
    (found,) = rows(connection, READ, [dbname])
    locale = {name: found[name] for name in LOCALE if found[name]}
    if found["locale"]:
        kind = "ICU" if locale["LOCALE_PROVIDER"] == "icu" else "BUILTIN"
        locale[f"{kind}_LOCALE"] = found["locale"]
    return Properties(
        locale,
        found["owner"],
        found["connection_limit"],
        found["comment"],
        sorted(tuple(each.values()) for each in rows(connection, PRIVILEGES, [dbname])),
        sorted(tuple(each.values()) for each in rows(connection, SETTINGS, [found["oid"]])),
    )


def apply(connection: Any, dbname: str, wanted: Properties) -> None:
    """Give a database all of it but the locale, which it was created with."""

    def execute(statement: str, **words: sql.Composable) -> None:
        rows(connection, sql.SQL(statement).format(db=sql.Identifier(dbname), **words))

    execute("COMMENT ON DATABASE {db} IS {text}", text=sql.Literal(wanted.comment or None))
    # Roles and privileges are as the server itself spells them.
    execute("ALTER DATABASE {db} OWNER TO {role}", role=sql.SQL(wanted.owner))
    execute("ALTER DATABASE {db} CONNECTION LIMIT {number}", number=sql.Literal(wanted.connection_limit))
    there = read(connection, dbname)
    for role, privilege, _ in there.privileges:
        execute("REVOKE {what} ON DATABASE {db} FROM {role}", what=sql.SQL(privilege), role=sql.SQL(role))
    for role, privilege, is_grantable in wanted.privileges:
        option = sql.SQL(" WITH GRANT OPTION" if is_grantable else "")
        grant = {"what": sql.SQL(privilege), "role": sql.SQL(role), "option": option}
        execute("GRANT {what} ON DATABASE {db} TO {role}{option}", **grant)
    for role in {role for role, _, _ in there.settings}:
        execute(f"{_of(role)} RESET ALL", role=sql.SQL(role))
    for role, setting, value in wanted.settings:
        given = {"role": sql.SQL(role), "name": sql.SQL(setting), "value": _spelt(setting, value)}
        execute(f"{_of(role)} SET {{name}} TO {{value}}", **given)


def _of(role: str) -> str:
    return "ALTER ROLE {role} IN DATABASE {db}" if role else "ALTER DATABASE {db}"


def _spelt(setting: str, value: str) -> sql.Composable:
    if setting not in LISTS:
        return sql.Literal(value)
    names = [plain or quoted.replace('""', '"') for quoted, plain in LISTED.findall(value)]
    return sql.SQL(", ").join(map(sql.Literal, names or [""]))
