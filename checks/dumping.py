"""Make a backup and prove it: dumped in one snapshot, restored into a scratch cluster, compared, kept.

Only what is proven gets a manifest, and only what has a manifest is a backup. Connects direct, never through
a pooler: a dump through one leaves its search_path behind for other clients.
"""

import contextlib
import dataclasses
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2.extensions

from checks import contents, manifest
from checks.contents import Contents
from checks.database import connected
from checks.errors import CannotMeasure, Misused
from checks.manifest import PARTIAL, SUFFIX, Manifest
from checks.postgres_tools import Tools, environment
from checks.proof import SCHEMA_ONLY, SPACE_HINT, Refused, full_disk_explained, is_proven, prove
from checks.scratch import clear

# What a fresh cluster and its WAL take besides the data.
SCRATCH_BYTES = 400 * 1024**2
POLL_SECONDS = 0.2
# A socket's name must be short; the directory made in it is private.
RUN_DIR = Path("/tmp")  # noqa: S108


@dataclass(frozen=True)
class Plan:
    """What to back up, and where to. ``url`` holds a secret; seconds are how long to wait for what."""

    url: str = field(repr=False)
    out: Path
    tools: Tools
    target: str
    release: str
    run_dir: Path = RUN_DIR
    queue_seconds: float = 600.0
    lock_seconds: float = 30.0
    now: Callable[[], float] = time.time
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free


@dataclass(frozen=True)
class Source:
    """The database as the dump will see it."""

    database: str
    system_identifier: str
    server_version: str
    server_major: int
    encoding: str
    bytes: int
    has_notes: bool
    schema_revision: str | None


def backup(plan: Plan) -> Manifest:
    """Back a database up and prove the backup; return the manifest that was written last.

    Raises Misused for what cannot be asked for, CannotMeasure if it could not be done, and Refused if the
    proof failed. In each of these cases nothing new is left behind, and earlier backups are untouched.
    """
    forbid_root()
    tools_major, tools_version = plan.tools.version()
    with sole_backup(plan.out, plan.queue_seconds):
        with connected(plan.url, plan.tools.seconds) as connection:
            source = look(connection)
            if tools_major != source.server_major:
                hint = f"Set --bin-dir to the programs of Postgres {source.server_major}."
                raise Misused(
                    f"The server is Postgres {source.server_version}, pg_dump {tools_version}. {hint}"
                )
            started = plan.now()
            made = Manifest(
                id=identifier(plan, started),
                target=plan.target,
                release=plan.release,
                nothing_to_lose=not source.has_notes,
                started_at=started,
                finished_at=started,
                database=source.database,
                system_identifier=source.system_identifier,
                server_version=source.server_version,
                encoding=source.encoding,
                tools_version=tools_version,
                schema_revision=source.schema_revision,
                database_bytes=source.bytes,
            )
            if source.has_notes:
                need_space(plan, source)
                made = _dump_and_prove(plan, made, source, connection)
        made = dataclasses.replace(made, finished_at=plan.now())
        manifest.write_durably(plan.out / f"{made.id}{SUFFIX}", made.to_json())
        return made


def _dump_and_prove(
    plan: Plan, made: Manifest, source: Source, connection: psycopg2.extensions.connection
) -> Manifest:
    partial = plan.out / f"{made.id}.dump{PARTIAL}"
    try:
        begun = time.monotonic()
        dumped = dump(plan, partial, connection)
        dump_seconds = time.monotonic() - begun
        findings = prove(plan.tools, partial, dumped, source.encoding, plan.out, plan.run_dir)
        if not is_proven(findings):
            raise Refused("The backup does not hold what the database holds; it was thrown away.", findings)
        sha256, size = manifest.sha256(partial), partial.stat().st_size
        manifest.settle(partial, plan.out / f"{made.id}.dump")
    finally:
        partial.unlink(missing_ok=True)
    return dataclasses.replace(
        made,
        archive=f"{made.id}.dump",
        size_bytes=size,
        sha256=sha256,
        schema_sha256=dumped.schema_sha256,
        tables=dumped.tables,
        sequences=dumped.sequences,
        dump_seconds=round(dump_seconds, 3),
        proof_seconds=round(time.monotonic() - begun - dump_seconds, 3),
    )


