"""What the guard's looks cost the database and its pooler: CPU time, as a share of one core.

.venv/bin/python -m benchmarks.watching
"""

import argparse
import json
import shutil
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import psycopg2

from benchmarks.table import Row, show
from checks.base import pgbouncer
from checks.window import reading
from rollout.host.installed_servers import find
from tests.running import cluster, running_pooler

INTERVAL_SECONDS, LIMIT_PERCENT = 5, 1.0
# A target at work has this many sessions for the views to list.
SESSIONS = 60
ROUNDS, LOOKS = 5, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="p12w", dir="/tmp"))
    home.chmod(0o755)
    try:
        row = Row(
            f"database and pooler, looked at each {INTERVAL_SECONDS} s",
            "% of a core",
            cost(home),
            LIMIT_PERCENT,
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(show([row]))
    if args.json:
        args.json.write_text(json.dumps([row.to_dict()], indent=2))


def cost(home: Path) -> list[float]:
    """The share of a core, in percent, that looking costs; of several rounds."""
    servers = find()
    with ExitStack() as stack:
        postgres = stack.enter_context(cluster(servers, home / "postgres"))
        port, pooler = stack.enter_context(running_pooler(servers, home / "pooler", postgres))
        postgres.run("CREATE TABLE view_queue (id serial PRIMARY KEY, queued_at timestamptz DEFAULT now())")
        postgres.run("INSERT INTO view_queue SELECT FROM generate_series(1, 1000)")
        for _ in range(SESSIONS):
            stack.enter_context(closing(psycopg2.connect(postgres.url()))).cursor().execute("SELECT 1")
        database = stack.enter_context(closing(psycopg2.connect(postgres.url())))
        console = stack.enter_context(pgbouncer.console(f"postgresql://nobody@127.0.0.1:{port}/pgbouncer"))
        database.autocommit = True
        watched = (psutil.Process(database.info.backend_pid), psutil.Process(pooler.pid))
        costs = []
        for _ in range(ROUNDS):
            before = used(watched)
            for _ in range(LOOKS):
                reading.read(database, console, "postgres", time.time)
            costs.append(100 * (used(watched) - before) / LOOKS / INTERVAL_SECONDS)
        return costs


def used(processes: tuple[psutil.Process, ...]) -> float:
    """Seconds of CPU that these processes have used."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main()
