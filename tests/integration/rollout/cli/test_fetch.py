"""A branch that only the remote has, released from a checkout with a real remote on this disk."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import CHECKOUT

IDENTITY = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")


@dataclass(frozen=True)
class Cloned:
    """A clone of what is being tested; its origin has the branch ``topic`` at ``topic``."""

    checkout: Path
    topic: str

    def release(self, *words: str) -> str:
        """Release onto a host without a kit, which stops right after what to release is known."""
        command = [self.checkout / "p12", "release", "-i", self.checkout.parent / "site.yml", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        return done.stdout + done.stderr


def git(where: Path, *words: str) -> str:
    command = ["git", "-C", where, *IDENTITY, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def cloned(tmp_path: Path) -> Cloned:
    origin = tmp_path / "origin"
    for name in filter(None, git(CHECKOUT, "ls-files", "-z").split("\0")):
        if (CHECKOUT / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, origin / name)
    git(tmp_path, "init", "-q", "-b", "main", str(origin))
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "What is being tested")
    git(tmp_path, "clone", "-q", str(origin), "clone")
    (tmp_path / "clone" / ".venv").symlink_to(CHECKOUT / ".venv")
    git(origin, "checkout", "-q", "-b", "topic")
    git(origin, "commit", "-q", "--allow-empty", "-m", "A topic")
    host = {
        **{"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        **{"p12_become": False, "p12_root": str(tmp_path / "kit"), "p12_target": "production"},
    }
    groups = {name: {"hosts": {"one": host}} for name in ("production", "balancer")}
    (tmp_path / "site.yml").write_text(json.dumps({"all": {"children": groups}}))
    return Cloned(tmp_path / "clone", git(origin, "rev-parse", "topic"))


def test_a_branch_that_only_origin_has_is_taken_with_fetch_and_named_so(cloned: Cloned) -> None:
    refused = cloned.release("--branch", "topic")
    fetched = cloned.release("--branch", "topic", "--fetch")

    assert "topic is not a branch, tag or commit here." in refused
    assert "./p12 release -i" in refused
    assert "--fetch --branch NAME" in refused
    assert f"release {cloned.topic[:12]} from origin/topic" in fetched
