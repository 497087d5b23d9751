"""The main job on real hosts: Debian with systemd, reached over SSH, made on this machine.

The tests build on each other. Simulated visitors use production's front door from the first release on; they
must not see one failed request.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.lab import lab
from tests.running import CHECKOUT

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        os.environ.get("P12_LAB") != "1",
        reason="makes five real hosts on this machine, which takes root and ten minutes: set P12_LAB=1",
    ),
]


@dataclass(frozen=True)
class Site:
    """A checkout that releases itself onto the lab's hosts."""

    checkout: Path

    def p12(self, *words: str, **environment: str) -> str:
        """Run a p12 command on the lab; what it said, once it has succeeded."""
        verb, *rest = words
        done = subprocess.run(
            [self.checkout / "p12", verb, "--inventory", "inventories/lab", *rest],
            cwd=self.checkout,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def release(self) -> str:
        return self.git("rev-parse", "HEAD")[:12]

    def commit(self, path: str, line: str) -> str:
        with (self.checkout / path).open("a") as file:
            file.write(line)
        self.git("commit", "-qam", f"Change {path}")
        return self.release()

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
        line = ["git", "-C", self.checkout, *identity, *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def status(target: str = "production") -> dict[str, Any]:
    """Ask the target's balancer, as an engineer on the box would."""
    host = "lab-staging" if target == "staging" else "lab-balancer"
    done = lab.ssh(host, "/var/lib/p12/bin/p12", target, "status")
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def eventually(happened: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The lab's hosts, and a clone of what is being tested, working tree included."""
    maker = [sys.executable, "-m", "tests.lab.lab"]
    subprocess.run([*maker, "stop"], cwd=CHECKOUT, check=True)
    made = subprocess.run([*maker, "make"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    home = Path(tempfile.mkdtemp(prefix="p12-lab-"))
    clone = Site(home / "checkout")
    try:
        _clone(clone)
        yield clone
    finally:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([*maker, "destroy"], cwd=CHECKOUT, check=True)


def _clone(site: Site) -> None:
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", CHECKOUT, site.checkout], check=True)
    listing = ["git", "-C", CHECKOUT, "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
    changed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, changed):
        if (CHECKOUT / name).is_file():
            (site.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, site.checkout / name)
    site.git("add", "-A")
    site.git("commit", "-q", "--allow-empty", "-m", "What is in the working tree")
    (site.checkout / ".venv").symlink_to(CHECKOUT / ".venv")
    cache = CHECKOUT / ".p12" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (site.checkout / ".p12").mkdir()
    (site.checkout / ".p12" / "cache").symlink_to(cache)


def test_bare_hosts_are_provisioned_and_a_second_time_changes_nothing(site: Site) -> None:
    site.p12("provision")

    said = site.p12("provision", "--ansible=-v")

    assert re.findall(r"changed=(\d+)", said) == ["0"] * len(lab.hosts()), said


def test_a_first_release_goes_to_both_targets(site: Site) -> None:
    said = site.p12("release")

    assert status("staging")["live"]["release"] == status()["live"]["release"] == site.release()
    assert "0 deadlocks" in said
    assert "production: blue is ready on lab-app-1" in said
    assert "production: blue is ready on lab-app-2" in said


@pytest.mark.parametrize("host", ["lab-staging", "lab-balancer", "lab-app-1", "lab-data"])
def test_units_are_valid_and_hardened(site: Site, host: str) -> None:  # noqa: ARG001
    listed = lab.ssh(host, "systemctl", "list-units", "--plain", "--no-legend", "p12-*.service").stdout
    units = [line.split()[0] for line in listed.splitlines()]

    assert units
    assert lab.ssh(host, "systemd-analyze", "verify", *units).stderr == ""
    strict = lab.ssh(host, "systemd-analyze", "security", "--no-pager", "--threshold=25", *units)
    assert strict.returncode == 0, strict.stdout
    users = lab.ssh(host, "systemctl", "show", "--property=User", "--value", *units).stdout.split()
    assert set(users) == {"p12"}


def test_an_instance_answers_internal_questions_to_the_balancer_and_to_nobody_else(site: Site) -> None:
    url = f"http://{lab.hosts()['lab-app-1']}:8100/internal/ready"

    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(url, timeout=10)
    refused.value.close()
    asked = f"import urllib.request; print(urllib.request.urlopen('{url}', timeout=10).read().decode())"
    answer = lab.ssh("lab-balancer", "python3", "-c", asked).stdout
    assert json.loads(answer)["release"] == site.release()


@pytest.mark.parametrize("port", [5432, 6432])
def test_only_hosts_of_the_target_reach_its_database(site: Site, port: int) -> None:  # noqa: ARG001
    password = (lab.PLACE / "secrets" / "production-database").read_text().strip()

    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(
            host=lab.hosts()["lab-data"],
            port=port,
            user="paste12",
            password=password,
            dbname="paste12",
            connect_timeout=3,
        )


def test_secrets_lie_only_where_they_are_used_and_only_for_their_owner(site: Site) -> None:  # noqa: ARG001
    listing = ["stat", "-c", "%U %a", "/var/lib/p12/production/secrets.json"]
    assert lab.ssh("lab-app-1", *listing).stdout == "p12 600\n"
    assert lab.ssh("lab-app-1", *listing[:-1], "/var/lib/p12/production/slots/blue/env").stdout == "p12 600\n"
    kept = lab.ssh("lab-app-1", "cat", "/var/lib/p12/production/secrets.json").stdout
    assert set(json.loads(kept)) == {"database", "monitor"}


def test_a_second_release_goes_up_in_steps_and_back_again_without_a_failed_request(site: Site) -> None:
    first = site.release()
    second = site.commit("app/web/health.py", "# one more line\n")

    said = site.p12("release")

    assert all(f"production: {share} % on {second}" in said for share in (5, 25, 100))
    assert "rows in" in said
    assert status()["live"]["release"] == second
    assert status()["visitors"]["failed"] == 0

    said = site.p12("rollback", "--why", "the lab goes back")

    now = status()
    assert "proven at 2 instances" in said
    assert now["live"]["release"] == first
    assert now["visitors"]["requests"] > 100
    assert now["visitors"]["failed"] == 0
    assert "the lab goes back" in now["quarantined"][second]


def test_a_killed_instance_is_back_by_itself_with_its_flags(site: Site) -> None:  # noqa: ARG001
    before = {i["name"]: i["generation"] for i in status()["instances"]}
    unit = "p12-production-blue-1.lab-app-2.service"
    pid = pid_of("lab-app-2", unit)

    lab.ssh("lab-app-2", "kill", "-KILL", pid)

    eventually(lambda: pid_of("lab-app-2", unit) not in ("0", pid))
    eventually(lambda: {i["name"]: i["generation"] for i in status()["instances"]} == before)


def test_a_guard_that_hangs_is_killed_and_started_anew(site: Site) -> None:  # noqa: ARG001
    unit = "p12-production-guard.service"
    pid = pid_of("lab-balancer", unit)
    assert pid != "0"

    lab.ssh("lab-balancer", "kill", "-STOP", pid)

    eventually(lambda: pid_of("lab-balancer", unit) not in ("0", pid))
    eventually(lambda: status()["guard"]["pid"] == int(pid_of("lab-balancer", unit)))


def pid_of(host: str, unit: str) -> str:
    return lab.ssh(host, "systemctl", "show", "--property=MainPID", "--value", unit).stdout.strip()


def test_the_evidence_of_a_host_has_its_own_logs(site: Site) -> None:
    said = site.p12("evidence", "--target", "production")

    assert "evidence in /var/lib/p12/production/evidence" in said
    listed = lab.ssh(
        "lab-app-2", "sh", "-c", "wc -c /var/lib/p12/production/evidence/logs/*/app_last_24h.log"
    )
    assert int(listed.stdout.split()[0]) > 0
