"""Processes kept by a real supervisord, configured by the roles' own templates."""

import contextlib
import getpass
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rollout.errors import Refused, RolloutError
from rollout.host import supervisord
from rollout.steps.status import orphans
from rollout.target.steering import Steering
from rollout.target.target import Target, heartbeat
from tests.integration.rollout.supervised import LISTEN, Machine
from tests.running import CHECKOUT, is_listening, wait_for

ROLES = CHECKOUT / "playbooks" / "roles"
DIES = """
print("reading the configuration", flush=True)
raise ValueError("port 99999 is none")
"""


def pid_of(port: int) -> int:
    found = [c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr[1] == port]
    return int(found[0] or 0) if found else 0


def test_what_is_described_runs_and_is_left_alone_when_asked_again(machine: Machine) -> None:
    machine.describe("haproxy", LISTEN, machine.port)

    first = machine.ensure()
    wait_for(lambda: is_listening(machine.port), "the program listening")
    again = machine.ensure()

    assert (first["changed"], first["started"]) == (True, ["p12-staging-haproxy"])
    assert (again["changed"], again["started"]) == (False, [])


def test_a_program_that_dies_is_named_with_the_end_of_its_log(machine: Machine) -> None:
    machine.describe("haproxy", DIES)

    with pytest.raises(
        RolloutError, match=r"^p12-staging-haproxy does not stay up \((FATAL|EXITED)\)"
    ) as raised:
        machine.ensure()

    assert raised.value.hint.startswith("The end of its log:\n")
    assert raised.value.hint.endswith("ValueError: port 99999 is none")
    assert "reading the configuration" not in raised.value.hint


def test_what_is_broken_in_a_slot_without_traffic_stops_nobody_unless_it_is_named(machine: Machine) -> None:
    machine.describe("haproxy", LISTEN, machine.port)
    machine.describe("green-1.local", DIES)

    assert machine.ensure()["changed"]

    wait_for(lambda: is_listening(machine.port), "the program listening")
    with pytest.raises(RolloutError, match=r"p12-staging-green-1\.local does not stay up"):
        machine.ensure("green-1.local")


def test_a_changed_file_restarts_its_own_process_alone(machine: Machine) -> None:
    other = machine.target.settings["ports"]["redis"]
    machine.describe("haproxy", LISTEN, machine.port)
    machine.describe("redis", LISTEN, other)
    machine.ensure()
    before = [wait_for(lambda port=port: pid_of(port), "listening") for port in (machine.port, other)]  # type: ignore[misc]

    machine.describe("redis", LISTEN, other, "changed")
    answer = machine.ensure()

    wait_for(lambda: pid_of(other) not in (0, before[1]), "a new redis")
    assert answer["started"] == ["p12-staging-redis"]
    assert pid_of(machine.port) == before[0]


def test_what_is_not_described_any_more_ends_alone(machine: Machine) -> None:
    other = machine.target.settings["ports"]["redis"]
    machine.describe("haproxy", LISTEN, machine.port)
    machine.describe("visitors", LISTEN, other)
    machine.ensure()
    wait_for(lambda: is_listening(other) and is_listening(machine.port), "both listening")
    before = pid_of(machine.port)

    (machine.root / "supervisor" / "programs" / "p12-staging-visitors.ini").unlink()
    named, whole = machine.ensure("haproxy"), machine.ensure()

    wait_for(lambda: not pid_of(other), "the visitors gone")
    assert (named["changed"], whole["changed"]) == (False, True)
    assert pid_of(machine.port) == before
    assert machine.ensure()["changed"] is False


def test_a_port_that_is_taken_is_named_with_its_holder(machine: Machine) -> None:
    machine.describe("haproxy", LISTEN, machine.port)
    with subprocess.Popen([sys.executable, "-c", LISTEN, str(machine.port)], stdout=subprocess.PIPE) as taker:
        try:
            wait_for(lambda: is_listening(machine.port), "the other program listening")
            with pytest.raises(Refused) as raised:
                supervisord.require_ports(machine.root, machine.target)
        finally:
            taker.kill()

    said = str(raised.value)
    assert said.startswith(f"staging: port {machine.port}, wanted for haproxy, is held by python")
    assert said.endswith(f"(pid {taker.pid}, user {getpass.getuser()}).")
    assert "p12_port" in raised.value.hint


