"""What a benchmark of the service stands on: Postgres, pgbouncer, Redis and instances, all on loopback."""

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg2
import requests

from app.web.limit_pass import rehearsal_header
from rollout.host.installed_servers import Servers
from tests.running import Cluster, cluster, free_port, redis_server, running_pooler, wait_for

CHECKOUT = Path(__file__).resolve().parents[1]
TARGET = "dev"
NOTES = 110
FILL = f"""
TRUNCATE notes, view_log, view_queue RESTART IDENTITY;
INSERT INTO notes (text, expires_at, likes, views, reports)
SELECT 'A note', timezone('utc', now()) + interval '1 day', 0, 0, 0 FROM generate_series(1, {NOTES});
"""
MEGABYTE = 1e6


@dataclass(frozen=True)
class Stack:
    """The servers, and the secret that lets a benchmark's clients through the limits."""

    postgres: Cluster
    pooler_port: int
    pooler: subprocess.Popen[bytes]
    redis_port: int
    secret: str

    def new_database(self, name: str) -> None:
        """Make a database with the service's schema."""
        url = self.postgres.new_database(name)
        environment = {**os.environ, "DATABASE_URL": url}
        command = [sys.executable, "-m", "app.migrate", "upgrade"]
        subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, capture_output=True, timeout=60)

    def fill(self, database: str) -> None:
        """Start again with unseen notes, ids from 1."""
        self.postgres.run(FILL, database)

    def environment(self, database: str, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{self.pooler_port}/{database}",
            "FLASK_LIMITER_STORAGE_URI": f"redis://127.0.0.1:{self.redis_port}/0",
            "P12_TARGET": TARGET,
            "P12_THREADS": "8",
            "P12_TRUSTED_HOPS": "0",
            "P12_REHEARSAL_SECRET": self.secret,
            **more,
        }

    def round_trips_ms(self, database: str, number: int = 1000) -> list[float]:
        """Time what ``pool_pre_ping`` adds to each statement: one round trip through the pooler."""
        connection = psycopg2.connect(self.environment(database)["DATABASE_URL"], connect_timeout=5)
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            return [_timed_ms(lambda: cursor.execute("SELECT 1")) for _ in range(number)]

    def passing(self, now: float) -> dict[str, str]:
        """Return the header that lifts the limits for the next minutes."""
        return {"X-P12-Rehearsal": rehearsal_header(self.secret, TARGET, int(now) + 540)}


def _timed_ms(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000


@contextlib.contextmanager
def stack(servers: Servers, home: Path) -> Iterator[Stack]:
    with (
        cluster(servers, home / "postgres") as postgres,
        running_pooler(servers, home / "pgbouncer", postgres) as (pooler_port, pooler),
        redis_server(servers, home / "redis") as (redis_port, _),
    ):
        yield Stack(postgres, pooler_port, pooler, redis_port, secrets.token_hex())


@dataclass(frozen=True)
class Instances:
    """Running instances, each one gunicorn with one worker process."""

    addresses: list[str]
    processes: list[subprocess.Popen[bytes]]

    def resident_mb(self) -> float:
        """Return what the largest worker process keeps in memory."""
        return float(max(worker.memory_info().rss for worker in self._workers())) / MEGABYTE

    def cpu_seconds(self) -> float:
        """Return the processor time that the worker processes used since they started."""
        times = [worker.cpu_times() for worker in self._workers()]
        return float(sum(time.user + time.system for time in times))

    def _workers(self) -> list[psutil.Process]:
        return [child for process in self.processes for child in psutil.Process(process.pid).children()]


def tree_seconds(process: subprocess.Popen[bytes]) -> float:
    """Return the processor time of a process and of all its children, also those that have ended."""
    root = psutil.Process(process.pid)
    spent = 0.0
    for child in root.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += _with_ended_children(child)
    # The last, so that it holds the time of a child that ended meanwhile.
    return spent + _with_ended_children(root)


def _with_ended_children(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


@contextlib.contextmanager
def instances(application: str, environment: Mapping[str, str], number: int) -> Iterator[Instances]:
    """Start instances as a host does, wait until each answers, and end them with the block."""
    with contextlib.ExitStack() as ending:
        started = Instances([], [])
        for index in range(number):
            address = f"127.0.0.1:{free_port()}"
            mine = {**environment, "P12_BIND": address, "P12_INSTANCE": f"blue-{index + 1}"}
            command = ["gunicorn", "-c", "python:app.gunicorn_conf", application]
            started.processes.append(ending.enter_context(process(command, mine)))
            started.addresses.append(address)
        for address in started.addresses:
            wait_for(lambda at=address: requests.get(f"http://{at}/healthz", timeout=5).ok, address)  # type: ignore[misc]
        yield started


@contextlib.contextmanager
def process(module: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python module quietly, and end it with the block."""
    command = [sys.executable, "-m", *module]
    running = subprocess.Popen(command, cwd=CHECKOUT, env=dict(environment), stderr=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(25)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
