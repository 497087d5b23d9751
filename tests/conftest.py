"""Servers for every test that needs real ones, started once a run and only when asked for."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollout.host.apt import command_to_type
from rollout.host.installed_servers import PACKAGES, Servers, find
from tests.running import Cluster, cluster, pooler, redis_server

pytest_plugins = ["tests.counts"]

# A shell has what it starts in the background ignore Ctrl-C; what tests interrupt is not to inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def servers() -> Servers:
    """Where the servers are; skips, naming the missing ones, where they are not all there."""
    found = find()
    missing = found.missing()
    if missing:
        command = command_to_type(sorted({PACKAGES[name] for name in missing}))
        pytest.skip(f"not installed here: {', '.join(missing)}. {command}")
    return found


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A short path that an unprivileged server may use: a socket's name has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="p12t", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(servers: Servers, scratch: Path) -> Iterator[Cluster]:
    """A Postgres cluster for the run; make a database of your own in it with ``new_database``."""
    with cluster(servers, scratch / "postgres") as made:
        yield made


@pytest.fixture(scope="session")
def redis(servers: Servers, scratch: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port and the process of a Redis for the run."""
    with redis_server(servers, scratch / "redis") as made:
        yield made


@pytest.fixture(scope="session")
def pgbouncer(servers: Servers, scratch: Path, postgres: Cluster) -> Iterator[int]:
    """The port of a pgbouncer in transaction mode in front of ``postgres``; any user and database."""
    with pooler(servers, scratch / "pgbouncer", postgres) as port:
        yield port