def test_a_port_held_by_our_own_process_is_no_obstacle(machine: Machine) -> None:
    machine.describe("haproxy", LISTEN, machine.port)
    machine.ensure()
    wait_for(lambda: is_listening(machine.port), "the program listening")

    supervisord.require_ports(machine.root, machine.target)


def test_a_port_that_our_supervisord_takes_meanwhile_is_no_obstacle(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.describe("haproxy", LISTEN, machine.port)
    look = supervisord.listening_pid

    def after_another_start(address: str, port: int) -> int | None:
        machine.ensure()
        wait_for(lambda: is_listening(machine.port), "the program listening")
        return look(address, port)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(supervisord, "listening_pid", after_another_start)

        supervisord.require_ports(machine.root, machine.target)


def test_a_port_of_our_own_process_that_ends_meanwhile_is_no_obstacle(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.describe("haproxy", LISTEN, machine.port)
    machine.ensure()
    wait_for(lambda: is_listening(machine.port), "the program listening")
    look = supervisord.of_site

    def after_its_end(root: Path) -> dict[int, str]:
        pid = pid_of(machine.port)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: pid not in look(root), "its end")
        return look(root)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(supervisord, "of_site", after_its_end)

        supervisord.require_ports(machine.root, machine.target)


def test_what_another_call_starts_meanwhile_is_no_orphan(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisord, "become_owner", lambda _: None)
    machine.describe("haproxy", LISTEN, machine.port)
    look = supervisord.of_site

    def after_another_start(root: Path) -> dict[int, str]:
        machine.ensure()
        wait_for(lambda: is_listening(machine.port), "the program listening")
        return look(root)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(supervisord, "of_site", after_another_start)

        assert not supervisord.ensure_as_owner(machine.target, [])["changed"]


def test_a_reload_reaches_what_runs_and_nothing_else(machine: Machine) -> None:
    assert not supervisord.reload(machine.target, "haproxy", "HUP")["changed"]
    machine.describe("haproxy", LISTEN, machine.port)
    machine.ensure()
    wait_for(lambda: "listening" in machine.log("haproxy"), "the program listening")

    assert supervisord.reload(machine.target, "haproxy", "HUP")["changed"]
    assert not supervisord.reload(machine.target, "redis", "HUP")["changed"]

    wait_for(lambda: "read again" in machine.log("haproxy"), "the signal")


@pytest.mark.parametrize("refused", ["", "Access denied"])
def test_under_systemd_the_unit_is_told_and_what_systemd_refuses_is_told_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """systemctl is a script that writes down how it was called."""
    script = tmp_path / "systemctl"
    says = f'echo "{refused}" >&2; exit 1' if refused else "exit 0"
    script.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/called\n{says}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    target = Target("staging", tmp_path, {"process_manager": "systemd"})

    if refused:
        with pytest.raises(RolloutError, match=r"p12-staging-redis\.service was not reloaded: Access denied"):
            supervisord.reload(target, "redis", "TERM")
    else:
        assert supervisord.reload(target, "redis", "TERM")["changed"]

    assert (tmp_path / "called").read_text() == "reload-or-restart p12-staging-redis.service\n"


def guarding(machine: Machine, *described: str) -> int:
    """Have a program called guard run that once showed a sign of life, and stop it as if it hung."""
    kit = [f"P12_ROOT={machine.root}", f"PYTHONPATH={CHECKOUT}", sys.executable, "-m", "rollout", "host"]
    machine.describe("guard", LISTEN, machine.port)
    if described:
        machine.describe_command("watcher", "/usr/bin/env", *kit, "staging", "processes", "watch")
    heartbeat(machine.target).touch()
    machine.ensure()
    pid = wait_for(lambda: pid_of(machine.port), "the guard")
    # On a busy machine the watcher may have found it silent, and killed it, before this.
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).suspend()
    return pid


