"""Prove an archive by restoring it, and restore one that was proven."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2 import sql

from checks.backup import digest, manifest, smoke
from checks.backup.archive import Archive
from checks.backup.digest import Contents
from checks.backup.manifest import Backup, Manifest
from checks.base.errors import CannotMeasure, Misused
from checks.base.postgres import connected
from checks.base.postgres_tools import Tools, environment, for_database
from checks.base.report import Finding, Verdict, combine, compare

RESTORED = "restored"
# libpq would take postgresql://… or name=value for more than a name.
NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
SCHEMA_ONLY = ("--schema-only", "--no-owner", "--no-privileges")


class NotProven(Exception):
    """What was dumped or restored is not what is in the source; ``findings`` say how."""

    def __init__(self, message: str, findings: tuple[Finding, ...]) -> None:
        super().__init__(message)
        self.findings = findings


def examine(
    tools: Tools, archive: Archive, dumped: Contents, seen: Mapping[str, Any], encoding: str, url: str
) -> tuple[Finding, ...]:
    """Read an archive to its end, restore it into a new database, and compare with what was dumped.

    ``seen`` is what the service read then; it also writes to the copy, after everything was compared.
    """
    archive.read_to_its_end(tools)
    create(url, RESTORED, encoding)
    copy = fill(tools, archive, url, RESTORED, ["--no-owner", "--no-privileges"])
    with connected(for_database(url, RESTORED), tools.seconds) as connection:
        answered = smoke.read(connection, seen["at"]) if seen else {}
        refused = smoke.write(connection) if seen else ""
    return digest.same(dumped, copy) + smoke.same(seen, answered, refused)


def create(url: str, dbname: str, encoding: str) -> None:
    """Create an empty database; raises Misused if it is there."""
    with connected(url) as connection:
        try:
            _execute(connection, "CREATE DATABASE {} TEMPLATE template0 ENCODING %s", dbname, encoding)
        except (psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
            words = f"Database {dbname} is there already."
            raise Misused(f"{words} Name a new one; nothing is overwritten.") from None


def _execute(connection: Any, statement: str, dbname: str, *values: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement).format(sql.Identifier(dbname)), values or None)


def fill(tools: Tools, archive: Archive, url: str, dbname: str, options: list[str]) -> Contents:
    """Restore an archive into an empty database and return what it then holds."""
    target = for_database(url, dbname)
    archive.restore(tools, [*options, f"--dbname={dbname}"], environment(target))
    schema = tools.run("pg_dump", SCHEMA_ONLY, environment(target))
    with connected(target, tools.seconds) as connection:
        with connection.cursor() as cursor:
            cursor.execute(digest.SETTINGS)
        return Contents(
            digest.read_tables(connection),
            digest.read_sequences(connection),
            digest.schema_sha256(schema),
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
) -> tuple[Finding, ...]:
    """Restore a kept backup into a new database beside the one in ``url``, and compare.

    The database named in ``url`` is not touched. ``identity`` is the private key that opens an encrypted one;
    ``comment`` stands at the new database from its first moment, so one that was killed is known by it.
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
    create(url, dbname, said.encoding)
    try:
        if comment:
            with connected(url) as connection:
                _execute(connection, "COMMENT ON DATABASE {} IS %s", dbname, comment)
        copy = fill(tools, archive, url, dbname, ["--no-owner"])
        found += digest.same(said.contents, copy)
        if not is_proven(found):
            raise NotProven(f"{dbname} did not become what {said.id} says; it was dropped.", found)
    except BaseException:
        drop(url, dbname)
        raise
    return found


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
