"""The service behind the front door behind two proxies: what a client forges changes nothing of who it is."""

import contextlib
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollout.host.installed_servers import Servers
from tests.integration.app.instances import slot
from tests.integration.proxies import INNER, OUTER, proxied
from tests.integration.rollout.steered import ROLE, Haproxy, Reply, reply_on
from tests.running import Cluster, free_port

FORGED = f"X-Forwarded-For: 6.6.6.6, {OUTER}\r\nX-Forwarded-For: 7.7.7.7\r\nX-Real-IP: 8.8.8.8\r\n"


@pytest.fixture
def outside(
    postgres: Cluster, database: str, servers: Servers, scratch: Path, tmp_path: Path
) -> Iterator[int]:
    """The port at which visitors come in: outer proxy, inner proxy, the front door, an instance."""
    settings = {"P12_TRUSTED_HOPS": "1", "P12_LIMIT_LIST": "2 per minute", "P12_FP_SALT": "salt"}
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(slot(postgres.url(database), tmp_path, settings, instances=1))
        to = front_door(stack, servers, scratch / "door", int(made.urls[0].rpartition(":")[2]))
        yield proxied(stack, servers, scratch / "proxies", to)


def front_door(stack: contextlib.ExitStack, servers: Servers, home: Path, instance: int) -> int:
    variables: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    variables |= {
        **{"p12_target": "production", "p12_run": str(home), "__p12_haproxy": str(home)},
        **{"p12_front_address": "127.0.0.1", "p12_front_port": free_port()},
        "p12_trusted_proxies": [OUTER, INNER],
        "__p12_today_servers": [],
        "__p12_haproxy_instances": [
            {"name": "blue-1.local", "slot": "blue", "address": "127.0.0.1", "port": instance}
        ],
    }
    home.mkdir()
    haproxy = Haproxy(servers, home, variables)
    (home / "0-weights.cfg").write_text("global\n  setenv P12_WEIGHT_BLUE 1\n")
    haproxy.start()
    stack.callback(haproxy.stop)
    return haproxy.port


def asked(port: int, client: str, request: str, body: str = "") -> Reply:
    with socket.create_connection(("127.0.0.1", port), 10, source_address=(client, 0)) as connection:
        head = f"{request} HTTP/1.1\r\nHost: p.example\r\nUser-Agent: agent\r\n{FORGED}"
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}{kind}\r\n{body}".encode())
        return reply_on(connection)


def test_limits_and_fingerprints_go_by_the_true_client(
    outside: int, postgres: Cluster, database: str
) -> None:
    lists = {client: [asked(outside, client, "GET /api/notes").status for _ in range(3)]
             for client in ("127.0.0.77", "127.0.0.78")}  # fmt: skip
    written = asked(outside, "127.0.0.77", "POST /api/notes", '{"text": "a"}')

    assert lists == {"127.0.0.77": [200, 200, 429], "127.0.0.78": [200, 200, 429]}
    assert written.status == 201
    mine = hashlib.sha256(b"salt|127.0.0.77|agent").hexdigest()
    assert postgres.run("SELECT author_fp FROM notes", database) == [(mine,)]
