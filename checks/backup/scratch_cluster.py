"""A throwaway cluster to restore into: one user, a socket in a private directory, no network, no fsync."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from checks.backup.disk_hints import disk_hints
from checks.base.errors import CannotMeasure, Misused
from checks.base.postgres import connected, rows
from checks.base.postgres_tools import Tools, environment
from checks.base.waiting import wait_until

USER = "p12_scratch"
TABLESPACES = "--\n-- Tablespaces\n--"
NOT_SQL = re.compile(r"(?m)^\\.*$")
GRANTED_BY = re.compile(r"(?m)(?<=^GRANT )(.* TO .*) GRANTED BY .*;$")
PREFIX = ".scratch-"
START_SECONDS = 60.0
# The longest name of a Unix socket, less its terminator.
SOCKET_BYTES = 107
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "autovacuum": "off",
    "max_connections": "20",
    "unix_socket_permissions": "0700",
    "logging_collector": "off",
    "shared_preload_libraries": "",
}


@contextlib.contextmanager
def scratch(
    tools: Tools, place: Path, run_dir: Path, settings: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a new cluster with its files in ``place`` and its socket under ``run_dir``; yield its DSN.

    ``settings`` are those of postgresql.conf, over the ones that make it quick. Files and socket
    are gone afterwards, whatever happens. Raises CannotMeasure if it does not come up, and Misused if
    ``run_dir`` is too long for a socket.
    """
    home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    sockets = Path(tempfile.mkdtemp(prefix="p12", dir=run_dir))
    try:
        if len(os.fsencode(sockets / ".s.PGSQL.5432")) > SOCKET_BYTES:
            raise Misused(f"{run_dir} is too long for a Unix socket. Set --run-dir to such as /tmp.")
        data = home / "data"
        with disk_hints(place):
            tools.run(
                "initdb",
                ["-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
                environment(),
            )
        with _running(tools, data, sockets, {**SETTINGS, **(settings or {})}) as url:
            yield url
    finally:
        _remove(home)
        shutil.rmtree(sockets, ignore_errors=True)


@contextlib.contextmanager
def _running(tools: Tools, data: Path, sockets: Path, settings: Mapping[str, str]) -> Iterator[str]:
    given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [str(tools.bin_dir / "postgres"), "-D", str(data), "-k", str(sockets), "-p", "5432", *given]
    url = f"host={sockets} port=5432 user={USER} dbname=postgres"
    with (data / "log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: server.poll() is not None or _answers(url), START_SECONDS, 0.05)
            if not _answers(url):
                lines = (data / "log").read_text(errors="replace").splitlines() or ["it said nothing"]
                raise CannotMeasure(f"The scratch cluster does not start: {lines[-1]}")
            yield url
        finally:
            _stop(data)
            server.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(CannotMeasure), connected(url):
        return True
    return False


def furnish(url: str, roles: str, extensions: Sequence[str]) -> None:
    """Make the roles of a ``pg_dumpall --globals-only`` in a scratch cluster, and nothing else of it.

    Raises CannotMeasure, naming them, if Postgres on this host lacks some of the ``extensions``.
    """
    # Tablespaces come last and are directories of somebody else's; who granted a role says nothing here.
    statements = GRANTED_BY.sub(r"\1;", NOT_SQL.sub("", roles.split(TABLESPACES, 1)[0]))
    with connected(url, named="") as connection:
        rows(connection, statements)
        there = {found["name"] for found in rows(connection, "SELECT name FROM pg_available_extensions")}
    if lacking := sorted(set(extensions) - there):
        raise CannotMeasure(
            f"Postgres on this host lacks what the database needs: extension {', '.join(lacking)}. Install it"
            " (Debian: postgresql-MAJOR-NAME, as on the database host). Then: ./p12 backup"
        )


def clear(place: Path) -> None:
    """Stop and remove the scratch clusters of backups that were killed; to be called under their lock."""
    for home in place.glob(f"{PREFIX}*"):
        _remove(home)


def _remove(home: Path) -> None:
    _stop(home / "data")
    shutil.rmtree(home, ignore_errors=True)


def _stop(data: Path) -> None:
    # Looked for by what it runs: whoever started it may have been stopped before its number was known.
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(data) in process.cmdline():
                process.send_signal(signal.SIGQUIT)
                psutil.wait_procs([process], 10)
                process.kill()
