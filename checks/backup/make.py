"""Make a backup and prove it: dumped in one snapshot, restored into a scratch cluster, compared, kept.

Only what is proven gets a manifest, and only what has a manifest is a backup. Connects direct, never through
a pooler: a dump through one leaves its search_path behind for other clients.
"""

import dataclasses
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2.extensions

from checks.backup import age, catalog, digest, manifest, smoke
from checks.backup.archive import Archive, store
from checks.backup.digest import Contents
from checks.backup.directory import sole_backup
from checks.backup.disk_hints import SPACE_HINT, disk_hints
from checks.backup.manifest import Manifest
from checks.backup.scratch_cluster import furnish, scratch
from checks.backup.snapshot import Source, blocked, has_rows, read_source, snapshot
from checks.backup.verify import RESTORED, SCHEMA_ONLY, NotProven, examine, is_proven
from checks.base.errors import CannotMeasure, Misused
from checks.base.files import PARTIAL, publish
from checks.base.postgres import connected
from checks.base.postgres_tools import Tools, environment, for_database

# What a fresh cluster and its WAL take besides the data.
SCRATCH_BYTES = 400 * 1024**2
# A socket's name must be short; the directory made in it is private.
RUN_DIR = Path("/tmp")  # noqa: S108


# What only the proof needs to know of a source; a database's settings may hold secrets.
NOT_KEPT = ("search_path", "lc_monetary", "extensions", "properties")


@dataclass(frozen=True)
class BackupPlan:
    """What to back up, and where to. ``url`` holds a secret; seconds are how long to wait for what.

    ``recipients`` are the public keys that can open it, none for a plain one; ``watching`` is a DSN that may
    see what others do, to name who holds a lock.
    """

    url: str = field(repr=False)
    out: Path
    tools: Tools
    target: str
    release: str
    run_dir: Path = RUN_DIR
    queue_seconds: float = 600.0
    lock_seconds: float = 30.0
    recipients: tuple[str, ...] = ()
    watching: str = field(default="", repr=False)
    # Called with the DSN of the restored copy once it was found equal; the copy is its to change.
    on_copy: Callable[[str], None] | None = None
    now: Callable[[], float] = time.time
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free


@dataclass(frozen=True)
class Dumped:
    """What the database held in the snapshot that was dumped, and what the service would have read."""

    contents: Contents
    smoke: Mapping[str, Any]
    lsn: str
    seconds: float


@dataclass(frozen=True)
class Files:
    """The files of a backup under way, and the key that opens them until they are proven."""

    archive: Path
    globals: Path
    recipients: tuple[str, ...] = ()
    identity: str = field(default="", repr=False)


def backup(plan: BackupPlan) -> Manifest:
    """Back a database up and prove the backup; return the manifest that was written last.

    Raises Misused for what cannot be asked for, CannotMeasure if it could not be done, and NotProven if the
    proof failed. In each of these cases nothing new is left behind, and earlier backups are untouched.
    """
    forbid_root()
    age.check_recipients(plan.recipients)
    tools_major, tools_version = plan.tools.version()
    with sole_backup(plan.out, plan.queue_seconds):
        with connected(plan.url, plan.tools.seconds) as connection:
            source = read_source(connection)
            if tools_major != source.server_major:
                hint = f"Set --bin-dir to the programs of Postgres {source.server_major}."
                raise Misused(
                    f"The server is Postgres {source.server_version}, pg_dump {tools_version}. {hint}"
                )
            made = _begun(plan, source, tools_version)
            if has_rows(connection, plan.lock_seconds, plan.watching or plan.url):
                need_space(plan, source)
                made = _dump_and_prove(plan, made, source, connection)
            else:
                made = dataclasses.replace(made, nothing_to_lose=True)
        made = dataclasses.replace(made, finished_at=plan.now())
        with disk_hints(plan.out):
            made.write(plan.out)
        return made


def _begun(plan: BackupPlan, source: Source, tools_version: str) -> Manifest:
    started = plan.now()
    return Manifest(
        id=identifier(plan, started),
        target=plan.target,
        release=plan.release,
        started_at=started,
        finished_at=started,
        nothing_to_lose=False,
        locale=source.properties.locale,
        tools_version=tools_version,
        **{name: value for name, value in vars(source).items() if name not in NOT_KEPT},
    )


