"""Install Debian packages as root and keep the machine as it was: nothing started, enabled or created.

With packages as its words it installs those that are missing and prints which; ``--see`` only prints them.
It exits 1 with apt's errors when that fails. Signals are not obeyed meanwhile, and everything is put back
whatever happens. Standard library only and one file, so that it can be sent to a host that has no kit yet.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MARK = "# Written by p12 while it installs packages, and put back after it."
POLICY = f"#!/bin/sh\n{MARK}\nexit 101\n"
NO_CLUSTER = f"{MARK}\ncreate_main_cluster = false\n"
# They enable a unit of their name for the next boot. Debian's postgresql starts clusters, and none is made.
ENABLED = ("haproxy", "pgbouncer", "redis-server")


def missing(packages: Sequence[str]) -> list[str]:
    """Return those of ``packages`` that Debian does not have installed here."""
    asked = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages]
    said = subprocess.run(asked, capture_output=True, text=True).stdout.splitlines()
    return [package for package in packages if f"{package} installed" not in said]


def install(packages: Sequence[str], root: Path = Path("/")) -> str:
    """Install missing ``packages``, refreshing apt's lists once if need be; return apt's errors, or ""."""
    policy = root / "usr/sbin/policy-rc.d"
    clusters = root / "etc/postgresql-common/createcluster.d/p12.conf"
    with _one_at_a_time(root), replaced(policy, POLICY, 0o755), replaced(clusters, NO_CLUSTER, 0o644):
        failure = _install(*packages)
        for package in set(ENABLED) & set(packages):
            _disable(package)
    return failure


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
    options = ["-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "DPkg::Options::=--force-confold"]
    return subprocess.run(
        ["apt-get", *options, *arguments],
        env=os.environ | quiet | path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _disable(unit: str) -> None:
    if shutil.which("systemctl"):
        subprocess.run(["systemctl", "--quiet", "disable", f"{unit}.service"], capture_output=True)


def main(words: Sequence[str]) -> int:
    wanted = missing([word for word in words if word != "--see"])
    failure = install(wanted) if wanted and "--see" not in words else ""
    (sys.stderr if failure else sys.stdout).write(failure or " ".join(wanted))
    return 1 if failure else 0


if __name__ == "__main__":
    os.umask(0o022)
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.SIG_IGN)
    sys.exit(main(sys.argv[1:]))
