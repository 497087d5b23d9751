"""Prove an archive by restoring it, and restore one that was proven."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from checks.backup import digest as contents
from checks.backup import manifest, smoke
from checks.backup.archive import Archive
from checks.backup.digest import Contents
from checks.backup.disk_hints import explained
from checks.backup.manifest import Backup, Manifest
from checks.backup.scratch_cluster import scratch
from checks.base.errors import CannotMeasure, Misused
from checks.base.postgres import connected
from checks.base.postgres_tools import Tools, environment, for_database
from checks.base.report import Finding, Verdict, combine, compare

RESTORED = "restored"
# libpq would take postgresql://… or name=value for more than a name.
NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
SCHEMA_ONLY = ("--schema-only", "--no-owner", "--no-privileges")


class Refused(Exception):
    """What was dumped or restored is not what is in the source; ``findings`` say how."""

    def __init__(self, message: str, findings: tuple[Finding, ...]) -> None:
        super().__init__(message)
        self.findings = findings


def prove(
    tools: Tools,
    archive: Archive,
    dumped: Contents,
    seen: Mapping[str, Any],
    encoding: str,
    place: Path,
    run_dir: Path,
) -> tuple[Finding, ...]:
    """Examine an archive in a scratch cluster of its own, with its files in ``place``."""
    # Named while the cluster is still there: once it is removed, there is space again.
    with scratch(tools, place, run_dir) as url, explained(place):
        return examine(tools, archive, dumped, seen, encoding, url)


def examine(
    tools: Tools, archive: Archive, dumped: Contents, seen: Mapping[str, Any], encoding: str, url: str
) -> tuple[Finding, ...]:
    """Read an archive to its end, restore it into a new database, and compare with what was dumped.

    ``seen`` is what the service read then; it also writes to the copy, after everything was compared.
    """
    archive.read_to_its_end(tools)
    copy = restore(tools, archive, url, RESTORED, encoding, ["--no-owner", "--no-privileges"])
    with connected(for_database(url, RESTORED), tools.seconds) as connection:
        answered = smoke.read(connection, seen["at"]) if seen else {}
        refused = smoke.write(connection) if seen else ""
    return contents.same(dumped, copy) + smoke.same(seen, answered, refused)


def restore(
    tools: Tools, archive: Archive, url: str, dbname: str, encoding: str, options: list[str]
) -> Contents:
    """Restore an archive into a new database of a server and return what it then holds.

    Raises Misused if the database is there.
    """
    create(url, dbname, encoding)
    return fill(tools, archive, url, dbname, options)


def create(url: str, dbname: str, encoding: str) -> None:
    """Create an empty database; raises Misused if it is there."""
    with connected(url) as connection, connection.cursor() as cursor:
        name = psycopg2.extensions.quote_ident(dbname, connection)
        try:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING %s", (encoding,))
        except (psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
            words = f"Database {dbname} is there already."
            raise Misused(f"{words} Name a new one; nothing is overwritten.") from None


def fill(tools: Tools, archive: Archive, url: str, dbname: str, options: list[str]) -> Contents:
    """Restore an archive into an empty database and return what it then holds."""
    target = for_database(url, dbname)
    archive.restore(tools, [*options, f"--dbname={dbname}"], environment(target))
    schema = tools.run("pg_dump", SCHEMA_ONLY, environment(target))
    with connected(target, tools.seconds) as connection:
        with connection.cursor() as cursor:
            cursor.execute(contents.SETTINGS)
        return Contents(
            contents.read_tables(connection),
            contents.read_sequences(connection),
            contents.schema_sha256(schema),
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
        size, digest = archive.stat().st_size, manifest.sha256(archive)
        roles_digest = manifest.sha256(roles) if roles else ""
    except OSError as error:
        raise CannotMeasure(f"{said.id} cannot be read: {error}. Use another backup.") from None
    found: tuple[Finding, ...] = (
        compare("size_bytes", size, "==", said.size_bytes, "The archive was cut short or added to."),
        compare("sha256", digest, "==", said.sha256, "The archive is not the one that was proven."),
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
    Refused if the archive or the copy is not what the manifest says; the copy is dropped then.
    """
    tools, said = tools or Tools(), kept.manifest
    _require_name(dbname)
    if kept.archive is None:
        raise Misused(f"{said.id} holds nothing: there was nothing to lose when it was made.")
    require_key(kept, identity, tools)
    archive = Archive(kept.archive, identity if said.encrypted_to else "")
    found = verify(kept.archive, said, tools, identity)
    if not is_proven(found):
        raise Refused(f"{said.id} is damaged; nothing was restored. Use another backup.", found)
    # Outside of what drops it again: another one's database is not ours to drop.
    create(url, dbname, said.encoding)
    try:
        if comment:
            _note(url, dbname, comment)
        copy = fill(tools, archive, url, dbname, ["--no-owner"])
        found += contents.same(said.contents, copy)
        if not is_proven(found):
            raise Refused(f"{dbname} did not become what {said.id} says; it was dropped.", found)
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


def _note(url: str, dbname: str, comment: str) -> None:
    with connected(url) as connection, connection.cursor() as cursor:
        name = psycopg2.extensions.quote_ident(dbname, connection)
        cursor.execute(f"COMMENT ON DATABASE {name} IS %s", (comment,))


def is_proven(findings: tuple[Finding, ...]) -> bool:
    return combine(finding.verdict for finding in findings) is Verdict.PASSED


def drop(url: str, dbname: str) -> None:
    with contextlib.suppress(CannotMeasure), connected(url) as connection, connection.cursor() as cursor:
        name = psycopg2.extensions.quote_ident(dbname, connection)
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
