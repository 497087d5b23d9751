"""Put a restored copy in the live database's place, on the database host."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg2
from psycopg2 import sql

from checks.backup.manifest import Backup
from checks.base.errors import CannotMeasure
from checks.base.postgres import connected
from rollout.database import backup_list
from rollout.database.comments import copy_name, mark_of, set_mark, split, written
from rollout.database.pgbouncer import Pooler, paused
from rollout.database.postgres import Cluster
from rollout.database.restore_copy import refuse_given_up, require_room
from rollout.errors import Refused, RolloutError
from rollout.host.run_checks import as_rollout_error, postgres_tools
from rollout.target.dsn import OWNER, database_url
from rollout.target.target import Target
from rollout.waiting import attempts

# Two looks of a worker and more; nothing may have written for so long.
QUIET_SECONDS = 2.0
QUIET_DEADLINE_SECONDS = 30.0
SMOKE = (
    "SELECT id, text, timestamp, expires_at, likes, views, reports, author_fp, deleted_at FROM notes LIMIT 9",
    "SELECT count(*) FROM view_log",
    "SELECT version_num FROM alembic_version",
)
# The newest transaction that wrote and is over, and how many write now.
WRITTEN = """
SELECT pg_snapshot_xmax(pg_current_snapshot())::text,
  (SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL)