def look(connection: psycopg2.extensions.connection) -> Source:
    """Read what the manifest says about a database."""
    with connection.cursor() as cursor:

        def one(query: str) -> Any:
            cursor.execute(query)
            row = cursor.fetchone()
            return row[0] if row else None

        has_revision = one("SELECT to_regclass('alembic_version') IS NOT NULL")
        return Source(
            database=one("SELECT current_database()"),
            system_identifier=str(one("SELECT system_identifier FROM pg_control_system()")),
            server_version=str(one("SHOW server_version")).split()[0],
            server_major=int(one("SHOW server_version_num")) // 10000,
            encoding=one("SHOW server_encoding"),
            bytes=int(one("SELECT pg_database_size(current_database())")),
            has_notes=bool(one("SELECT to_regclass('notes') IS NOT NULL")),
            schema_revision=one("SELECT version_num FROM alembic_version") if has_revision else None,
        )


def dump(plan: Plan, archive: Path, connection: psycopg2.extensions.connection) -> Contents:
    """Dump a database into an archive and return what it held in the snapshot that was dumped."""
    variables = environment(plan.url)
    wait = f"--lock-wait-timeout={plan.lock_seconds * 1000:.0f}"
    sequences = contents.read_sequences(connection)
    with connection.cursor() as cursor:
        cursor.execute(contents.SETTINGS)
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            cursor.execute("SELECT pg_export_snapshot()")
            (snapshot,) = cursor.fetchone() or ("",)
            in_it = [f"--snapshot={snapshot}", wait]
            with full_disk_explained(plan.out):
                os.close(os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
                plan.tools.run("pg_dump", ["-Fc", "-Z1", "-f", archive, *in_it], variables)
            schema = plan.tools.run("pg_dump", [*SCHEMA_ONLY, *in_it], variables).stdout
            tables = contents.read_tables(connection)
        finally:
            cursor.execute("ROLLBACK")
    return Contents(tables, sequences, contents.schema_sha256(schema))


def forbid_root() -> None:
    if os.geteuid() == 0:
        hint = "Run it as the backup's own user: setpriv --reuid=USER --regid=GROUP --clear-groups …"
        raise Misused(f"The scratch cluster of a backup cannot run as root. {hint}")


def identifier(plan: Plan, started: float) -> str:
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started))
    return f"{when}-{plan.target}-{re.sub(r'[^0-9A-Za-z]', '', plan.release)[:12] or 'none'}"


def need_space(plan: Plan, source: Source) -> None:
    """Raise CannotMeasure if the archive and the restored copy would not fit."""
    needed = 2 * source.bytes + SCRATCH_BYTES
    free = plan.free_bytes(plan.out)
    if free < needed:
        short = f"{plan.out} has {free // 1024**2} MB free; dump and proof may need {needed // 1024**2} MB."
        raise CannotMeasure(f"{short} {SPACE_HINT}")


@contextlib.contextmanager
def sole_backup(out: Path, seconds: float) -> Iterator[None]:
    """Hold the directory's lock, waiting for it; clear away what killed backups left behind."""
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        out.chmod(0o700)
        lock = (out / ".lock").open("a")
    except OSError as error:
        raise Misused(f"--out {out} cannot be used: {error}. It must belong to this user.") from None
    with lock:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    waited = f"Another backup has been running in {out} for more than {seconds:g} s."
                    raise CannotMeasure(f"{waited} Wait for it, or look whether it hangs.") from None
                time.sleep(POLL_SECONDS)
        clear(out)
        for left in out.glob(f"*{PARTIAL}"):
            left.unlink(missing_ok=True)
        yield
