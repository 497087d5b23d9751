"""Installing the servers for real, on a copy of this machine that has none of them.

The copy is an overlay on the machine's own root, in a mount and process namespace of its own: nothing of the
machine is touched, and nothing is left when the namespace ends. apt and its mirror are the real ones.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.running import CHECKOUT

IN_A_COPY = """
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
echo mounted
exec chroot "$1/root" /bin/sh -c "$2" sh "$3" "$4"
"""
PURGE = """
PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
{ dpkg --configure -a; apt-get -y purge 'postgresql*' 'redis*' pgbouncer haproxy; } >/dev/null 2>&1
printf '#!/bin/sh\\n# the machine has a policy of its own\\nexit 0\\n' >/usr/sbin/policy-rc.d
rm -rf /etc/postgresql /var/lib/postgresql
apt-get -q update >/dev/null 2>&1 || { echo no mirror; exit 0; }
echo purged
cd "$1"
"$2" -B -m rollout.host.installed_servers --install --need postgres redis-server haproxy
echo "status $?"
cat /usr/sbin/policy-rc.d
echo clusters: $(ls /etc/postgresql /var/lib/postgresql)
for unit in redis-server haproxy; do echo "$unit: $(systemctl is-enabled $unit)"; done
echo processes: $(cat /proc/[0-9]*/comm | grep -E 'postgres|redis|haproxy')
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("unshare", "apt-get", "chroot")):
        pytest.skip("needs root, unshare and apt to install into a copy of this machine")
    command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", IN_A_COPY, "sh"]
    place = tmp_path_factory.mktemp("copy")
    done = subprocess.run(
        [*command, place, PURGE, CHECKOUT, sys.executable], capture_output=True, text=True, timeout=500
    )
    if not done.stdout.startswith("mounted"):
        pytest.skip(f"no overlay can be mounted here: {done.stderr.strip()}")
    if "no mirror" in done.stdout:
        pytest.skip("apt reaches no mirror from here")
    return done.stdout + done.stderr


def test_what_is_missing_is_installed_and_found(said: str) -> None:
    answer = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert "status 0" in said
    assert answer["missing"] == []
    assert answer["paths"].keys() >= {"postgres", "redis-server", "haproxy"}


def test_the_machines_own_policy_is_back(said: str) -> None:
    assert "# the machine has a policy of its own\nexit 0" in said


def test_no_cluster_is_made_and_no_service_started_or_enabled(said: str) -> None:
    lines = said.splitlines()
    assert "clusters: /etc/postgresql: /var/lib/postgresql:" in lines
    assert "redis-server: disabled" in lines
    assert "haproxy: disabled" in lines
    assert "processes:" in lines
