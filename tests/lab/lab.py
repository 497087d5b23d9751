"""Make real hosts on this machine for the site inventories/lab, and take them away again.

``python -m tests.lab.lab make`` builds one Debian image (a few minutes, once) and boots a throwaway systemd
host from it for every host of the inventory, with sshd, on a bridge that leads nowhere else. ``destroy``
powers them off and removes everything; ``stop`` keeps the image. All can be repeated. Needs root and a Debian
mirror: the servers' packages are put into the image while it is made, because the hosts reach no network.
"""

import argparse
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from tests.running import CHECKOUT

PLACE = Path("/var/tmp/p12-lab")
IMAGE = PLACE / "image"
INVENTORY = CHECKOUT / "inventories" / "lab"
BRIDGE, GATEWAY = "p12lab", "10.83.0.1/24"
MIRROR = os.environ.get("P12_LAB_MIRROR", "http://deb.debian.org/debian")
ACCOUNT = "deploy"
BASE = "systemd,systemd-sysv,dbus,openssh-server,python3,python3-apt,sudo,iproute2,ca-certificates"
SERVERS = ["postgresql-15", "pgbouncer", "redis-server", "haproxy", "logrotate"]
TOOLS: Mapping[str, str] = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
}
BOOT_SECONDS = 90.0
SYSTEMD_RUNS = Path("/run/systemd/system")
CGROUPS = Path("/sys/fs/cgroup")
HIERARCHIES = (CGROUPS, CGROUPS / "systemd", CGROUPS / "unified")


class NoLabError(Exception):
    """This machine cannot carry a lab; the text says why and what to type."""


def require_machine() -> None:
    """Raise NoLabError unless this is root on a machine with the tools."""
    if os.geteuid() != 0:
        raise NoLabError("A lab makes real hosts, which only root can. Type: sudo tests/lab/lab.py make")
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise NoLabError(f"A lab needs {', '.join(missing)}. Type: apt-get install {' '.join(missing)}")


def hosts() -> dict[str, str]:
    """Return the address of every host of the inventory by its name."""
    groups = yaml.safe_load((INVENTORY / "hosts.yml").read_text())
    members = {**groups["staging"]["hosts"], **groups["production"]["hosts"]}
    return {name: variables["ansible_host"] for name, variables in members.items()}


def make(say: Callable[[str], None] = print) -> None:
    """Bring every host of the inventory up, from whatever is there already.

    :raises NoLabError: this machine cannot do it, or a host does not come up; shows the end of its console.
    """
    require_machine()
    PLACE.mkdir(mode=0o755, exist_ok=True)
    if not IMAGE.exists():
        say(f"making the image from {MIRROR}, a few minutes …")
        _make_image()
    (PLACE / "known_hosts").write_text(_known_hosts())
    _make_bridge()
    for name, address in hosts().items():
        if not running(name):
            _boot(name, address)
    for name, address in hosts().items():
        _await_ssh(name, address)
    say(f"{len(hosts())} hosts are up: {', '.join(hosts())}")


def stop() -> None:
    """Power every host off, which forgets all it was told. The image stays, so new ones are quick to make."""
    require_machine()
    pids = [pid for name in _recorded() if (pid := running(name))]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    _await_end(pids)
    _remove_groups()
    shutil.rmtree(PLACE / "secrets", ignore_errors=True)


def destroy() -> None:
    """Power every host off and remove the bridge, the image and everything below the lab's place."""
    stop()
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
    shutil.rmtree(PLACE, ignore_errors=True)


