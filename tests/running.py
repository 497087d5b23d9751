"""Real servers for tests: run as an unprivileged user on free loopback ports, ended by process id."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg2

from rollout.host.installed_servers import Servers

CHECKOUT = Path(__file__).resolve().parents[1]
# Postgres and pgbouncer refuse to run as root.
UNPRIVILEGED = (
    ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"] if os.geteuid() == 0 else []
)
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cluster:
    """A throwaway Postgres cluster, superuser ``nobody``, also reachable through its socket in ``home``."""

    port: int
    home: Path
    process: subprocess.Popen[bytes]

    def url(self, database: str = "postgres", user: str = "nobody") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def run(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        connection = psycopg2.connect(self.url(database), connect_timeout=5)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def new_database(self, name: str) -> str:
        """Make a database and return its URL."""
        self.run(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def make_monitor(self) -> None:
        """Make the role that may only look, where no other test has."""
        self.run(
            "DO $$ BEGIN CREATE ROLE p12_monitor LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        self.run("GRANT pg_monitor, pg_read_all_data TO p12_monitor")


def free_port() -> int:
    """A port that nobody has, below those that the kernel gives to whoever connects, and whole sites'."""
    for port in random.sample(range(10000, 20000), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def is_listening(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def wait_for(condition: Callable[[], Result], what: str, seconds: float = 20) -> Result:
    """Wait until a condition is true and return its value; a connection refused means not yet."""
    deadline = time.monotonic() + seconds
    while True:
        seen: object
        try:
            if result := condition():
                return result
            seen = result
        except (OSError, psycopg2.Error) as error:
            seen = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s; last seen: {seen!r}")
        time.sleep(0.02)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], directory: Path, stop: signal.Signals = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server as an unprivileged user in its own directory, and end it with the block."""
    directory.mkdir(exist_ok=True)
    if UNPRIVILEGED:
        shutil.chown(directory, "nobody", "nogroup")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*UNPRIVILEGED, *map(str, command)], cwd=directory, env=ENVIRONMENT, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.send_signal(stop)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def cluster(servers: Servers, home: Path, **settings: object) -> Iterator[Cluster]:
    """Run a cluster in ``home``; settings are those of postgresql.conf."""
    home.mkdir()
    if UNPRIVILEGED:
        shutil.chown(home, "nobody", "nogroup")
    data, port = home / "data", free_port()
    initdb = [servers.path("initdb"), "-D", data, "-U", "nobody", "-A", "trust", "-E", "UTF8", "--no-sync"]
    command = [*UNPRIVILEGED, *map(str, initdb)]
    subprocess.run(command, check=True, capture_output=True, cwd=home, env=ENVIRONMENT)
    options = {
        "listen_addresses": "127.0.0.1",
        "fsync": "off",
        "full_page_writes": "off",
        "max_connections": 150,
        "timezone": "America/Bogota",  # Naive UTC must not depend on the server's zone.
        **settings,
    }
    given = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    postgres: list[str | Path] = [servers.path("postgres"), "-D", data, "-k", home, "-p", str(port), *given]
    with running(postgres, home, signal.SIGINT) as process:
        made = Cluster(port, home, process)
        wait_for(lambda: made.run("SELECT 1"), "Postgres accepting connections")
        yield made


@dataclass
class Supervised:
    """A running server that a test may end, and start again as its supervisor would."""

    process: subprocess.Popen[bytes]
    directory: Path
    stack: contextlib.ExitStack
    stop: signal.Signals = signal.SIGTERM

    def end(self, number: signal.Signals, seconds: float = 30) -> None:
        """Send a signal that ends it, and wait until it is gone."""
        self.process.send_signal(number)
        self.process.wait(seconds)

    def start_again(self) -> None:
        """Run the same command in the same place."""
        command = cast("list[str]", self.process.args)[len(UNPRIVILEGED) :]
        self.process = self.stack.enter_context(running(command, self.directory, self.stop))


@contextlib.contextmanager
def redis_server(
    servers: Servers, home: Path, port: int | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run Redis without persistence; gives its port and process."""
    port = port or free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running([servers.path("redis-server"), *options], home) as process:
        wait_for(lambda: is_listening(port), "Redis listening")
        yield port, process


@contextlib.contextmanager
def pooler(servers: Servers, home: Path, postgres: Cluster, **settings: Any) -> Iterator[int]:
    """Run pgbouncer in transaction mode in front of a cluster; gives its port."""
    with running_pooler(servers, home, postgres, **settings) as (port, _):
        yield port


@contextlib.contextmanager
def running_pooler(
    servers: Servers, home: Path, postgres: Cluster, connect_query: str = "", **settings: object
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a ``pooler``; gives its port and process. ``connect_query`` is run on each server connection."""
    home.mkdir()
    port = free_port()
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "admin_users": "nobody",
        "pool_mode": "transaction",
        "default_pool_size": 20,
        "max_client_conn": 500,
        **settings,
    }
    first = f" connect_query='{connect_query}'" if connect_query else ""
    databases = f"[databases]\n* = host=127.0.0.1 port={postgres.port} user=nobody{first}\n"
    options = "".join(f"{name} = {value}\n" for name, value in lines.items())
    (home / "pgbouncer.ini").write_text(f"{databases}[pgbouncer]\n{options}")
    # With -R it takes over from one that runs, which needs the socket.
    options_given = ["-q", "-R"] if lines["unix_socket_dir"] else ["-q"]
    with running([servers.path("pgbouncer"), *options_given, home / "pgbouncer.ini"], home) as process:
        wait_for(lambda: is_listening(port), "pgbouncer listening")
        yield port, process
