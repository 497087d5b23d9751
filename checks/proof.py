"""Prove an archive by restoring it, and restore one that was proven."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg2.extensions

from checks import contents, manifest
from checks.contents import Contents
from checks.database import connected
from checks.errors import CannotMeasure, Misused
from checks.manifest import Backup, Manifest
from checks.postgres_tools import Tools, environment, for_database
from checks.report import Finding, Verdict, combine, compare
from checks.scratch import scratch

JOBS = "2"
SCHEMA_ONLY = ("--schema-only", "--no-owner", "--no-privileges")
SPACE_HINT = "Free some space or set --out elsewhere; earlier backups are untouched."


class Refused(Exception):
    """What was dumped or restored is not what is in the source; ``findings`` say how."""

    def __init__(self, message: str, findings: tuple[Finding, ...]) -> None:
        super().__init__(message)
        self.findings = findings


def prove(
    tools: Tools, archive: Path, dumped: Contents, encoding: str, place: Path, run_dir: Path
) -> tuple[Finding, ...]:
    """Read an archive to its end, restore it into a scratch cluster, and compare with what was dumped."""
    with full_disk_explained(place):
        # Listing an archive reads only its head: one cut short or changed further in lists well.
        tools.run("pg_restore", ["-f", os.devnull, archive], environment())
        with scratch(tools, place, run_dir) as url:
            copy = restore(tools, archive, url, "restored", encoding, ["--no-owner", "--no-privileges"])
    return contents.same(dumped, copy)


def restore(
    tools: Tools, archive: Path, url: str, dbname: str, encoding: str, options: list[str]
) -> Contents:
    """Restore an archive into a new database of a server and return what it then holds."""
    with connected(url, tools.seconds) as connection, connection.cursor() as cursor:
        name = psycopg2.extensions.quote_ident(dbname, connection)
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING %s", (encoding,))
    target = for_database(url, dbname)
    tools.run(
        "pg_restore",
        ["--exit-on-error", f"--jobs={JOBS}", *options, f"--dbname={dbname}", archive],
        environment(target),
    )
    schema = tools.run("pg_dump", SCHEMA_ONLY, environment(target)).stdout
    with connected(target, tools.seconds) as connection:
        with connection.cursor() as cursor:
            cursor.execute(contents.SETTINGS)
        return Contents(
            contents.read_tables(connection),
            contents.read_sequences(connection),
            contents.schema_sha256(schema),
        )


def verify(archive: Path | None, said: Manifest, tools: Tools | None = None) -> tuple[Finding, ...]:
    """Hold a kept archive against its manifest and read it to its end; changes nothing."""
    if archive is None:
        return (compare("nothing_to_lose", int(said.nothing_to_lose), "==", 1),)
    try:
        size, digest = archive.stat().st_size, manifest.sha256(archive)
    except OSError as error:
        raise CannotMeasure(f"{archive} cannot be read: {error}. Use another backup.") from None
    found = (
        compare("size_bytes", size, "==", said.size_bytes, "The archive was cut short or added to."),
        compare("sha256", digest, "==", said.sha256, "The archive is not the one that was proven."),
    )
    if is_proven(found):
        (tools or Tools()).run("pg_restore", ["-f", os.devnull, archive], environment())
    return found


def restore_into(url: str, kept: Backup, dbname: str, tools: Tools | None = None) -> tuple[Finding, ...]:
    """Restore a kept backup into a new database beside the one in ``url``, and compare.

    The database named in ``url`` is not touched. Raises Misused if ``dbname`` exists or there is nothing to
    restore, Refused if the archive or the copy is not what the manifest says; the copy is dropped then.
    """
    tools, said = tools or Tools(), kept.manifest
    if kept.archive is None:
        raise Misused(f"{said.id} holds nothing: there was nothing to lose when it was made.")
    found = verify(kept.archive, said, tools)
    if not is_proven(found):
        raise Refused(f"{said.id} is damaged; nothing was restored. Use another backup.", found)
    with connected(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)", (dbname,))
        if (cursor.fetchone() or (True,))[0]:
            raise Misused(f"Database {dbname} is there already. Name a new one; nothing is overwritten.")
    try:
        copy = restore(tools, kept.archive, url, dbname, said.encoding, ["--no-owner"])
        found += contents.same(said.contents, copy)
        if not is_proven(found):
            raise Refused(f"{dbname} did not become what {said.id} says; it was dropped.", found)
    except BaseException:
        drop(url, dbname)
        raise
    return found


def is_proven(findings: tuple[Finding, ...]) -> bool:
    return combine(finding.verdict for finding in findings) is Verdict.PASSED


def drop(url: str, dbname: str) -> None:
    with contextlib.suppress(CannotMeasure), connected(url) as connection, connection.cursor() as cursor:
        name = psycopg2.extensions.quote_ident(dbname, connection)
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextlib.contextmanager
def full_disk_explained(place: Path) -> Iterator[None]:
    """Say what to do when a program says that the disk is full."""
    try:
        yield
    except (CannotMeasure, OSError) as error:
        if isinstance(error, CannotMeasure) and not re.search(r"No space left|SIGXFSZ|too large", str(error)):
            raise
        raise CannotMeasure(f"{place}: {error} {SPACE_HINT}") from None
