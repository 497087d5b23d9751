"""Prove an archive by restoring it, and restore one that was proven."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2 import sql

from checks.backup import catalog, digest, manifest, properties, smoke
from checks.backup.archive import Archive
from checks.backup.digest import Contents
from checks.backup.manifest import Backup, Manifest
from checks.backup.properties import Properties
from checks.base.errors import CannotMeasure, Misused
from checks.base.postgres import connected, rows
from checks.base.postgres_tools import Tools, environment, for_database
from checks.base.report import Finding, Verdict, combine, compare

RESTORED = "restored"
# libpq would take postgresql://… or name=value for more than a name.
NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
SCHEMA_ONLY = ("--schema-only", "--no-tablespaces")
# What a backup of an older kit was compared by, and what can be restored where roles are missing.
UNOWNED = ("--no-owner", "--no-privileges")
# What a database says of its sessions must not keep it from being filled.
FILLING = "-c default_transaction_read_only=off"


class NotProven(Exception):
    """What was dumped or restored is not what is in the source; ``findings`` say how."""

    def __init__(self, message: str, findings: tuple[Finding, ...]) -> None:
        super().__init__(message)
        self.findings = findings


def examine(
    tools: Tools,
    archive: Archive,
    dumped: Contents,
    seen: Mapping[str, Any],
    source: Properties,
    url: str,
    search_path: Sequence[str] = ("public",),
) -> tuple[Finding, ...]:
    """Read an archive to its end, restore it into a new database, and compare with what was dumped.

    ``source`` belongs to the database that was dumped, and to the copy too then. ``seen`` is what the service
    read, in the schemas of ``search_path``; it also writes to the copy, after everything was compared.
    """
    archive.read_to_its_end(tools)
    create(url, RESTORED, source.locale)
    with connected(url, named="") as connection:
        properties.apply(connection, RESTORED, source)
        other = source.differences(properties.read(connection, RESTORED))
    copy = fill(tools, archive, url, RESTORED, ["--no-tablespaces"])
    with connected(url, named="") as connection:
        # The superuser finds what the service's own role finds.
        ours = ("", "search_path", ", ".join(f'"{name}"' for name in search_path))
        kept = [each for each in source.settings if each[:2] != ours[:2]]
        properties.apply(connection, RESTORED, replace(source, settings=[*kept, ours]))
    with connected(for_database(url, RESTORED), tools.seconds) as connection:
        answered = smoke.read(connection, seen["at"]) if seen else {}
        refused = smoke.write(connection) if seen else ""
    belongs = compare("properties_that_differ", len(other), "==", 0, "; ".join(other))
    return (*digest.same(dumped, copy), belongs, *smoke.same(seen, answered, refused))


def create(url: str, dbname: str, locale: Mapping[str, str]) -> None:
    """Create an empty database; raises Misused if it is there, or if the host lacks its locale."""
    options = " ".join(f"{option} %s" for option in locale)
    with connected(url) as connection:
        try:
            statement = f"CREATE DATABASE {{}} TEMPLATE template0 {options}"
            _execute(connection, statement, dbname, *locale.values())
        except psycopg2.errors.WrongObjectType:
            words = f"Postgres on this host lacks the database's locale, {locale}."
            raise Misused(f"{words} Install it (Debian: dpkg-reconfigure locales).") from None
        except (psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
            words = f"Database {dbname} is there already."
            raise Misused(f"{words} Name a new one; nothing is overwritten.") from None


def _execute(connection: Any, statement: str, dbname: str, *values: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement).format(sql.Identifier(dbname)), values or None)


def fill(
    tools: Tools, archive: Archive, url: str, dbname: str, options: Sequence[str], legacy: Sequence[str] = ()
) -> Contents:
    """Restore an archive into an empty database and return what it then holds."""
    target = for_database(url, dbname)
    archive.restore(tools, [*options, f"--dbname={dbname}"], environment(target, PGOPTIONS=FILLING))
    schema = tools.run("pg_dump", [*SCHEMA_ONLY, *legacy], environment(target))
    with connected(target, tools.seconds) as connection:
        with connection.cursor() as cursor:
            cursor.execute(digest.SETTINGS)
        return Contents(
            digest.read_tables(connection),
            digest.read_sequences(connection),
            digest.schema_sha256(schema),
            catalog.read_objects(connection),
        )


def verify(
    archive: Path | None, said: Manifest, tools: Tools | None = None, identity: str = ""
) -> tuple[Finding, ...]:
    """Hold a kept archive against its manifest and read it to its end; changes nothing.

    An encrypted one is read only with the ``identity`` that opens it; its digest says as much.
    """
    if archive is None:
        return (compare("nothing_to_lose", int(said.nothing_to_lose), "==", 1),)
    roles = archive.with_name(said.globals) if said.globals else None
    try:
        size, sha256 = archive.stat().st_size, manifest.sha256(archive)
        roles_digest = manifest.sha256(roles) if roles else ""
    except OSError as error:
        raise CannotMeasure(f"{said.id} cannot be read: {error}. Use another backup.") from None
    found: tuple[Finding, ...] = (
        compare("size_bytes", size, "==", said.size_bytes, "The archive was cut short or added to."),
        compare("sha256", sha256, "==", said.sha256, "The archive is not the one that was proven."),
    )
    if roles:
        words = "The roles were changed."
        found += (compare("globals_sha256", roles_digest, "==", said.globals_sha256, words),)
    if is_proven(found) and (identity or not said.encrypted_to):
        Archive(archive, identity if said.encrypted_to else "").read_to_its_end(tools or Tools())
    return found


def restore_into(
    url: str,
    kept: Backup,
    dbname: str,
    tools: Tools | None = None,
    identity: str = "",
    comment: str = "",
    locale: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Finding, ...]:
    """Restore a kept backup into a new database beside the one in ``url``, and compare.

    The database named in ``url`` is not touched. ``identity`` is the private key that opens an encrypted one;
    ``comment`` stands at the new database from its first moment, so one that was killed is known by it; it
    has the ``locale`` given, else the one that was dumped. Owners and privileges come along where all of
    their roles are there.
    Raises Misused if ``dbname`` exists or is no name, there is nothing to restore or no key to open it, and
    NotProven if the archive or the copy is not what the manifest says; the copy is dropped then.
    """
    tools, said = tools or Tools(), kept.manifest
    _require_name(dbname)
    if kept.archive is None:
        raise Misused(f"{said.id} holds nothing: there was nothing to lose when it was made.")
    require_key(kept, identity, tools)
    archive = Archive(kept.archive, identity if said.encrypted_to else "")
    found = verify(kept.archive, said, tools, identity)
    if not is_proven(found):
        raise NotProven(f"{said.id} is damaged; nothing was restored. Use another backup.", found)
    # Outside of what drops it again: another one's database is not ours to drop.
    create(url, dbname, locale or said.locale or {"ENCODING": said.encoding})
    try:
        if comment:
            with connected(url) as connection:
                _execute(connection, "COMMENT ON DATABASE {} IS %s", dbname, comment)
        found += _filled(tools, archive, url, dbname, said)
        if not is_proven(found):
            raise NotProven(f"{dbname} did not become what {said.id} says; it was dropped.", found)
    except BaseException:
        drop(url, dbname)
        raise
    return found


def _filled(tools: Tools, archive: Archive, url: str, dbname: str, said: Manifest) -> tuple[Finding, ...]:
    """Restore and compare; without owners and privileges where a role of theirs is missing."""
    with connected(url) as connection:
        there = {found["role"] for found in rows(connection, "SELECT rolname AS role FROM pg_roles")}
    missing = sorted(set(said.roles) - there)
    words = f"Restored without owners and privileges; {said.globals} has the roles." if missing else ""
    lacking = compare("roles_missing", len(missing), ">=", 0, f"{', '.join(missing)}. {words}".strip(". "))
    wanted = said.contents
    if said.objects and not missing:
        return digest.same(wanted, fill(tools, archive, url, dbname, []))
    copy = fill(tools, archive, url, dbname, UNOWNED if missing else UNOWNED[:1], UNOWNED)
    if missing:
        # What is left can be held against nothing that was noted with them.
        copy = replace(copy, schema_sha256=wanted.schema_sha256, objects=wanted.objects)
    return (*digest.same(wanted, copy), lacking)


def require_key(kept: Backup, identity: str, tools: Tools | None = None) -> None:
    """Raise Misused unless a backup is plain, or ``identity`` is a private key that opens it.

    Tried on the roles, which are small and encrypted to the same keys.
    """
    said = kept.manifest
    if not said.encrypted_to:
        return
    to = ", ".join(said.encrypted_to)
    if not identity:
        raise Misused(f"{said.id} is encrypted to {to}. Give the private key: --identity FILE")
    if said.globals:
        try:
            Archive(kept.directory / said.globals, identity).require_globals(tools or Tools())
        except CannotMeasure as error:
            words = f"{said.id} cannot be opened with the key that was given: {error}"
            raise Misused(f"{words} Give the private key of {to}: --identity FILE") from None


def _require_name(dbname: str) -> None:
    if not NAME.fullmatch(dbname):
        accepted = "Accepted: up to 63 of a-z, 0-9 and _, the first of them not a digit."
        raise Misused(f"{dbname!r} is no name for a database. {accepted}")


def is_proven(findings: tuple[Finding, ...]) -> bool:
    return combine(finding.verdict for finding in findings) is Verdict.PASSED


def drop(url: str, dbname: str) -> None:
    with contextlib.suppress(CannotMeasure), connected(url) as connection:
        _execute(connection, "DROP DATABASE IF EXISTS {} WITH (FORCE)", dbname)