def running(name: str) -> int:
    """Return the process id of a host's container, 0 when it is not up; never somebody else's process."""
    try:
        pid = int((PLACE / f"{name}.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    return pid if f"--machine={name}".encode() in words and str(IMAGE).encode() in words else 0


def ssh(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a host as root, the way Ansible does."""
    options = [
        "-i",
        PLACE / "key",
        "-o",
        f"UserKnownHostsFile={PLACE / 'known_hosts'}",
        "-o",
        "BatchMode=yes",
    ]
    line = ["ssh", *options, f"{ACCOUNT}@{hosts()[name]}", "sudo", shlex.join(command)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)


def _make_image() -> None:
    draft = PLACE / "image.draft"
    shutil.rmtree(draft, ignore_errors=True)
    _run("debootstrap", "--variant=minbase", f"--include={BASE}", "bookworm", draft, MIRROR)
    _install_servers(draft)
    _configure(draft)
    draft.rename(IMAGE)


def _install_servers(image: Path) -> None:
    """Put the packages in as provision would: no service enabled, no cluster made, nothing started."""
    policy = image / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    clusters = image / "etc/postgresql-common/createcluster.d/p12.conf"
    clusters.parent.mkdir(parents=True)
    clusters.write_text("create_main_cluster = false\n")
    for unit in ("haproxy", "pgbouncer", "redis-server"):
        _run("systemctl", f"--root={image}", "mask", unit)
    _run("chroot", image, "apt-get", "-q", "update")
    apt = ["chroot", image, "apt-get", "-q", "-y", "--no-install-recommends", "install", *SERVERS]
    _run(*apt, DEBIAN_FRONTEND="noninteractive")
    policy.unlink()


def _configure(image: Path) -> None:
    """Give the image an account with our key and sudo, and a network that waits for its address."""
    key = PLACE / "key"
    if not key.exists():
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "p12-lab", "-f", key)
    _run("chroot", image, "useradd", "--create-home", "--shell", "/bin/bash", ACCOUNT)
    authorized = image / "home" / ACCOUNT / ".ssh" / "authorized_keys"
    authorized.parent.mkdir(mode=0o700)
    authorized.write_text(key.with_suffix(".pub").read_text())
    _run("chroot", image, "chown", "-R", f"{ACCOUNT}:", f"/home/{ACCOUNT}/.ssh")
    (image / "etc/sudoers.d" / ACCOUNT).write_text(f"{ACCOUNT} ALL=(ALL) NOPASSWD: ALL\n")
    (image / "etc/machine-id").write_text("")
    # Names come from here alone: looking one up anywhere else would only take its time-out.
    (image / "etc/hostname").unlink(missing_ok=True)
    known = "".join(f"{address} {name}\n" for name, address in hosts().items())
    (image / "etc/hosts").write_text(f"127.0.0.1 localhost\n{known}")
    (image / "etc/resolv.conf").unlink(missing_ok=True)
    (image / "etc/resolv.conf").write_text("")
    _run("systemctl", f"--root={image}", "enable", "systemd-networkd", "systemd-networkd-wait-online", "ssh")


def _known_hosts() -> str:
    """Every host has the image's host key."""
    key = (IMAGE / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    return "".join(f"{address} {' '.join(key)}\n" for address in hosts().values())


def _make_bridge() -> None:
    if not Path("/sys/class/net", BRIDGE).exists():
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "address", "add", GATEWAY, "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")


def _boot(name: str, address: str) -> None:
    network = PLACE / f"{name}.network"
    network.write_text(f"[Match]\nName=host0\n\n[Network]\nAddress={address}/24\nLinkLocalAddressing=no\n")
    own_group = _make_groups(name)
    with (PLACE / f"{name}.console").open("wb") as console:
        started = subprocess.Popen(
            [
                *own_group,
                *("systemd-nspawn", "--quiet", "-D", str(IMAGE), "--volatile=overlay", f"--machine={name}"),
                *(f"--hostname={name}", "--register=no", f"--network-bridge={BRIDGE}"),
                *("--resolv-conf=off", "--console=pipe", *(["--keep-unit"] if own_group else [])),
                *(f"--bind-ro={network}:/etc/systemd/network/10-lab.network", "--boot"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (PLACE / f"{name}.pid").write_text(str(started.pid))


def _make_groups(name: str) -> list[str]:
    """Return the words that start a program in control groups of its own, none where systemd sees to it.

    Hosts in one group would take each other's services for their own.
    """
    if SYSTEMD_RUNS.exists():
        return []
    groups = [
        hierarchy / f"p12-lab-{name}" for hierarchy in HIERARCHIES if (hierarchy / "cgroup.procs").exists()
    ]
    for group in groups:
        group.mkdir(exist_ok=True)
    enter = 'for group in $P12_GROUPS; do echo $$ >"$group/cgroup.procs" || exit; done; exec "$@"'
    return ["env", f"P12_GROUPS={' '.join(map(str, groups))}", "sh", "-c", enter, "sh"]


def _remove_groups() -> None:
    for hierarchy in HIERARCHIES:
        for group in hierarchy.glob("p12-lab-*"):
            for below in sorted((d for d in group.rglob("*") if d.is_dir()), reverse=True):
                below.rmdir()
            group.rmdir()


def _await_ssh(name: str, address: str) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline and running(name):
        try:
            with socket.create_connection((address, 22), timeout=1) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.2)
    console = (PLACE / f"{name}.console").read_text(errors="replace").splitlines()[-15:]
    raise NoLabError(f"{name} did not come up. The end of its console:\n" + "\n".join(console))


def _await_end(pids: list[int]) -> None:
    """Wait until the containers are gone; end the ones that hang."""
    for number, seconds in ((0, 60.0), (signal.SIGKILL, 10.0)):
        for pid in filter(_is_alive, pids):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while any(map(_is_alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.1)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _recorded() -> list[str]:
    return [path.stem for path in PLACE.glob("*.pid")]


def _run(*command: object, **environment: str) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NoLabError(f"{command[0]} failed: {(done.stderr + done.stdout).strip()[-800:]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.lab", description=__doc__)
    parser.add_argument("verb", choices=("make", "stop", "destroy"))
    verbs: dict[str, Callable[[], None]] = {"make": make, "stop": stop, "destroy": destroy}
    try:
        verbs[parser.parse_args().verb]()
    except NoLabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
