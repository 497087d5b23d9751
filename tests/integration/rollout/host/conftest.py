"""A database host as provisioning leaves it: roles, schema, pgbouncer and Redis, each with its password."""

import getpass
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg2
import pytest

from rollout.database import roles
from rollout.host.installed_servers import Servers
from rollout.target.dsn import OWNER, database_url
from rollout.target.target import Target
from tests.integration.app.instances import migrate
from tests.integration.app.sites import as_provisioned
from tests.running import cluster, redis_server, running_pooler

SECRETS = {"database": "o" * 16, "monitor": "m" * 16, "redis": "r" * 16, "rehearsal": "h" * 16}


@pytest.fixture(scope="session")
def provisioned(servers: Servers, scratch: Path) -> Iterator[Target]:
    home = scratch / "provisioned"
    directory = home / "staging"
    for name in ("artifacts", "backups", "log", "steer", "visitors", "slots/blue"):
        (directory / name).mkdir(parents=True)
    (directory / "secrets.json").write_text(json.dumps(SECRETS))
    with ExitStack() as stack:
        postgres = stack.enter_context(cluster(servers, home / "pg"))
        if getpass.getuser() != "nobody":
            postgres.run(f'CREATE ROLE "{getpass.getuser()}" SUPERUSER LOGIN')
        options = {**as_provisioned(), "stats_users": "p12_monitor"}
        port, _ = stack.enter_context(running_pooler(servers, home / "pooler", postgres, **options))
        redis, _ = stack.enter_context(redis_server(servers, home / "redis"))
        with socket.create_connection(("127.0.0.1", redis)) as connection:
            connection.sendall(f"CONFIG SET requirepass {SECRETS['redis']}\r\n".encode())
            assert connection.recv(100) == b"+OK\r\n"
        settings = {
            "target": "staging",
            "roles": ["cache", "database"],
            "database": "paste12",
            "migration_seconds": 1,
            "database_address": "127.0.0.1",
            "cache_address": "127.0.0.1",
            "postgres_port": postgres.port,
            "postgres_socket_directory": str(home / "pg"),
            "postgres_bin": str(servers.postgres_bin),
            "ports": {"pgbouncer": port, "redis": redis},
            "budget": {
                **{"hosts": 1, "instances": 2, "threads": 8, "pool_size": 8, "max_overflow": 8},
                "limiter_storage": "redis",
            },
        }
        made = Target("staging", directory, settings)
        roles.ensure(made)
        assert migrate("upgrade", database_url(made, OWNER))[0] == 0
        # A pooler that serves any database knows those that were asked for.
        psycopg2.connect(f"postgresql://nobody@127.0.0.1:{port}/paste12").close()
        yield made
