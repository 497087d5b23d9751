"""Restarts that no visitor notices, on the database host: clients wait in pgbouncer meanwhile.

Whoever keeps processes running there (systemd or supervisord) starts again what ends, so a restart needs no
root: the server is told to end, and the pause lasts until its successor answers.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollout.database import connection_budget
from rollout.database.pgbouncer import Pooler, paused
from rollout.database.postgres import Cluster
from rollout.errors import Refused, Unproven
from rollout.target.target import Target
from rollout.waiting import attempts

POLL_SECONDS = 0.02
# How long a successor may take to come, once clients no longer wait for it.
LATE_SECONDS = 60.0
# Which new values are tried in a scratch cluster, for memory and semaphores may not be enough for them.
TRIED = ("max_connections", "shared_buffers", "max_worker_processes", "wal_buffers")

RELOAD_SECONDS = 2.0
# What the file says and the server did not take: because it needs a restart, or because it is wrong.
UNAPPLIED = """
SELECT f.name, f.setting, coalesce(s.pending_restart, false), f.sourcefile, f.sourceline
FROM pg_file_settings f LEFT JOIN pg_settings s ON lower(s.name) = lower(f.name) WHERE f.error IS NOT NULL
"""


def restart_postgres(target: Target, *, forced: bool = False) -> dict[str, Any]:
    """Put settings into force that need a restart; without any, restart only when ``forced``.

    New values are held against the connection budget and tried in a scratch cluster first. Changes nothing
    but the process.

    :raises Refused: the file cannot be read, a value is over the budget or does not start, or what runs does
        not end in time.
    :raises Unproven: the successor is late; clients no longer wait for it.
    """
    cluster, pooler = Cluster.of(target), Pooler.of(target)
    pending = pending_settings(cluster)
    if not pending and not forced:
        return {"changed": False, "say": f"{target.name}: Postgres runs with what its file says"}
    _require_connections(target, pending)
    _try_out(target, pending)
    seconds = restart(cluster, pooler, target.settings["pause_seconds"])
    words = ", ".join(f"{name} = {value}" for name, value in sorted(pending.items()))
    return {
        "changed": True,
        "settings": pending,
        "paused_seconds": seconds,
        "say": f"{target.name}: Postgres restarted{' with ' + words if words else ''}; "
        f"clients waited {seconds:.2f} s at most",
    }


def restart(cluster: Cluster, pooler: Pooler, seconds: float) -> float:
    """Restart Postgres while pgbouncer holds its clients; return the seconds they waited at most."""
    with cluster.cursor() as cursor:
        # What is on disk already need not be written while everybody waits.
        cursor.execute("CHECKPOINT")
    before = cluster.pid
    deadline = time.monotonic() + seconds
    with paused(pooler, seconds) as pause:
        os.kill(before, signal.SIGINT)
        is_back = _await_successor(cluster, before, deadline - time.monotonic())
    if not is_back and not _await_successor(cluster, before, LATE_SECONDS):
        raise Unproven(
            f"Postgres did not come back in {seconds + LATE_SECONDS:g} s; clients were let go after "
            f"{pause.seconds:g} s and get 503.",
            f"Its log says why: {cluster.data.parent / 'log' / 'postgres.log'}; then ./p12 provision",
        )
    if not is_back:
        raise Unproven(
            f"Postgres is back, but later than {seconds:g} s: clients were let go after {pause.seconds:g} s "
            "and got 503 until then."
        )
    return pause.seconds


def restart_pgbouncer(target: Target) -> dict[str, Any]:
    """Run pgbouncer's program anew without closing one connection.

    A second pgbouncer takes every open socket over (``-R``), the first ends and is started again, with ``-R``
    as well, and takes them back. In-between states serve just the same.

    :raises Unproven: the sockets were not taken back; the second one goes on serving.
    """
    home = target.directory / "pgbouncer"
    started = time.monotonic()
    take_over(
        Pooler.of(target),
        [target.settings["pgbouncer"], "-R", str(home / "pgbouncer.ini")],
        target.directory / "log" / "pgbouncer.log",
    )
    seconds = time.monotonic() - started
    return {
        "changed": True,
        "say": f"{target.name}: pgbouncer runs anew after {seconds:.1f} s; no connection was closed",
    }


def resume(target: Target) -> dict[str, Any]:
    """Let clients go on, whoever paused them."""
    was_held = Pooler.of(target).resume()
    say = f"{target.name}: pgbouncer let its clients go on"
    return {"changed": was_held} | ({"say": say} if was_held else {})


def take_over(pooler: Pooler, command: list[str], log: Path) -> None:
    """Have ``command`` serve in pgbouncer's place, until its supervised successor takes over from it."""
    pooler.command("SHOW VERSION")
    with log.open("ab") as file:
        stand_in = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    try:
        status = stand_in.wait(LATE_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unproven(
            f"pgbouncer (pid {stand_in.pid}) serves, but no supervised one has taken over from it.",
            "Start it: ./p12 provision",
        ) from None
    if status:
        raise Refused(f"A second pgbouncer ended with status {status}.", f"See {log}")
    pooler.command("SHOW VERSION")


def pending_settings(cluster: Cluster) -> dict[str, str]:
    """Have Postgres read its file again, and return what it says that only a restart brings into force.

    :raises Refused: the file has an error; Postgres would not start with it.
    """
    with cluster.cursor() as cursor:
        cursor.execute("SELECT pg_reload_conf()")
        for _ in attempts(RELOAD_SECONDS, POLL_SECONDS):
            cursor.execute(UNAPPLIED)
            unapplied = cursor.fetchall()
            wrong = [row for row in unapplied if not row[2]]
            if not wrong:
                break
    if wrong:
        name, value, _, path, line = wrong[0]
        raise Refused(
            f"{path}:{line}: Postgres does not take {name} = {value}.",
            "Mend it in the inventory's group_vars",
        )
    return {name: value for name, value, *_ in unapplied}


def _require_connections(target: Target, pending: Mapping[str, str]) -> None:
    coming = {name: int(value) for name, value in pending.items() if name == "max_connections"}
    if coming:
        connection_budget.require(target, coming)


def _try_out(target: Target, pending: Mapping[str, str]) -> None:
    from checks.backup.scratch_cluster import scratch
    from checks.base.errors import CannotMeasure
    from checks.base.postgres_tools import Tools

    tried = {name: value for name, value in pending.items() if name in TRIED}
    if not tried:
        return
    tools = Tools(Path(target.settings["postgres_bin"]))
    try:
        with scratch(tools, target.directory / "backups", Path(target.settings["run"]), tried):
            pass
    except CannotMeasure as error:
        raise Refused(
            f"{target.name}: Postgres does not start with {tried}, so it was not restarted: {error}",
            "Set other values in the inventory's group_vars, then: ./p12 maintenance apply",
        ) from error


def _await_successor(cluster: Cluster, before: int, seconds: float) -> bool:
    return any(_is_succeeded(cluster, before) for _ in attempts(seconds, POLL_SECONDS))


def _is_succeeded(cluster: Cluster, before: int) -> bool:
    try:
        return cluster.pid != before and cluster.answers()
    except (OSError, ValueError, IndexError):
        return False
