"""Install Debian packages as root and keep the machine as it was: nothing started, enabled or created.

With packages as its words it prints apt's errors and exits 1 when it fails. Signals are not
obeyed meanwhile, and everything is put back whatever happens. Standard library only.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

MARK = "# Written by p12 while it installs packages, and put back after it."
POLICY = f"#!/bin/sh\n{MARK}\nexit 101\n"
NO_CLUSTER = f"{MARK}\ncreate_main_cluster = false\n"
# Units that a package enables for the next boot. Debian's postgresql starts clusters, and none is made.
UNITS: Mapping[str, str] = {"haproxy": "haproxy", "pgbouncer": "pgbouncer", "redis-server": "redis-server"}


def install(packages: Sequence[str], root: Path = Path("/")) -> str:
    """Install ``packages``, refreshing apt's lists once if need be; return apt's errors, or ""."""
    policy = root / "usr/sbin/policy-rc.d"
    clusters = root / "etc/postgresql-common/createcluster.conf"
    with _one_at_a_time(root), replaced(policy, POLICY, 0o755):
        enabled_before = {package for package in packages if _is_enabled(package)}
        failure = _install_postgres(clusters) if "postgresql" in packages else ""
        failure = failure or _install(*packages)
        for package in UNITS.keys() & (set(packages) - enabled_before):
            _systemctl("disable", UNITS[package])
    return failure


def _install_postgres(clusters: Path) -> str:
    # What brings createcluster.conf comes first: it would ask about a file that is there before it.
    failure = _install("postgresql-common")
    if failure:
        return failure
    with replaced(clusters, NO_CLUSTER, 0o644):
        return _install("postgresql")


@contextmanager
def replaced(path: Path, text: str, mode: int) -> Iterator[None]:
    """Hold ``text`` in the file ``path``, then put back what was there, or nothing.

    What was there is kept beside it meanwhile; what a killed run left behind is mended first.
    """
    kept = path.with_name(f"{path.name}.kept-by-p12")
    made = [directory for directory in path.parents if not directory.exists()]
    _put_back(path, kept)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            os.link(path, kept, follow_symlinks=False)
        _write(path, text, mode)
        yield
    finally:
        _put_back(path, kept)
        for directory in made:
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()


def _put_back(path: Path, kept: Path) -> None:
    if os.path.lexists(kept):
        kept.replace(path)
        # Two names of one file survive a rename.
        kept.unlink(missing_ok=True)
    elif path.is_file() and MARK in path.read_text(errors="replace"):
        path.unlink()


def _write(path: Path, text: str, mode: int) -> None:
    new = path.with_name(f"{path.name}.p12-new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    lock = root / "run/lock/p12-apt"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _install(*packages: str) -> str:
    done = _apt_get("install", "--no-install-recommends", *packages)
    if done.returncode != 0:
        _apt_get("update")
        done = _apt_get("install", "--no-install-recommends", *packages)
    said = done.stdout.splitlines()
    errors = [line for line in said if line.startswith(("E:", "dpkg: error"))]
    return "" if done.returncode == 0 else " ".join(errors or said[-3:])


def _apt_get(*arguments: str) -> subprocess.CompletedProcess[str]:
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "LC_ALL": "C.UTF-8"}
    # dpkg needs ldconfig and start-stop-daemon, which an ordinary user's PATH lacks.
    path = {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
    return subprocess.run(
        [
            "apt-get",
            "-q",
            "-y",
            "-o",
            "DPkg::Lock::Timeout=300",
            "-o",
            "DPkg::Options::=--force-confold",
            *arguments,
        ],
        env=os.environ | quiet | path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _is_enabled(package: str) -> bool:
    return package in UNITS and _systemctl("is-enabled", UNITS[package]) == 0


def _systemctl(verb: str, unit: str) -> int:
    if shutil.which("systemctl") is None:
        return 1
    return subprocess.run(["systemctl", "--quiet", verb, f"{unit}.service"], capture_output=True).returncode


if __name__ == "__main__":
    os.umask(0o022)
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.SIG_IGN)
    failure = install(sys.argv[1:])
    sys.stdout.write(failure)
    sys.exit(1 if failure else 0)
