"""What an engineer's shell has set decides nothing; what is closed keeps nobody from rolling back."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.rollout.cli.recorded import Host
from tests.running import CHECKOUT

CONFUSED = {
    **{"LANG": "en_US.UTF-8", "LC_ALL": "xx_XX.ISO-8859-1", "HOME": "/nonexistent", "TMPDIR": "/tmp"},
    **{"PGSSLMODE": "require", "PGOPTIONS": "-c search_path=nowhere", "PGSERVICE": "nowhere"},
    **{"GIT_DIR": "/nonexistent", "GIT_WORK_TREE": "/nonexistent", "GIT_INDEX_FILE": "/nonexistent"},
    **{"PYTHONHOME": "/nonexistent", "PYTHONPATH": "/nonexistent", "PYTHONSTARTUP": "/nonexistent"},
    **{
        "PYTHONIOENCODING": "ascii:strict",
        "PYTHONUTF8": "0",
        "PYTHONWARNINGS": "error",
        "PYTHONINSPECT": "1",
    },
    **{
        "ANSIBLE_CONFIG": "/nonexistent",
        "ANSIBLE_CHECK_MODE_MARKERS": "1",
        "ANSIBLE_STDOUT_CALLBACK": "nothing",
    },
    **{"ANSIBLE_HOME": "/nonexistent", "ANSIBLE_REMOTE_USER": "nobody", "ANSIBLE_TRANSPORT": "nothing"},
}


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (["rollback"], ["rollback", f"--owner=ann@{socket.gethostname()}", "--why="]),
        (
            ["pause", "--why=a while"],
            ["steer", "pause", f"--owner=ann@{socket.gethostname()}", "--why=a while"],
        ),
        (
            ["promote", "--now", "--why=urgent"],
            ["steer", "now", f"--owner=ann@{socket.gethostname()}", "--why=urgent"],
        ),
        (["flags", "off"], ["flags", "off", f"--owner=ann@{socket.gethostname()}"]),
    ],
    ids=" ".join,
)
def test_nothing_that_is_set_changes_what_is_done(host: Host, verb: list[str], words: list[str]) -> None:
    done = host.p12(*verb, umask=0o077, USER="ann", **CONFUSED)

    assert done.returncode == 0, done.stderr
    assert host.called() == ["production", *words]
    assert f"said production {words[0]}" in done.stdout
    assert (host.home / "bin" / "umask").read_text() == "0o22"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full", "| true"])
def test_nobody_who_listens_is_no_reason_not_to_roll_back(host: Host, closed: str) -> None:
    command = f'"$0" rollback -i "$1" {closed}'

    done = subprocess.run(
        ["/bin/sh", "-c", command, CHECKOUT / "p12", host.home / "hosts.yml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert host.called()[:2] == ["production", "rollback"]


def test_a_branch_is_found_whatever_git_is_told(host: Host) -> None:
    done = host.p12("deploy", "--branch", "no-such-branch", **CONFUSED)

    assert "no-such-branch is not a branch, tag or commit here. Branches: " in done.stderr


def test_ansible_is_given_a_home_that_it_may_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rollout.cli.controller_environment import for_ansible

    for named in ("/nonexistent", "", "/proc"):
        monkeypatch.setenv("HOME", named)
        assert os.access(for_ansible()["HOME"], os.W_OK)

    monkeypatch.setenv("HOME", str(tmp_path))
    assert for_ansible()["HOME"] == str(tmp_path)
