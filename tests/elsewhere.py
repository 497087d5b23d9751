"""Servers that are somebody else's, as a provider runs them: TLS only, no superuser, no host to log in to."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rollout.host.installed_servers import Servers
from tests.certificates import certificate
from tests.running import UNPRIVILEGED, Cluster, cluster, free_port, is_listening, running, wait_for

DATABASE, POOLED = "paste_prod", "paste"
# What people choose as passwords must survive every file and URL that it is written into.
SECRETS = {"today": "it's 100%/safe@home", "looker": "l00k & see", "redis": "r3dis#:'$x"}
HBA = """
local all nobody trust
host all nobody 127.0.0.1/32 trust
hostssl all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True)
class Elsewhere:
    """Where they are reached, each address with its password; ``cluster`` is the provider's own way in."""

    cluster: Cluster
    ca: Path
    pooler_port: int
    redis_port: int

    def direct(self, role: str = "today", options: str = "") -> str:
        return self._url(role, self.cluster.port, DATABASE, options)

    def pooled(self, options: str = "") -> str:
        return self._url("today", self.pooler_port, POOLED, options)

    def console(self) -> str:
        return self._url("looker", self.pooler_port, "pgbouncer", "?sslmode=require")

    def redis(self) -> str:
        place = f"{quote(SECRETS['redis'], safe='')}@localhost:{self.redis_port}"
        return f"rediss://:{place}/0?ssl_ca_certs={self.ca}"

    def _url(self, role: str, port: int, database: str, options: str) -> str:
        return f"postgresql://{role}:{quote(SECRETS[role], safe='')}@localhost:{port}/{database}{options}"


@contextlib.contextmanager
def elsewhere(servers: Servers, home: Path) -> Iterator[Elsewhere]:
    """Run Postgres, pgbouncer and Redis with a certificate for ``localhost``."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    signed, key = certificate(name="localhost")
    ca = home / "ca.pem"
    ca.write_bytes(signed)
    ca.chmod(0o644)
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(cluster(servers, home / "pg", max_connections=120))
        files = _of_nobody(home / "pg", {"server.crt": signed, "server.key": key})
        _of_nobody(home / "pg" / "data", {"pg_hba.conf": HBA.encode()})
        for name, value in {
            **{"ssl_cert_file": files["server.crt"], "ssl_key_file": files["server.key"]},
            **{"ssl": "on", "password_encryption": "scram-sha-256"},
        }.items():
            postgres.run(f"ALTER SYSTEM SET {name} = '{value}'")
        postgres.run("SELECT pg_reload_conf()")
        for role in ("today", "looker"):
            postgres.run(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRETS[role].replace(chr(39), 2 * chr(39))}'")
        postgres.run("GRANT pg_monitor, pg_read_all_data TO looker")
        postgres.run(f"CREATE DATABASE {DATABASE} OWNER today")
        pooler = stack.enter_context(_pooler(servers, home / "pooler", postgres.port, signed, key))
        redis = stack.enter_context(_redis(servers, home / "redis", signed, key))
        yield Elsewhere(postgres, ca, pooler, redis)


def _of_nobody(directory: Path, files: dict[str, bytes]) -> dict[str, Path]:
    """Write files that the servers' user may read and others may not, in a directory of its own."""
    if not directory.exists():
        directory.mkdir()
        if UNPRIVILEGED:
            shutil.chown(directory, "nobody", "nogroup")
    owner = directory.stat()
    for name, content in files.items():
        path = directory / name
        path.write_bytes(content)
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    return {name: directory / name for name in files}


@contextlib.contextmanager
def _pooler(servers: Servers, home: Path, postgres: int, signed: bytes, key: bytes) -> Iterator[int]:
    port = free_port()
    users = "".join(f'"{role}" "{SECRETS[role]}"\n' for role in ("today", "looker"))
    config = f"""\
[databases]
{POOLED} = host=127.0.0.1 port={postgres} dbname={DATABASE}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {home}/users
stats_users = looker
pool_mode = transaction
default_pool_size = 25
max_client_conn = 500
server_tls_sslmode = require
client_tls_sslmode = require
client_tls_cert_file = {home}/server.crt
client_tls_key_file = {home}/server.key
ignore_startup_parameters = extra_float_digits
"""
    files = {"server.crt": signed, "server.key": key, "users": users.encode(), "ini": config.encode()}
    written = _of_nobody(home, files)
    with running([servers.path("pgbouncer"), "-q", written["ini"]], home):
        wait_for(lambda: is_listening(port), "pgbouncer listening")
        yield port


@contextlib.contextmanager
def _redis(servers: Servers, home: Path, signed: bytes, key: bytes) -> Iterator[int]:
    port = free_port()
    files = _of_nobody(
        home,
        {
            "server.crt": signed,
            "server.key": key,
            # In a file, since arguments can be read by everybody.
            "conf": (
                f'port 0\ntls-port {port}\nbind 127.0.0.1\nsave ""\nappendonly no\n'
                f"tls-cert-file {home}/server.crt\ntls-key-file {home}/server.key\n"
                f'tls-auth-clients no\nrequirepass "{SECRETS["redis"]}"\n'
            ).encode(),
        },
    )
    with running([servers.path("redis-server"), files["conf"]], home):
        wait_for(lambda: is_listening(port), "Redis listening")
        yield port
