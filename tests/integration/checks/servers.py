"""A throwaway Postgres cluster, and what it takes to start one as root."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import psycopg2

from tests.running import CHECKOUT, free_port

ROOT = CHECKOUT
BIN = Path("/usr/lib/postgresql/15/bin")
# Postgres refuses to run as root.
UNPRIVILEGED = (
    ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"] if os.geteuid() == 0 else []
)
ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cluster:
    """A running cluster on loopback, superuser ``nobody``."""

    port: int
    data: Path
    log: Path

    def url(self, database: str, user: str = "nobody") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def run(self, sql: str, database: str = "postgres") -> list[Any]:
        connection = psycopg2.connect(self.url(database), connect_timeout=2)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@contextmanager
def cluster(home: Path) -> Iterator[Cluster]:
    """Run a cluster in ``home`` until the block ends."""
    home.mkdir()
    if UNPRIVILEGED:
        shutil.chown(home, "nobody", "nogroup")
    data, port = home / "data", free_port()
    initdb = [BIN / "initdb", "-D", data, "-U", "nobody", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(
        [*UNPRIVILEGED, *map(str, initdb)], check=True, capture_output=True, cwd=home, env=ENVIRONMENT
    )
    settings = [
        "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=150",
        "-c", "timezone=America/Bogota", "-c", "log_min_messages=error",
        "-c", "deadlock_timeout=50ms", "-c", "listen_addresses=127.0.0.1",
    ]  # fmt: skip
    command = [str(BIN / "postgres"), "-D", str(data), "-k", str(home), "-p", str(port), *settings]
    log = home / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([*UNPRIVILEGED, *command], cwd=home, env=ENVIRONMENT, stderr=file)
    try:
        made = Cluster(port, data, log)
        wait_for(lambda: made.run("SELECT 1"), "Postgres accepting connections")
        yield made
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(timeout=30)


def wait_for(condition: Callable[[], Result | None], what: str, seconds: float = 20) -> Result:
    """Wait until a condition is true; an exception means not yet."""
    deadline = time.monotonic() + seconds
    seen: Any = None
    while time.monotonic() < deadline:
        try:
            if seen := condition():
                return seen
        except (psycopg2.Error, psutil.Error, OSError, ValueError, KeyError, IndexError) as error:
            seen = error
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s; last seen: {seen!r}")