def _dump_and_prove(
    plan: BackupPlan, made: Manifest, source: Source, connection: psycopg2.extensions.connection
) -> Manifest:
    files = _files(plan, made)
    kept = [plan.out / path.name.removesuffix(PARTIAL) for path in (files.archive, files.globals)]
    try:
        with disk_hints(plan.out):
            dumped = dump(plan, files, connection)
        begun = time.monotonic()
        # Digested before the proof reads it, so that what changes after that is not what was proven.
        made = dataclasses.replace(
            made,
            archive=kept[0].name,
            size_bytes=files.archive.stat().st_size,
            sha256=manifest.sha256(files.archive),
            globals=kept[1].name,
            globals_sha256=manifest.sha256(files.globals),
            encrypted_to=plan.recipients,
            lsn=dumped.lsn,
            smoke=dumped.smoke,
            schema_sha256=dumped.contents.schema_sha256,
            tables=dumped.contents.tables,
            sequences=dumped.contents.sequences,
            objects=dumped.contents.objects,
            dump_seconds=round(dumped.seconds, 3),
        )
        _prove(plan, files, dumped, source)
        made = dataclasses.replace(made, proof_seconds=round(time.monotonic() - begun, 3))
        publish(files.archive, kept[0])
        publish(files.globals, kept[1])
    finally:
        files.archive.unlink(missing_ok=True)
        files.globals.unlink(missing_ok=True)
    return made


def _files(plan: BackupPlan, made: Manifest) -> Files:
    ending = f"{age.SUFFIX if plan.recipients else ''}{PARTIAL}"
    archive, roles = (plan.out / f"{made.id}.{kind}{ending}" for kind in ("dump", "globals.sql"))
    if not plan.recipients:
        return Files(archive, roles)
    key = age.new_key()
    return Files(archive, roles, (*plan.recipients, key.recipient), key.identity)


def dump(plan: BackupPlan, files: Files, connection: psycopg2.extensions.connection) -> Dumped:
    """Dump a database into files and return what it held in the snapshot that was dumped."""
    variables = environment(plan.url)
    watching = plan.watching or plan.url
    # A sequence's value belongs to no snapshot.
    sequences = digest.read_sequences(connection)
    with snapshot(connection, plan.lock_seconds, watching) as (name, lsn):
        in_it = [f"--snapshot={name}", f"--lock-wait-timeout={plan.lock_seconds * 1000:.0f}"]
        begun = time.monotonic()
        try:
            dumping = plan.tools.program("pg_dump", ["-Fc", "-Z1", *in_it], variables)
            store(dumping, files.archive, files.recipients, plan.tools.seconds)
            seconds = time.monotonic() - begun
            schema = plan.tools.run("pg_dump", [*SCHEMA_ONLY, *in_it], variables)
        except CannotMeasure as error:
            if "lock timeout" in str(error):
                raise CannotMeasure(blocked(watching, plan.lock_seconds)) from None
            raise
        held = digest.read_tables(connection)
        seen = smoke.read(connection)
        objects = catalog.read_objects(connection)
    roles = plan.tools.program("pg_dumpall", ["--globals-only", "--no-role-passwords"], variables)
    store(roles, files.globals, files.recipients, plan.tools.seconds)
    return Dumped(Contents(held, sequences, digest.schema_sha256(schema), objects), seen, lsn, seconds)


def _prove(plan: BackupPlan, files: Files, dumped: Dumped, source: Source) -> None:
    """Raise NotProven unless what is stored, as whoever has the key will read it, is what was dumped."""
    for stored in (files.archive, files.globals) if files.recipients else ():
        seen = age.recipients_in(stored)
        if seen != len(files.recipients):
            raise CannotMeasure(
                f"{stored.name} can be opened by {seen} keys, not by {len(files.recipients)}. Back up again."
            )
    roles = Archive(files.globals, files.identity).require_globals(plan.tools)
    archive = Archive(files.archive, files.identity)
    # What was wrong is named while the cluster is still there: once it is removed, there is space again.
    settings = {"lc_monetary": source.lc_monetary}
    with scratch(plan.tools, plan.out, plan.run_dir, settings) as url, disk_hints(plan.out):
        furnish(url, roles, source.extensions)
        findings = examine(
            plan.tools, archive, dumped.contents, dumped.smoke, source.properties, url, source.search_path
        )
        if plan.on_copy and is_proven(findings):
            plan.on_copy(for_database(url, RESTORED))
    if not is_proven(findings):
        raise NotProven("The backup does not hold what the database holds; it was thrown away.", findings)


def forbid_root() -> None:
    if os.geteuid() == 0:
        hint = "Run it as the backup's own user: setpriv --reuid=USER --regid=GROUP --clear-groups …"
        raise Misused(f"The scratch cluster of a backup cannot run as root. {hint}")


def identifier(plan: BackupPlan, started: float) -> str:
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started))
    return f"{when}-{plan.target}-{re.sub(r'[^0-9A-Za-z]', '', plan.release)[:12] or 'none'}"


def need_space(plan: BackupPlan, source: Source) -> None:
    """Raise CannotMeasure if the archive and the restored copy would not fit."""
    needed = 2 * source.database_bytes + SCRATCH_BYTES
    free = plan.free_bytes(plan.out)
    if free < needed:
        short = f"{plan.out} has {free // 1024**2} MB free; dump and proof may need {needed // 1024**2} MB."
        raise CannotMeasure(f"{short} {SPACE_HINT}")
