"""Who drives: the engineer, and the controlling process that another one can see alive or dead."""

import getpass
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import psutil

PLAYBOOK = {"ansible-playbook", "ansible.cli.playbook"}


def owner() -> str:
    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"


def session() -> str:
    """Name the nearest ansible-playbook above us as ``host:pid:start``.

    Its task processes are forks with the same command line. What started it, a shell or a test run, may
    drive other rollouts too and is not the session.
    """
    chosen, playbook = psutil.Process(), None
    for parent in chosen.parents():
        line = _command_line(parent)
        if playbook is not None and line != playbook:
            break
        if playbook is not None or _is_playbook(line):
            chosen, playbook = parent, line
    return name_of(chosen.pid)


def name_of(pid: int) -> str:
    """Name a process of this machine, one that has just ended included, as a session."""
    return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.2f}"


def _is_playbook(line: Sequence[str]) -> bool:
    """A shell or an editor may have such words too; a controller is Python running Ansible's program."""
    program, *words = line or [""]
    names = {Path(word).name for word in words[:4]}
    return Path(program).name.startswith("python") and bool(names & PLAYBOOK)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


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