"""
WRITERS = """
SELECT concat_ws(' ', pid, usename, application_name, coalesce(client_addr::text, 'socket'))
FROM pg_stat_activity WHERE backend_xid IS NOT NULL LIMIT 3
"""


def losses(target: Target, backup_id: str, identity: str = "") -> dict[str, Any]:
    """Count what the live database has that a backup has not, by the time the backup was begun.

    :raises RolloutError: the backup cannot be restored, which is better known before writes are refused.
    """
    kept = backup_list.require_verified(target.directory / "backups", backup_id)
    _require_restorable(target, kept, identity)
    live, made = target.settings["database"], kept.manifest
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(made.started_at))
    notes: int | None
    views: int | None
    try:
        notes, views = _newer(Cluster.of(target), live, begun)
        words = f"{notes} notes and {views} views newer than that will be lost"
    except RolloutError as error:
        notes, views = None, None
        words = f"what is newer than that cannot be counted: {error}"
    ago = backup_list.age(time.time() - made.started_at)
    return {
        "backup": backup_id,
        "notes": notes,
        "views": views,
        "say": f"{target.name}: {backup_id}, {ago} old ({begun} UTC), of release {made.release or 'none'}, "
        f"over the live database {live}: {words} (they stay in the database that is replaced)",
    }


def _require_restorable(target: Target, kept: Backup, identity: str) -> None:
    from checks.backup import verify

    cluster, name = Cluster.of(target), kept.manifest.id
    with as_rollout_error(target, "restore"):
        verify.require_key(kept, identity, postgres_tools(target))
    # A restore that was killed may be further than to need any room.
    if (
        mark_of(cluster, copy_name(name))
        or mark_of(cluster, target.settings["database"]).get("backup") == name
    ):
        return
    require_room(target, kept)


def _newer(cluster: Cluster, live: str, begun: str) -> tuple[int, int]:
    """Count notes and views since a time, none where the service has not been yet."""
    with cluster.cursor(live) as cursor:
        cursor.execute("SELECT to_regclass('notes') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return 0, 0
        cursor.execute(
            "SELECT (SELECT count(*) FROM notes WHERE timestamp > %(begun)s),"
            " (SELECT count(*) FROM view_log WHERE created_at > %(begun)s)",
            {"begun": begun},
        )
        notes, views = cursor.fetchone()
        return int(notes), int(views)


def await_quiet(target: Target) -> dict[str, Any]:
    """Show that nothing writes any more: read-only slots answered, and their workers have stopped.

    Proven by the server itself, so a worker on a host that does not answer is seen as well.

    :raises Refused: somebody goes on writing; says who.
    """
    with Cluster.of(target).cursor() as cursor:
        last, since = "", time.monotonic()
        for _ in attempts(QUIET_DEADLINE_SECONDS, pause=0.1):
            cursor.execute(WRITTEN)
            completed, running = cursor.fetchone()
            if running or completed != last:
                last, since = completed, time.monotonic()
            if time.monotonic() - since >= QUIET_SECONDS:
                break
        else:
            cursor.execute(WRITERS)
            who = "; ".join(row[0] for row in cursor.fetchall()) or "short transactions"
            raise Refused(
                f"{target.name}: something still writes, though the target is read-only: {who}.",
                "End it, then the same command again",
            )
    return {"say": f"{target.name}: nothing has been written for {QUIET_SECONDS:g} s; workers stand still"}


def swap(target: Target, backup_id: str, restoration: int) -> dict[str, Any]:
    """Put a finished copy in the live database's place, by name, while pgbouncer holds its clients.

    :raises Refused: this restore has no finished copy or was given up, the service could not use it, or
        something writes.
    """
    cluster, live, name = Cluster.of(target), target.settings["database"], copy_name(backup_id)
    done = mark_of(cluster, live)
    if done.get("restoration") == restoration:
        return {"replaced": done["replaced"], "say": f"{target.name}: {backup_id} is live already"}
    refuse_given_up(done, restoration)
    _make_ready(target, name, {"backup": backup_id, "restoration": restoration})
    replaced = time.strftime(f"{live}_replaced_%Y%m%d_%H%M%S", time.gmtime())
    mark = {"backup": backup_id, "restoration": restoration, "replaced": replaced}
    seconds = target.settings["pause_seconds"]
    deadline = time.monotonic() + seconds
    with paused(Pooler.of(target), seconds) as pause:
        _exchange(cluster, live, name, mark, deadline)
    return {
        "changed": True,
        "replaced": replaced,
        "paused_seconds": pause.seconds,
        "say": f"{target.name}: {backup_id} is live; readers waited {pause.seconds:.2f} s at most",
    }


def _make_ready(target: Target, name: str, wanted: dict[str, Any]) -> None:
    cluster = Cluster.of(target)
    if mark_of(cluster, name) != wanted:
        raise Refused(
            f"{name} is not a finished copy of {wanted['backup']} for restore {wanted['restoration']}.",
            "The same command again",
        )
    carry_properties_over(cluster, target.settings["database"], name)
    smoke(target, name)
    # Asked again, for whoever drives this may have slept since it was asked.
    await_quiet(target)
    carry_sequences_on(cluster, target.settings["database"], name)


def carry_properties_over(cluster: Cluster, live: str, name: str) -> None:
    """Give a copy what belongs to the live database itself: owner, settings, limit, privileges and comment.

    :raises Refused: the copy differs in any of these afterwards, or in its locale.
    """
    from checks.backup import properties

    with cluster.cursor() as cursor:
        wanted = properties.read(cursor.connection, live)
        copy = properties.read(cursor.connection, name)
        mark = split(copy.comment)[1]
        wanted = replace(wanted, comment=written(mark, split(wanted.comment)[0]))
        properties.apply(cursor.connection, name, wanted)
        different = wanted.differences(properties.read(cursor.connection, name))
    if different:
        raise Refused(
            f"{live} has what its copy {name} has not: {'; '.join(different)}.",
            "./p12 restore --give-up, then the restore again",
        )


def smoke(target: Target, name: str) -> None:
    """Read from a database what the service reads, as its own role, and write as it does, which is undone.

    :raises Refused: either is not possible.
    """
    from checks.backup.smoke import write

    try:
        with connected(database_url(target, OWNER, name), named="") as connection:
            with connection.cursor() as cursor:
                for query in SMOKE:
                    cursor.execute(query)
            reason = write(connection)
    except CannotMeasure as error:
        reason = str(error)
    if reason:
        raise Refused(f"{name} cannot be served from: {reason}", "Use another backup")


def carry_sequences_on(cluster: Cluster, live: str, name: str) -> int:
    """Let a copy go on counting where the live database has got to; return how many sequences were behind.

    Otherwise ids of what is lost would be given out again, and old links would lead to new notes. A live
    database that cannot be read holds nothing up.
    """
    try:
        reached = _sequences(cluster, live)
    except RolloutError:
        return 0
    behind = {key for key, value in _sequences(cluster, name).items() if value < reached.get(key, 0)}
    with cluster.cursor(name) as cursor:
        for schema, sequence in sorted(behind):
            place = sql.SQL("SELECT setval(quote_ident({}) || '.' || quote_ident({}), {})")
            literals = (sql.Literal(each) for each in (schema, sequence, reached[schema, sequence]))
            cursor.execute(place.format(*literals))
    return len(behind)


def _sequences(cluster: Cluster, database: str) -> dict[tuple[str, str], int]:
    with cluster.cursor(database) as cursor:
        cursor.execute("SELECT schemaname, sequencename, coalesce(last_value, 0) FROM pg_sequences")
        return {(schema, sequence): int(value) for schema, sequence, value in cursor.fetchall()}


def _exchange(
    cluster: Cluster,
    live: str,
    name: str,
    mark: dict[str, Any],
    deadline: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Rename both in one transaction: a crash leaves either of the two states, and never one between."""
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with cluster.cursor() as cursor:
        while True:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 500) FROM pg_stat_activity WHERE datname IN (%s, %s)",
                [live, name],
            )
            try:
                cursor.execute("BEGIN")
                cursor.execute(
                    f"SET LOCAL statement_timeout = {max(100, (deadline - monotonic()) * 1000):.0f}"
                )
                cursor.execute(rename.format(sql.Identifier(live), sql.Identifier(mark["replaced"])))
                cursor.execute(rename.format(sql.Identifier(name), sql.Identifier(live)))
                set_mark(cursor, live, mark)
                cursor.execute("COMMIT")
                return
            except (psycopg2.errors.ObjectInUse, psycopg2.errors.QueryCanceled) as error:
                cursor.execute("ROLLBACK")
                if monotonic() >= deadline:
                    raise Refused(f"{live} is still in use: {error}", "The same command again") from error