def test_a_guard_that_hangs_is_killed_and_started_anew_within_seconds(machine: Machine) -> None:
    pid = guarding(machine, "watcher")

    wait_for(lambda: pid_of(machine.port) not in (0, pid), "another guard", seconds=10)

    assert not psutil.pid_exists(pid)
    assert "the guard hung and was killed" in machine.log("watcher")


def test_a_guard_that_shows_signs_of_life_is_left_alone(machine: Machine) -> None:
    pid = guarding(machine)
    heartbeat(machine.target).touch()

    assert not machine.ensure()["changed"]
    assert pid_of(machine.port) == pid


def test_provisioning_starts_a_guard_anew_that_hangs_though_it_is_said_to_run(machine: Machine) -> None:
    pid = guarding(machine)
    os.utime(heartbeat(machine.target), (1, 1))
    wait_for(lambda: time.time() - psutil.Process(pid).create_time() > 3, "the guard being silent for long")

    answer = machine.ensure()

    assert answer["started"] == ["p12-staging-guard"]
    assert wait_for(lambda: pid_of(machine.port), "another guard") != pid


def orphaned(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> int:
    """Kill the supervisord of a program that goes on listening; return the program's pid."""
    monkeypatch.setattr(supervisord, "become_owner", lambda _: None)
    machine.describe("haproxy", LISTEN, machine.port)
    machine.ensure()
    pid = wait_for(lambda: pid_of(machine.port), "the program listening")
    daemon = psutil.Process(supervisord.daemon_pid(machine.root))
    daemon.kill()
    wait_for(lambda: not supervisord.daemon_pid(machine.root), "no supervisord")
    return pid


def test_what_lives_on_without_its_supervisord_is_stopped_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphaned(machine, monkeypatch)

    answer = supervisord.stop_all(machine.root)

    assert answer["say"] == "1 process stopped, 1 of them without a supervisord"
    assert not pid_of(machine.port)


def test_what_was_stopped_by_a_signal_ends_as_soon_as_what_runs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = orphaned(machine, monkeypatch)
    psutil.Process(pid).suspend()
    started = time.monotonic()

    supervisord.stop_all(machine.root)

    assert time.monotonic() - started < 20
    assert not pid_of(machine.port)


def test_what_lives_on_without_its_supervisord_is_started_anew_under_another(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = orphaned(machine, monkeypatch)
    assert orphans(Steering.of(machine.target)) == 1

    answer = supervisord.ensure_as_owner(machine.target, [])

    assert answer["say"] == "supervisord was gone: 1 of its processes were ended"
    assert wait_for(lambda: pid_of(machine.port), "the program listening") != pid
    assert orphans(Steering.of(machine.target)) == 0


def test_stopping_ends_everything_and_says_how_many(machine: Machine) -> None:
    machine.describe("haproxy", LISTEN, machine.port)
    machine.ensure()
    pid = wait_for(lambda: pid_of(machine.port), "the program listening")

    answer = supervisord.stop_all(machine.root)

    assert answer == {"changed": True, "say": "1 process stopped"}
    assert not psutil.pid_exists(pid)
    assert supervisord.stop_all(machine.root) == {"changed": False, "say": "nothing was running"}


def test_a_supervisord_that_cannot_start_is_told_in_its_own_words(machine: Machine) -> None:
    with (machine.root / "supervisor" / "supervisord.conf").open("a") as file:
        file.write("\n[program:broken]\n")

    with pytest.raises(
        RolloutError, match=r"supervisord does not start: .*program:broken.* does not specify a command"
    ):
        machine.ensure()


def test_the_parts_of_a_host_with_systemd_are_not_asked_here(machine: Machine) -> None:
    systemd = Target("staging", machine.target.directory, {"process_manager": "systemd"})

    with pytest.raises(Refused, match="systemd keeps the processes of this host running"):
        supervisord.ensure_as_owner(systemd, [])
