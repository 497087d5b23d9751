"""What playbooks ask on the engineer's machine, asked as they ask it: a process, and JSON on its output."""

import json
import os
import subprocess
import sys
from typing import Any

import psutil
import pytest

from rollout.cli import session
from tests.running import CHECKOUT


def ask(*words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "rollout.cli.controller", *words],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", CHECKOUT, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_what_is_checked_out_is_resolved_to_its_commit() -> None:
    status, answer = ask("resolve")

    commit = git("rev-parse", "HEAD")
    assert status == 0
    assert answer["document"]["commit"] == commit
    assert answer["document"]["release"] == commit[:12]
    assert answer["document"]["committed_at"] == int(git("show", "-s", "--format=%ct", "HEAD"))
    assert answer["say"].startswith(f"release {commit[:12]} from ")
    assert git("branch", "--show-current") in ["", *answer["document"]["branches"]]


def test_a_branch_that_is_not_there_is_an_answer_with_what_to_type() -> None:
    status, answer = ask("resolve", "--branch=no-such-branch")

    assert status == 1
    assert "no-such-branch" in answer["error"]
    assert answer["hint"]


def test_the_kit_has_one_name_for_one_checkout_and_another_for_other_hosts() -> None:
    (_, first), (_, again) = ask("kit", "--name-only"), ask("kit", "--name-only")
    _, other = ask("kit", "--name-only", "--machine=aarch64")

    assert first["id"] == again["id"] != other["id"]


def test_a_session_names_its_driver_and_whether_another_one_is_dead() -> None:
    other = subprocess.Popen(["sleep", "60"])
    host = session.session().partition(":")[0]
    named = f"{host}:{other.pid}:{psutil.Process(other.pid).create_time():.2f}"

    _, alive = ask("session", f"--seen={named}")
    other.kill()
    other.wait()
    _, dead = ask("session", f"--seen={named}")

    assert alive["owner"] == session.owner()
    assert (alive["dead"], dead["dead"]) == ("-", named)


@pytest.mark.parametrize("words", [["nothing"], ["session", "--sen=x"]])
def test_another_question_is_a_matter_of_usage(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rollout.cli.controller", *words],
        capture_output=True,
        cwd=CHECKOUT,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, b"")
