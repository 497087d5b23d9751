"""Who drives: the engineer, and the controlling process that another one can see alive or dead."""

import getpass
import os
import socket
from pathlib import Path

import psutil


def owner() -> str:
    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"


def session() -> str:
    """Name the outermost p12 or ansible process above us as ``host:pid:start``."""
    chosen = psutil.Process()
    for parent in chosen.parents():
        if _is_controller(parent):
            chosen = parent
    return f"{socket.gethostname()}:{chosen.pid}:{chosen.create_time():.2f}"


def _is_controller(process: psutil.Process) -> bool:
    """A shell or a terminal may have such words too, and outlives many sessions; a controller is Python."""
    try:
        program, *words = process.cmdline() or [""]
    except psutil.Error:
        return False
    is_python = Path(program).name.startswith("python")
    return is_python and any("ansible" in word or word == "rollout" for word in words)


def is_dead(named: str) -> bool:
    """Say whether a session of this machine is gone. Of another machine's sessions nothing is known."""
    host, _, rest = named.partition(":")
    pid, _, start = rest.partition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        return process.status() == psutil.STATUS_ZOMBIE or f"{process.create_time():.2f}" != start
    except psutil.NoSuchProcess:
        return True
