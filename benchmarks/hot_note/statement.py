"""The service's own statement without the service: pgbench straight to Postgres."""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from app.counting import SET_LOCK_TIMEOUT
from rollout.host.installed_servers import Servers
from tests.running import Cluster

LOCK_TIMEOUT_MS = 5000


@dataclass(frozen=True)
class Statements:
    """What pgbench ran: how many, in how many seconds, and every latency in ms."""

    done: int
    seconds: float
    latencies_ms: list[float] = field(repr=False)


def run(
    servers: Servers,
    postgres: Cluster,
    database: str,
    statement: str,
    notes: int,
    clients: int,
    seconds: float,
) -> Statements:
    """Run a counting statement for notes 1 to ``notes``, each time with another fingerprint.

    pgbench gives a client up at its first error, so the lock timeout is longer than the service's.
    """
    with tempfile.TemporaryDirectory(prefix="p12-pgbench-") as directory:
        home = Path(directory)
        (home / "view.sql").write_text(script(statement, notes))
        command = [
            str(servers.postgres_bin / "pgbench"), "--no-vacuum", f"--client={clients}", "--jobs=1",
            f"--time={max(1, round(seconds))}", f"--file={home / 'view.sql'}", "--log",
            f"--log-prefix={home / 'log'}", "--host=127.0.0.1", f"--port={postgres.port}",
            "--username=nobody", database,
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=seconds + 60)
        latencies_ms = list(latencies(home))
    return Statements(len(latencies_ms), max(1, round(seconds)), latencies_ms)


def script(statement: str, notes: int) -> str:
    """Write the statement for pgbench, which sends what ``\\;`` joins as one query, like the service."""
    bound = {
        "note_id": ":note",
        "fingerprint": "':client_id-' || :number",
        "lock_timeout_ms": LOCK_TIMEOUT_MS,
    }
    query = (SET_LOCK_TIMEOUT.replace(";", "\\;") + statement.strip()) % bound
    return f"\\set note random(1, {notes})\n\\set number random(1, 1000000000000000)\n{query};\n"


def latencies(home: Path) -> Iterator[float]:
    """Read pgbench's log: client, transaction, microseconds, …"""
    for log in home.glob("log.*"):
        for line in log.read_text().splitlines():
            yield float(line.split()[2]) / 1000
