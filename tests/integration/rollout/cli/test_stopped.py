"""A release that stops gives its lock back and says what is true; a second one waits for nothing."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.rollout.steered import Steered
from tests.running import wait_for

SAYS = f"production: {'a' * 12} serves 100 %; the lock is given back"


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def taken(live: Steered) -> bool:
    return live.events()[-1] == "lock.taken"


@pytest.mark.parametrize("away", [[], ["app-1"]], ids=["what nobody foresaw", "an unreachable host"])
def test_what_stops_gives_the_lock_back_and_says_what_is_true(
    live: Steered, site: Callable[..., list[str]], away: list[str]
) -> None:
    done = start(site(*away))

    said = done.communicate(timeout=120)[0]

    assert done.returncode == (4 if away else 1), said
    assert taken(live), said
    assert not live.steering.lock.holder().owner, said
    assert SAYS in said


@pytest.mark.parametrize(
    ("number", "send"),
    [
        (signal.SIGINT, os.killpg),
        (signal.SIGINT, os.kill),
        (signal.SIGTERM, os.kill),
        (signal.SIGHUP, os.kill),
    ],
)
def test_a_signal_ends_it_the_same_way(
    live: Steered,
    site: Callable[..., list[str]],
    number: signal.Signals,
    send: Callable[[int, signal.Signals], None],
) -> None:
    command = site()
    (live.home / "hang").touch()
    running = start(command)
    wait_for((live.home / "hangs").exists, "the release holding the lock", 60)

    send(running.pid, number)
    said = running.communicate(timeout=120)[0]

    assert running.returncode == (130 if number == signal.SIGINT else 143), said
    assert taken(live), said
    assert not live.steering.lock.holder().owner, said
    assert SAYS in said
    if number == signal.SIGINT:
        assert said.splitlines()[-1].startswith("next     the same command goes on: ./p12 release -i "), said


def test_what_was_killed_keeps_its_lock_and_the_same_command_takes_it_over(
    live: Steered, site: Callable[..., list[str]]
) -> None:
    command = site()
    (live.home / "hang").touch()
    running = start(command)
    wait_for((live.home / "hangs").exists, "the release holding the lock", 60)

    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    (live.home / "hang").unlink()
    held = live.steering.lock.holder()
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert held.owner
    assert live.steering.lock.holder().token > held.token, done.stdout + done.stderr
    assert not live.steering.lock.holder().owner
    assert "locked by" not in done.stdout + done.stderr


def test_a_second_release_is_refused_before_a_local_site_is_provisioned(
    live: Steered, site: Callable[..., list[str]]
) -> None:
    live.steering.lock.take("eve@tower", "tower:2:2.0")
    events, files = live.events(), set(Path(live.home).rglob("*"))
    command = site(p12_process_manager="supervisord")

    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started

    assert done.returncode == 5
    assert done.stderr.startswith("production: locked by eve@tower (session tower:2:2.0) since ")
    assert "./p12 lock break -i" in done.stderr
    assert "ansible-playbook" not in done.stderr
    assert live.events() == events
    assert {p.name for p in set(Path(live.home).rglob("*")) - files} <= {
        "site.yml",
        "bin",
        "p12",
        "target.json",
    }
    assert seconds < 10, (
        f"{seconds:.1f} s"
    )  # alone it takes about one; what counts is what it does not wait for
