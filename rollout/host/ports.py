"""Say who holds a TCP port, so that a port that is taken is a message with a name in it."""

import socket
from pathlib import Path

import psutil

WILDCARDS = {"0.0.0.0", "::"}


def holder(address: str, port: int) -> str | None:
    """Return who listens where ``address:port`` would have to be bound, or None when nobody does.

    The answer reads ``haproxy (pid 4121, user p12)``. A listener of another user is named as far as this
    user may see, else as ``another user's program``.
    """
    pid = listening_pid(address, port)
    if pid is None:
        return None if _can_bind(address, port) else "another user's program"
    if pid == 0:
        return "another user's program"
    return _describe(pid)


def listening_pid(address: str, port: int) -> int | None:
    """Return the pid that listens there, 0 when it is hidden from this user, None when nobody listens."""
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        where, bound_port = connection.laddr
        if bound_port == port and (where == address or where in WILDCARDS or address in WILDCARDS):
            return connection.pid or 0
    return None


def _can_bind(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _describe(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            name = process.name()
            if name.startswith("python"):
                name = f"{name} {_script(process.cmdline())}".strip()
            return f"{name} (pid {pid}, user {process.username()})"
    except psutil.Error:
        return f"a program (pid {pid})"


def _script(command: list[str]) -> str:
    """Return what a Python process runs: ``-m gunicorn`` or the name of its script."""
    match command[1:3]:
        case ["-m", module]:
            return f"-m {module}"
        case [script, *_] if not script.startswith("-"):
            return Path(script).name
    return ""
