"""The processes of a local site, known by what they are: also those that no supervisord knows any more.

Supervisord writes into the environment of what it starts which process of which socket that is, and the kit
which root. Some servers, such as Redis, overwrite theirs: they run in a directory of the site's.
"""

import os
from pathlib import Path

NAME = b"SUPERVISOR_PROCESS_NAME="
SERVERS = ("redis-server", "postgres")


def of_site(root: Path) -> dict[int, str]:
    """Return the pids of a site's processes and what each is called, e.g. ``p12-staging-haproxy``.

    Processes of other users are seen by root alone. Whoever asks is not among them.
    """
    found = {int(path.name): _name(path, root) for path in Path("/proc").iterdir() if path.name.isdigit()}
    return {pid: name for pid, name in found.items() if name and pid != os.getpid()}


def has_supervisord(root: Path) -> bool:
    """Say whether the supervisord that the site's pid file names is alive."""
    try:
        pid = int((root / "supervisor" / "supervisord.pid").read_text())
        return b"supervisord" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def started_at(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when it has ended.

    One that is ending has lost its environment already and still holds its ports, so it is there.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in ("Z", "X") else fields[18]


def _name(process: Path, root: Path) -> str:
    """Return what a process of the site is called, empty when it is none or has ended."""
    try:
        words = (process / "environ").read_bytes().split(b"\0")
        program = (process / "comm").read_text().strip()
        where = (process / "cwd").readlink()
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
    if state == "Z":
        return ""
    name = next((word.removeprefix(NAME) for word in words if word.startswith(NAME)), b"").decode()
    if f"P12_ROOT={root}".encode() in words:
        return name if name.startswith("p12-") else ""
    return program if program in SERVERS and where.is_relative_to(root.resolve()) else ""
