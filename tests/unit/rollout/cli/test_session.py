"""Who drives, and whether the one who drove is gone."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rollout.cli import session
from tests.running import CHECKOUT

ASK = "from rollout.cli import session; print(session.session(), flush=True)"
ASK_TWICE = (
    "import subprocess, sys; input();"
    f"[subprocess.run([sys.executable, '-c', {ASK!r}], check=True) for _ in 'ab'];"
    "import psutil; print(psutil.Process().pid)"
)


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def named(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.2f}"


def asked_below(*command: str) -> list[str]:
    """Run a program whose parent is gone, so that nothing of this test is above it; return its lines."""
    orphan = ["sh", "-c", 'exec 3<&0; "$@" <&3 &', "sh", *command]
    with subprocess.Popen(
        orphan,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    ) as process:
        process.wait()
        said, _ = process.communicate("go\n")
    return said.split()


def test_an_owner_is_a_user_at_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "ann")

    assert session.owner() == f"ann@{socket.gethostname()}"


def test_behind_sudo_the_owner_is_who_typed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "bob")

    assert session.owner().startswith("bob@")


def test_a_living_session_of_this_machine_is_not_dead(other: subprocess.Popen[bytes]) -> None:
    assert not session.is_dead(named(other.pid))


def test_a_session_whose_process_ended_is_dead(other: subprocess.Popen[bytes]) -> None:
    name = named(other.pid)
    other.kill()
    other.wait()

    assert session.is_dead(name)


def test_a_session_whose_process_id_went_to_another_process_is_dead(other: subprocess.Popen[bytes]) -> None:
    host, pid, start = named(other.pid).split(":")

    assert session.is_dead(f"{host}:{pid}:{float(start) - 100:.2f}")


@pytest.mark.parametrize("name", ["tower:{pid}:1.00", "", "-", "{host}:", "{host}:x:1.00", "{host}:-1:1.00"])
def test_of_a_session_that_is_not_of_this_machine_nothing_is_known(
    other: subprocess.Popen[bytes], name: str
) -> None:
    other.kill()
    other.wait()

    assert not session.is_dead(name.format(pid=other.pid, host=socket.gethostname()))


def test_two_questions_below_one_playbook_are_one_session(tmp_path: Path) -> None:
    program = tmp_path / "ansible-playbook"
    program.write_text(ASK_TWICE)

    first, second, playbook = asked_below(sys.executable, str(program))

    assert first == second
    assert first.split(":")[1] == playbook


def test_two_questions_of_a_playbooks_forks_are_one_session(tmp_path: Path) -> None:
    program = tmp_path / "ansible-playbook"
    program.write_text(
        "import os, subprocess, sys; input(); print(os.getpid(), flush=True)\n"
        "for _ in 'ab':\n"
        "    if os.fork() == 0:\n"
        f"        subprocess.run([sys.executable, '-c', {ASK!r}], check=True)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )

    playbook, first, second = asked_below(sys.executable, str(program))

    assert first == second
    assert first.split(":")[1] == playbook


def test_two_playbooks_below_one_program_are_two_sessions(tmp_path: Path) -> None:
    playbook = tmp_path / "ansible-playbook"
    playbook.write_text(ASK_TWICE)
    run = f"subprocess.run([sys.executable, {str(playbook)!r}, name], input='go', text=True, check=True)"
    both = f"import subprocess, sys; input(); [{run} for name in ('one', 'two')]"

    said = asked_below(sys.executable, "-c", both, "rollout", "ansible")

    first, _, _, second, _, _ = said
    assert first != second


def test_without_a_playbook_above_each_asker_is_a_session_of_its_own(tmp_path: Path) -> None:
    program = tmp_path / "plain"
    program.write_text(ASK_TWICE)

    first, second, above = asked_below(sys.executable, str(program))

    assert len({first, second}) == 2
    assert above not in (first.split(":")[1], second.split(":")[1])


def test_a_terminal_or_shell_that_is_about_ansible_is_no_session() -> None:
    script = 'read _; "$0" -c "$1"; "$0" -c "$1"'

    first, second = asked_below("sh", "-c", script, sys.executable, ASK, "ansible", "rollout")

    assert first != second
