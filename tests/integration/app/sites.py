"""A site as a host runs it, whose servers a test may end and start again."""

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psycopg2

from rollout.host.installed_servers import Servers
from tests.integration.app.instances import Slot, migrate, slot
from tests.integration.app.visitors import Visitors
from tests.running import CHECKOUT, Cluster, Supervised, cluster, running_pooler, wait_for

MODES = {"inline": {}, "queue": {"P12_ENABLE_VIEW_QUEUE": "1"}}
PROVISIONED = CHECKOUT / "playbooks/roles/pgbouncer/templates/pgbouncer.ini.j2"
POOL_SIZE = 4


@dataclass
class Site:
    """What a host runs: two instances of a slot, behind pgbouncer, on a cluster of their own."""

    database: ClassVar[str] = "postgres"

    cluster: Cluster
    postgres: Supervised
    pooler: int
    pgbouncer: Supervised
    slot: Slot

    def run(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the database, past the pooler."""
        return self.cluster.run(sql, self.database)

    def visitors(self, mode: str) -> Visitors:
        """Set the mode, and have visitors ready for some new notes."""
        self.slot.set_flags(**MODES[mode])
        return Visitors(self.slot.urls, [self.new_note() for _ in range(3)])

    def new_note(self) -> int:
        ((note,),) = self.run("INSERT INTO notes (text) VALUES ('hot') RETURNING id")
        assert isinstance(note, int)
        return note

    def command_pooler(self, command: str) -> None:
        with contextlib.closing(psycopg2.connect(self.pooler_url("pgbouncer"))) as connection:
            connection.autocommit = True
            connection.cursor().execute(command)

    def pooler_url(self, database: str = "postgres") -> str:
        return f"postgresql://nobody@127.0.0.1:{self.pooler}/{database}"

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """Run a worker through all that happens in the block; it ends with the queue empty."""
        environment = {**self.slot.environment, "P12_WORKER_POLL_SECONDS": "0.05"}
        command = [sys.executable, "-m", "app.worker"]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            yield
            wait_for(lambda: self.queued() == 0, "the worker counting what is queued")
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()

    def queued(self) -> object:
        return self.run("SELECT count(*) FROM view_queue")[0][0]

    def views(self, notes: Sequence[int]) -> dict[object, object]:
        ids = ", ".join(map(str, notes))
        return dict(self.run(f"SELECT id, views FROM notes WHERE id IN ({ids})"))  # type: ignore[arg-type]

    def must_have_counted(self, visitors: Visitors) -> None:
        """Everyone's view was accepted in the end, and counted once."""
        ids = ", ".join(map(str, visitors.notes))
        logged = self.run(f"SELECT note_id, fingerprint FROM view_log WHERE note_id IN ({ids})")
        accepted = sorted(visitors.accepted)
        assert sorted(visitors.asked) == accepted
        assert sorted(logged) == accepted
        assert self.views(visitors.notes) == Counter(note for note, _ in accepted)


@contextlib.contextmanager
def site_in(home: Path, servers: Servers, scratch: Path, **settings: object) -> Iterator[Site]:
    """Run a site whose database is in ``home``."""
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(cluster(servers, home, **settings))
        assert migrate("upgrade", postgres.url())[0] == 0
        options = {**as_provisioned(), "default_pool_size": POOL_SIZE}
        beside = Path(tempfile.mkdtemp(dir=scratch))
        beside.chmod(0o755)
        pooler = beside / "pooler"
        port, process = stack.enter_context(running_pooler(servers, pooler, postgres, **options))
        url = f"postgresql://nobody@127.0.0.1:{port}/postgres"
        instances = stack.enter_context(slot(url, beside, {}))
        yield Site(
            postgres,
            Supervised(postgres.process, home, stack, signal.SIGINT),
            port,
            Supervised(process, pooler, stack),
            instances,
        )


def as_provisioned() -> dict[str, str]:
    """Return how long pgbouncer waits for what, as provisioning sets it."""
    lines = (line.split(" = ", 1) for line in PROVISIONED.read_text().splitlines() if " = " in line)
    return {name: value for name, value in lines if name.endswith(("_timeout", "_retry"))}
