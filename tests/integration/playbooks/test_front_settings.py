"""What a site says of its front door and its public files is refused in words, before a host is changed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.certificates import certificate
from tests.running import CHECKOUT

KIT = CHECKOUT / "playbooks/roles/kit"
CHECKING = ("public files", "proxies that are", "front door's certificate", "what is wrong with it")
CERTIFICATE, KEY = (part.decode() for part in certificate())


def checked(tmp_path: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run those tasks of the kit that look at these settings, as they stand, with real Ansible."""
    tasks = yaml.safe_load((KIT / "tasks/main.yml").read_text())
    kept = [task for task in tasks if any(words in task["name"] for words in CHECKING)]
    assert len(kept) == 5
    variables = yaml.safe_load((KIT / "defaults/main.yml").read_text())
    variables = {
        name: variables[name] for name in variables if name.startswith(("p12_front", "p12_tr", "p12_pro"))
    }
    variables |= {"p12_public_files": "", "p12_python": sys.executable, "__p12_home": str(tmp_path)}
    variables |= {"__p12_kit": str(tmp_path), "__p12_name": "kit"}
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit/lib").symlink_to(CHECKOUT)
    play = {
        "hosts": "balancer",
        "connection": "local",
        "gather_facts": False,
        "tasks": kept,
        "vars": variables,
    }
    path = tmp_path / "play.yml"
    path.write_text(yaml.safe_dump([play]))
    host = {"balancer": {"hosts": {"localhost": {"ansible_python_interpreter": sys.executable}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(host))
    command = [sys.executable, "-P", "-m", "ansible", "playbook", "-i", str(tmp_path / "hosts.yml")]
    return subprocess.run(
        [*command, "-e", json.dumps(settings), str(path)],
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"p12_trusted_proxies": ["10.0.0.1/8"]}, "no network is 10.0.0.1/8"),
        ({"p12_front_certificate": "front.pem"}, "neither the path of a PEM on the balancer, nor a PEM"),
        ({"p12_front_certificate": "/nonexistent.pem"}, "/nonexistent.pem cannot be read: it is not there"),
        ({"p12_front_certificate": CERTIFICATE}, "holds a certificate without its private key"),
        ({"p12_public_files": "/nonexistent"}, "p12_public_files: /nonexistent is no directory"),
    ],
)
def test_what_could_not_serve_is_refused_in_words(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    done = checked(tmp_path, **settings)

    assert done.returncode == 2
    assert said in done.stderr, done.stdout + done.stderr


def test_what_can_serve_passes_and_no_key_is_shown(tmp_path: Path) -> None:
    done = checked(tmp_path, p12_front_certificate=CERTIFICATE + KEY, p12_trusted_proxies=["10.0.0.0/8"])

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Could not match" not in done.stderr
    assert KEY.splitlines()[1] not in done.stdout + done.stderr
