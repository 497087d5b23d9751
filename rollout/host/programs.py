"""Programs that the kit runs on hosts for a target: migrations, checks, visitors, the cluster's own tools.

Secrets reach them by environment only. Nothing here runs as root.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollout.environment import environment as clean_environment
from rollout.errors import RolloutError
from rollout.files import write_bytes
from rollout.target.dsn import MONITOR, OWNER, console_url, database_url
from rollout.target.target import Target

# Ansible shows what a task says when it ends: this long nobody knows that a migration waits.
FIRST_SECONDS = 2.0
# Of so many of the newest windows evidence holds every finding.
WINDOWS = 5
POSTGRES = "postgres"


def migrate(
    target: Target, slot: str, database: str = "", briefly: bool = False, seconds: float | None = None
) -> Mapping[str, Any]:
    """Run the migrations of the release in a slot, with its own code, straight to Postgres.

    ``database`` is another one than the target's, such as a restored copy. ``seconds`` is how long to wait
    for locks in all, if not as the target's settings say; ``briefly`` waits for the first of them only, and
    then answers ``waiting`` with who is in the way, and the ``seconds`` to wait in the next run.

    :raises RolloutError: the release says why not, such as who holds a lock; no migration is half done.
    """
    longest = target.settings["migration_seconds"] if seconds is None else seconds
    bound = min(longest, FIRST_SECONDS) if briefly else longest
    release = (target.directory / "slots" / slot / "release").resolve()
    done = subprocess.run(
        [target.settings["python"], "-P", "-s", "-m", "app.migrate", "upgrade"],
        cwd=release,
        env=environment(
            PYTHONPATH=str(release / "lib"),
            DATABASE_URL=database_url(target, OWNER, database),
            P12_MONITOR_URL=database_url(target, MONITOR, database),
            P12_MIGRATION_SECONDS=str(bound),
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    answer = _answer_of(done)
    if done.returncode and "holders" in answer and bound < longest:
        return _waiting(target, answer, longest - bound)
    if done.returncode or "after" not in answer:
        said = answer.get("error") or done.stderr.strip()[-600:] or "it said nothing"
        raise RolloutError(f"{target.name}: the migration stopped: {said}", str(answer.get("hint", "")))
    if answer["changed"]:
        words = f"schema {answer['before'] or 'as found, of no version'} → {answer['after']}, expand only"
        waits = answer.get("waited_for", ())
        waited = f"; tries that a lock was in the way of: {len(waits)}; at last {waits[-1]}" if waits else ""
        return {**answer, "say": f"{target.name}: {words}{waited}"}
    return answer


def _waiting(target: Target, answer: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
    pid = next((holder["pid"] for holder in answer["holders"] if holder["pid"]), None)
    sooner = f" To go on sooner, have that end, or end it: SELECT pg_terminate_backend({pid})" if pid else ""
    said = f"{target.name}: the migration waits: {answer['error']}. It tries for {seconds:g} s more.{sooner}"
    return {"changed": False, "waiting": True, "seconds": seconds, "say": said}


def evidence(target: Target) -> dict[str, Any]:
    """Run the evidence collector against this target; returns where it put what it found."""
    out = target.directory / "evidence"
    logs = sorted((target.directory / "log").glob("*.log"))
    socket = target.path("haproxy_socket")
    done = subprocess.run(
        [str(target.directory.parent / "bin" / "collect_prod_evidence.sh")],
        cwd=target.directory,
        env=environment(
            DATABASE_URL=database_url(target, MONITOR),
            REMOTE_BASE_URL=target.settings["front"],
            P12_EVIDENCE_OUT=str(out),
            P12_APP_TARGET=target.name,
            P12_APP_LOG=":".join(str(path) for path in logs if path.stem != POSTGRES),
            P12_PG_LOG=":".join(str(path) for path in logs if path.stem == POSTGRES),
            P12_PGBOUNCER_URL=console_url(target),
            P12_HAPROXY_SOCKET=str(socket) if socket.exists() else "",
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        raise RolloutError(f"{target.name}: evidence: {last_words(done)}")
    newest = max((out / "logs").iterdir(), key=lambda directory: directory.name)
    for report in sorted(target.steering.glob("windows/*/report.json"))[-WINDOWS:]:
        write_bytes(newest / f"window-{report.parent.name}.json", report.read_bytes())
    missing = "" if done.returncode == 0 else ", not everything could be reached"
    return {
        "directory": str(newest),
        "files": sorted(path.name for path in newest.iterdir()),
        "complete": done.returncode == 0,
        "say": f"{target.name}: evidence in {newest}{missing}",
    }


def visitors(target: Target) -> None:
    """Become the visitors; does not return."""
    state = target.directory / "visitors" / "visitors.json"
    arguments = [
        *(sys.executable, "-P", "-s", "-m", "checks", "visitors"),
        f"--base-url={target.settings['front']}",
        f"--target={target.name}",
        f"--rate={target.settings['visitors_rate']}",
        f"--state={state}",
    ]
    os.execve(sys.executable, arguments, environment(P12_REHEARSAL_SECRET=target.secrets["rehearsal"]))


def initialise_cluster(target: Target) -> dict[str, Any]:
    """Make the target's Postgres cluster with data checksums; its superuser is the user we run as."""
    data = target.directory / "postgres"
    initdb = Path(target.settings["postgres_bin"]) / "initdb"
    done = subprocess.run(
        [
            *(str(initdb), "--pgdata", str(data), "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8"),
            *("--auth-local=peer", "--auth-host=scram-sha-256"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RolloutError(
            f"{target.name}: the cluster cannot be made: {done.stderr.strip()[-400:]}", f"df -h {data}"
        )
    return {"changed": True}


def environment(**more: str) -> dict[str, str]:
    return clean_environment(("HOME", "USER", "LOGNAME", "TZ", "TMPDIR", "PYTHONPATH", "P12_ROOT"), **more)


def _answer_of(done: subprocess.CompletedProcess[str]) -> Mapping[str, Any]:
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    said = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-800:]
    return f"ended with status {done.returncode}: {said}"
