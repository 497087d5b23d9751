"""Naming who holds a port, shown with real sockets."""

import getpass
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rollout.host import ports

LISTEN = (
    "import socket, sys; s = socket.create_server((sys.argv[1], 0));"
    "print(s.getsockname()[1], flush=True); sys.stdin.read()"
)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        yield process, int(process.stdout.readline())
        process.kill()


def test_a_free_port_has_no_holder(free_port: int) -> None:
    assert ports.holder("127.0.0.1", free_port) is None


def test_a_held_port_names_program_pid_and_user(listener: tuple[subprocess.Popen[str], int]) -> None:
    process, port = listener
    found = ports.holder("127.0.0.1", port)
    assert found is not None
    assert found.startswith("python")
    assert found.endswith(f"(pid {process.pid}, user {getpass.getuser()})")


def test_a_listener_on_another_address_does_not_count(free_port: int) -> None:
    with socket.create_server(("127.0.0.2", free_port)):
        assert ports.holder("127.0.0.1", free_port) is None
        assert ports.holder("0.0.0.0", free_port) is not None


def test_a_connection_that_lingers_does_not_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()
            client.recv(1)
    assert ports.holder("127.0.0.1", port) is None


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become two users")
def test_what_this_user_may_not_see_is_still_held(listener: tuple[subprocess.Popen[str], int]) -> None:
    ask = (
        "import os, sys; from rollout.host import ports;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "print(ports.holder('127.0.0.1', int(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", ask, str(listener[1])], capture_output=True, text=True)
    assert done.stdout.strip() == "another user's program", done.stderr
