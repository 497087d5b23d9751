"""The owner's public files on their way to an app host, with real Ansible."""

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.running import CHECKOUT


@pytest.fixture
def play(tmp_path: Path) -> dict[str, Any]:
    play = {
        **{"hosts": "localhost", "connection": "local", "gather_facts": False},
        "roles": [{"role": str(CHECKOUT / "playbooks/roles/public_files")}],
        "vars": {
            "p12_root": str(tmp_path / "root"),
            "p12_target": "staging",
            "p12_user": pwd.getpwuid(os.geteuid()).pw_name,
            "p12_public_files": str(tmp_path / "owners"),
            "ansible_python_interpreter": sys.executable,
        },
    }
    (tmp_path / "root/staging").mkdir(parents=True)
    (tmp_path / "owners/images").mkdir(parents=True)
    (tmp_path / "owners/images/a.png").write_text("png")
    (tmp_path / "owners/ads.txt").write_text("first")
    return play


def shipped(tmp_path: Path, play: dict[str, Any]) -> int:
    """Run the play; return how many tasks changed something."""
    path = tmp_path / "play.yml"
    path.write_text(yaml.safe_dump([play]))
    plain = {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "default"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ansible", "playbook", "-i", "localhost,", str(path)],
        env={**os.environ, **plain},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (changed,) = re.findall(r"changed=(\d+)", done.stdout)
    return int(changed)


def test_they_are_served_all_at_once_and_older_ones_go(tmp_path: Path, play: dict[str, Any]) -> None:
    current = tmp_path / "root/staging/public/current"
    shipped(tmp_path, play)
    first = current.resolve()

    assert (current / "ads.txt").read_text() == "first"
    assert (current / "images/a.png").read_text() == "png"
    assert shipped(tmp_path, play) == 0

    (tmp_path / "owners/ads.txt").write_text("second")
    (tmp_path / "owners/images/a.png").unlink()
    assert shipped(tmp_path, play) > 0

    assert (current / "ads.txt").read_text() == "second"
    assert not (current / "images/a.png").exists()
    assert not first.exists()
