"""The real playbooks, with a kit in whose place a program notes what it is asked and refuses as told."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.running import CHECKOUT

PLAYBOOKS = CHECKOUT / "playbooks"
LOCKING = ("deploy", "verify", "backup", "promote", "monitor")
KIT = f"""#!{sys.executable}
import json, sys
from pathlib import Path
home, words = Path(__file__).parent, sys.argv[2:]
with (home / "asked").open("a") as asked:
    asked.write(" ".join(words) + "\\n")
refused = (home / "refused").read_text()
if refused and " ".join(words).startswith(refused):
    print(json.dumps({{"error": f"{{refused}} was refused", "hint": ""}}))
    sys.exit(1)
print(json.dumps({{
    "held": True, "token": 7, "changed": words[0] == "restart", "say": "done", "release": "a" * 12,
    "backup_due": True, "artifact": "", "releases": [], "id": "b1", "summary": "proven", "verdict": "passed",
    "apply": False, "restart": words[1:3] if words[:2] == ["maintenance", "restart"] else [],
}}))
"""

BACKUP = f"backup --release={'a' * 12} --releases=[]"


@dataclass(frozen=True)
class Host:
    """A host with every role, whose kit is ``KIT``."""

    home: Path

    def play(self, playbook: Path, words: str = "on", refused: str = "") -> int:
        (self.home / "kit" / "bin" / "refused").write_text(refused)
        inventory = str(self.home / "hosts.yml")
        command = [sys.executable, "-m", "ansible.cli.playbook", "-i", inventory, str(playbook)]
        done = subprocess.run(
            [*command, "-e", json.dumps({"words": words, "drop": "old"})],
            env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            check=False,
        )
        return done.returncode

    def asked(self) -> list[str]:
        lines = (self.home / "kit" / "bin" / "asked").read_text().splitlines()
        return [line.partition(" --session")[0] for line in lines]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    binary = tmp_path / "kit" / "bin" / "p12"
    binary.parent.mkdir(parents=True)
    binary.write_text(KIT)
    binary.chmod(0o755)
    variables = {
        **{"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        **{"p12_become": False, "p12_root": str(tmp_path / "kit"), "p12_target": "production"},
    }
    group = {"hosts": {"one": variables}}
    groups = {name: group for name in ("production", "balancer", "app", "database")}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"children": groups}}))
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("words", "refused"),
    [("on", "maintenance"), ("restart postgres", "restart"), ("restart pgbouncer", "restart")],
)
def test_maintenance_that_is_refused_gives_the_lock_back(host: Host, words: str, refused: str) -> None:
    assert host.play(PLAYBOOKS / "maintenance.yml", words, refused) == 2

    asked = host.asked()
    assert asked[0] == "lock take --try"
    assert "lock drop --token=7" in asked


def test_maintenance_is_written_down_before_the_lock_is_given_back(host: Host) -> None:
    assert host.play(PLAYBOOKS / "maintenance.yml", "restart postgres") == 0

    assert host.asked() == [
        *("lock take --try", "maintenance restart postgres --token=7", "restart postgres", "resume"),
        *("maintained --token=7", "lock drop --token=7"),
    ]


@pytest.mark.parametrize("refused", ["restore drop", "maintained"])
def test_a_database_that_is_not_dropped_gives_the_lock_back(host: Host, refused: str) -> None:
    assert host.play(PLAYBOOKS / "restore_drop.yml", refused=refused) == 2

    assert host.asked()[1] == "restore drop -- old"
    assert host.asked()[-1] == "lock drop --token=7"


def test_a_backup_alone_is_of_the_release_in_service_builds_nothing_and_gives_the_lock_back(
    host: Host,
) -> None:
    assert host.play(PLAYBOOKS / "backup.yml") == 0

    assert host.asked() == [
        *("lock take --try", "serving --reuse=false --new={} --token=7", BACKUP),
        *("record backup --token=7", "lock drop --token=7"),
    ]


def test_a_backup_that_fails_gives_the_lock_back(host: Host) -> None:
    assert host.play(PLAYBOOKS / "backup.yml", refused="backup") == 2

    assert host.asked()[-2:] == [BACKUP, "lock drop --token=7"]


def test_a_backup_in_a_release_keeps_the_lock(host: Host) -> None:
    assert host.play(PLAYBOOKS / "stage_backup.yml") == 0

    assert host.asked()[-1] == "record backup --token=7"


def imported(playbook: str) -> list[str]:
    plays = yaml.safe_load((PLAYBOOKS / f"{playbook}.yml").read_text())
    return [play.get("ansible.builtin.import_playbook", "") for play in plays]


@pytest.mark.parametrize("name", LOCKING)
def test_a_stage_by_itself_builds_first_and_gives_the_lock_back_last(name: str) -> None:
    built = [] if name == "backup" else ["build.yml"]

    assert imported(name) == [*built, f"stage_{name}.yml", "unlock.yml"]


def test_a_release_builds_once_and_keeps_the_lock_until_every_stage_is_over() -> None:
    stages = [f"stage_{name}.yml" for name in LOCKING]

    assert imported("release") == ["", "preflight.yml", "build.yml", *stages, "unlock.yml", ""]
