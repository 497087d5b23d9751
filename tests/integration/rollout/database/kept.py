"""A site whose servers somebody keeps running, and its target directory as provisioning leaves it."""

import contextlib
import getpass
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rollout.database.pgbouncer import Pooler
from rollout.database.postgres import Cluster
from rollout.host.installed_servers import Servers
from rollout.target.target import Target
from tests.integration.app.instances import migrate, slot
from tests.integration.app.sites import POOL_SIZE, Site, as_provisioned
from tests.running import Supervised, cluster, running_pooler

PAUSE_SECONDS = 6.0


@dataclass
class KeptSite(Site):
    """A site in which Postgres and pgbouncer are started again whenever they end."""

    database: ClassVar[str] = "paste12"

    home: Path
    target: Target

    @property
    def server(self) -> Cluster:
        return Cluster(self.cluster.home / "data", {"dsn": self.cluster.url()})

    @property
    def console(self) -> Pooler:
        return Pooler({"dsn": self.pooler_url("pgbouncer")})


@contextlib.contextmanager
def kept_site(servers: Servers, scratch: Path) -> Iterator[KeptSite]:
    """Run Postgres, pgbouncer with its socket, and two instances; keep the servers running."""
    home = Path(tempfile.mkdtemp(dir=scratch))
    home.chmod(0o755)
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(cluster(servers, home / "pg"))
        file = home / "pg" / "data" / "postgresql.conf"
        file.write_text(file.read_text().replace("max_connections =", "# max_connections ="))
        postgres.run("CREATE ROLE paste12 LOGIN")
        if getpass.getuser() != "nobody":
            postgres.run(f'CREATE ROLE "{getpass.getuser()}" SUPERUSER LOGIN')
        postgres.new_database("paste12")
        postgres.run("ALTER DATABASE paste12 OWNER TO paste12")
        assert migrate("upgrade", postgres.url("paste12", "paste12"))[0] == 0
        sockets = home / "run"
        sockets.mkdir()
        if os.geteuid() == 0:
            shutil.chown(sockets, "nobody", "nogroup")
        options = {
            **as_provisioned(),
            "default_pool_size": POOL_SIZE,
            "unix_socket_dir": sockets,
            "admin_users": "nobody, pgbouncer",
        }
        port, process = stack.enter_context(running_pooler(servers, home / "pooler", postgres, **options))
        url = f"postgresql://nobody@127.0.0.1:{port}/paste12"
        instances = stack.enter_context(slot(url, home, {}))
        site = KeptSite(
            postgres,
            Supervised(postgres.process, home / "pg", stack, signal.SIGINT),
            port,
            Supervised(process, home / "pooler", stack),
            instances,
            home,
            _target(servers, home, postgres.port, port),
        )
        with keeping(site.postgres), keeping(site.pgbouncer):
            yield site


@contextlib.contextmanager
def keeping(supervised: Supervised) -> Iterator[None]:
    """Start a server again whenever it ends, as systemd and supervisord do."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(0.02):
            if supervised.process.poll() is not None and not over.is_set():
                supervised.start_again()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _target(servers: Servers, home: Path, postgres_port: int, pooler_port: int) -> Target:
    directory = home / "production"
    for name in ("backups", "log", "steer"):
        (directory / name).mkdir(parents=True)
    settings = {
        "target": "production",
        "run": str(home / "run"),
        "database": "paste12",
        "database_address": "127.0.0.1",
        "postgres_port": postgres_port,
        "postgres_socket_directory": str(home / "pg"),
        "postgres_bin": str(Path(servers.path("postgres")).parent),
        "pgbouncer": str(servers.path("pgbouncer")),
        "ports": {"pgbouncer": pooler_port, "postgres": postgres_port},
        "pause_seconds": PAUSE_SECONDS,
        "budget": {
            **{"hosts": 1, "instances": 2, "threads": 4, "pool_size": 4, "max_overflow": 2},
            "limiter_storage": "redis",
        },
    }
    (directory / "target.json").write_text(json.dumps(settings))
    (directory / "secrets.json").write_text(json.dumps({"database": "unused", "monitor": "unused"}))
    return Target.load("production", home)
