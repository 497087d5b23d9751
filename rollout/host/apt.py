"""Install Debian packages by whatever right there is: root's, else sudo's. Standard library only."""

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rollout.errors import RolloutError

CHECKOUT = Path(__file__).resolve().parents[2]


def command_to_type(packages: Iterable[str]) -> str:
    """Return the sentence that tells an administrator what to type."""
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    return f"Type: sudo {command}" if shutil.which("sudo") else f"Type, as root: {command}"


def install(packages: Sequence[str], *, wanted_for: Iterable[str] = ()) -> None:
    """Install ``packages`` as root, or through sudo: without a password, else asking for it on a terminal.

    The machine is otherwise kept as it is, see ``apt_as_root``. Raises ``RolloutError`` with the one command
    to type when that is not possible, and with apt's own words when it fails. An interrupt is obeyed once apt
    has ended, since a dpkg cut short leaves a broken machine.
    """
    names = ", ".join(wanted_for) or ", ".join(packages)
    if shutil.which("apt-get") is None:
        raise RolloutError(
            f"Not installed here: {names}.", "There is no apt: install them and put them on PATH."
        )
    privilege = _privilege()
    if privilege is None:
        why = f"{getpass.getuser()} is not root and cannot use sudo here"
        raise RolloutError(f"Not installed here: {names}; {why}.", command_to_type(packages))
    sys.stderr.write(f"p12: installing {' '.join(packages)} with apt, starting none of their services …\n")
    program = [sys.executable, "-B", "-P", "-m", "rollout.host.apt_as_root", *packages]
    failure = _run_to_its_end([*privilege, "env", f"PYTHONPATH={CHECKOUT}", *program])
    if failure is not None:
        raise RolloutError(
            f"apt could not install {' '.join(packages)}: {failure}", command_to_type(packages)
        )


def _privilege() -> list[str] | None:
    """Return the words to put before a command that needs root, None where there is no way."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    if subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    return ["sudo"] if sys.stdin.isatty() else None


def _run_to_its_end(command: Sequence[str]) -> str | None:
    """Return what a failed command said, None when it went well."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, said = process.communicate()
        except KeyboardInterrupt:
            sys.stderr.write("p12: stopping as soon as apt has ended …\n")
            process.communicate()
            raise
    return None if process.returncode == 0 else said.strip() or f"exit status {process.returncode}"
