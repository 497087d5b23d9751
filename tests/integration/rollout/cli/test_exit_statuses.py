"""What a shell is told, through the real playbooks: done, failed, unknown, refused, each its own status."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rollout.cli.verb_table import CRASH_STATUS
from rollout.steps.in_flight import abort, pause, promote_now, resume
from tests.integration.rollout.cli.recorded import Host
from tests.integration.rollout.steered import NEW, OLD, Steered
from tests.running import CHECKOUT, wait_for

# What waits for a window as a release does, by the same role.
WAITS = """
- hosts: balancer
  tasks:
    - ansible.builtin.import_role: {name: steer, tasks_from: shift}
      vars: {p12_share: 25, p12_document: {release: NAME}, p12_release: {release: NAME}}
    - ansible.builtin.import_role: {name: steer, tasks_from: window}
      vars: {p12_window: step}
"""
RUN = """
import sys
from rollout.cli import engineer
from rollout.cli.controller_environment import for_ansible
sys.exit(engineer._wait([sys.executable, "-m", "ansible.cli.playbook", *sys.argv[1:]], for_ansible())[0])
"""
Site = Callable[..., list[str]]


@contextmanager
def waiting(live: Steered, site: Site) -> Iterator[subprocess.Popen[str]]:
    """A release that waits for its window beside a real guard, which has looked at it already."""
    inventory = site()[-1]
    live.offer(NEW)
    (live.home / "waits.yml").write_text(WAITS.replace("NAME", NEW))
    if not (live.home / "roles").exists():
        (live.home / "roles").symlink_to(CHECKOUT / "playbooks" / "roles")
    words = ["-i", inventory, str(live.home / "waits.yml"), "-e", f"p12_token={live.token}"]
    with live.guarding():
        running = subprocess.Popen(
            [sys.executable, "-c", RUN, *words],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_for(lambda: is_watched(live), "the guard watching", 60)
        yield running


def is_watched(live: Steered) -> bool:
    window = live.steering.state().open_window
    beat: dict[str, Any] = json.loads((live.target.steering / "guard.json").read_bytes())
    return bool(window and beat["window"] == window.id and beat["standing"])


@pytest.fixture
def stepping(live: Steered) -> Steered:
    live.settings["steps"] = [25, 100]
    return live


def test_a_release_that_was_turned_back_is_3(stepping: Steered, site: Site) -> None:
    with waiting(stepping, site) as running:
        stepping.instances["green-1.local"].deadlocks = 1

        said = running.communicate(timeout=120)[0]

    assert (running.returncode, "window failed" in said) == (3, True), said
    assert stepping.steering.balancer.shares()["green"] == 0


def test_a_release_that_somebody_aborts_is_3(stepping: Steered, site: Site) -> None:
    with waiting(stepping, site) as running:
        abort(stepping.steering, "ann@laptop", "wrong release")

        said = running.communicate(timeout=120)[0]

    assert (running.returncode, "aborted by ann@laptop: wrong release" in said) == (3, True), said


def test_a_window_that_could_not_tell_is_4(stepping: Steered, site: Site) -> None:
    step = {**stepping.settings["windows"]["step"], "seconds": 1, "max_seconds": 2}
    stepping.settings["windows"] = {"step": step, "monitor": step}
    with waiting(stepping, site) as running:
        said = running.communicate(timeout=120)[0]

    assert (running.returncode, "window unknown" in said) == (4, True), said


def test_a_paused_release_waits_is_resumed_and_done_is_0(stepping: Steered, site: Site) -> None:
    with waiting(stepping, site) as running:
        pause(stepping.steering, "ann@laptop", "lunch")
        promote_now(stepping.steering, "ann@laptop", "it is urgent")
        resume(stepping.steering, "ann@laptop", "")

        said = running.communicate(timeout=120)[0]

    assert (running.returncode, "ended by ann@laptop: it is urgent" in said) == (0, True), said


def test_a_lost_lock_is_4(stepping: Steered, site: Site) -> None:
    with waiting(stepping, site) as running:
        stepping.steering.lock.fence("lock break: to bob@tower")

        said = running.communicate(timeout=120)[0]

    assert (running.returncode, "You lost the lock" in said) == (4, True), said


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["rollback"], 5, "stopped  Nothing served before"),
        (["abort", "--why=x"], 5, "stopped  Nothing is under way on production"),
        (["pause", "--why= "], 5, "stopped  It is journaled with its reason."),
        (["resume"], 0, "nothing is paused"),
        (["promote", "--now"], 5, "stopped  It is journaled with its reason."),
        (["pause"], 2, "--why"),
        (["status"], 0, OLD),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else None,
)
def test_a_rule_that_says_no_is_5(site: Site, words: list[str], status: int, says: str) -> None:
    program, _, *inventory = site()

    done = subprocess.run([program, *words, *inventory], capture_output=True, text=True, check=False)

    assert done.returncode == status, done.stdout + done.stderr
    assert says in done.stdout + done.stderr


@pytest.mark.parametrize("given", [[], ["--ansible=-v"]], ids=["our words", "Ansible's words"])
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ('{"error": "it failed", "status": 3}', 3),
        ('{"error": "an older kit", "hint": ""}', CRASH_STATUS),
        ("Segmentation fault", CRASH_STATUS),
    ],
)
def test_the_status_is_the_one_that_the_host_has_said(
    host: Host, answer: str, status: int, given: list[str]
) -> None:
    kit = host.home / "bin" / "p12"
    kit.write_text(f"#!/bin/sh\necho '{answer}'\nexit 1\n")

    done = host.p12("rollback", *given)

    assert done.returncode == status, done.stdout + done.stderr


def test_a_host_without_a_kit_is_not_taken_for_a_turned_back_release(host: Host) -> None:
    shutil.rmtree(host.home / "bin")

    assert host.p12("rollback").returncode == CRASH_STATUS
