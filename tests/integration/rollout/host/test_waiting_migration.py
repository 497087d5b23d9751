"""While a migration waits for a lock, the release that runs it says who is in the way and how to go on."""

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import pytest
import yaml

from app.store.schema import HEAD
from rollout.database.postgres import Cluster
from rollout.host import programs
from rollout.target.dsn import MONITOR, database_url
from rollout.target.target import Target
from tests.integration.rollout.host.test_programs import empty, installed, run
from tests.running import CHECKOUT

__all__ = ["empty", "installed"]

READ = "SELECT count(*) FROM notes WHERE text <> 'private words'"


@pytest.fixture
def patient(installed: Target, empty: str) -> Target:
    """A target whose database has notes and no schema yet, and may wait for half a minute."""
    run(installed, "CREATE TABLE notes (id serial PRIMARY KEY, text text)", empty)
    settings = {**installed.settings, "database": empty, "migration_seconds": 30}
    return Target("staging", installed.directory, settings)


@contextlib.contextmanager
def reader(target: Target):
    """Somebody who has read the notes in a transaction and does not end it; gives the pid."""
    url = database_url(target, MONITOR)
    with contextlib.closing(psycopg2.connect(url, application_name="report")) as connection:
        connection.cursor().execute(READ)
        yield connection.info.backend_pid


def playbook(target: Target) -> Path:
    """The tasks of the slot role that migrate, for a host with the kit in a place of its own."""
    root = target.directory.parent
    (target.directory / "target.json").write_text(json.dumps(target.settings))
    (root / "bin").mkdir()
    program = root / "bin" / "p12"
    environment = f"export P12_ROOT={root} PYTHONPATH={CHECKOUT}"
    program.write_text(f'#!/bin/sh\n{environment}\nexec {sys.executable} -m rollout host "$@"\n')
    program.chmod(0o755)
    role = yaml.safe_load((CHECKOUT / "playbooks" / "roles" / "slot" / "tasks" / "main.yml").read_text())
    tasks = [task for task in role if "migrate" in task.get("ansible.builtin.command", {}).get("argv", ())]
    known = {"p12_root": str(root), "p12_target": "staging", "p12_slot": "blue"}
    known |= {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    play = {"hosts": "localhost", "gather_facts": False, "vars": known, "tasks": tasks}
    (root / "migrate.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    return root / "migrate.yml"


def test_the_running_release_says_within_seconds_who_is_in_the_way_and_goes_on_as_it_says(
    patient: Target,
) -> None:
    command = [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", playbook(patient)]

    with (
        reader(patient) as pid,
        subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as release,
    ):
        assert release.stdout is not None
        waits = release.stdout.readline()
        is_running = release.poll() is None
        to_type = re.search(r"SELECT pg_terminate_backend\(\d+\)", waits)
        assert to_type, waits
        with Cluster.of(patient).cursor() as superuser:
            superuser.execute(to_type[0])
        rest = release.stdout.read()

    assert is_running
    assert re.search(
        rf"staging: the migration waits: 0001 .* held by pid {pid} \(p12_monitor, report\) since "
        r"\d{4}-\d\d-\d\d [\d:]+ UTC, idle in transaction: "
        r"SELECT count\(\*\) FROM notes WHERE text <> '\?'\. ",
        waits,
    ), waits
    assert "It tries for 28 s more." in waits
    assert release.returncode == 0, rest
    assert f"→ {HEAD}, expand only" in rest


def test_it_is_told_after_two_seconds_and_the_rest_of_the_time_is_what_is_left(patient: Target) -> None:
    with reader(patient):
        began = time.monotonic()
        answer = programs.migrate(patient, "blue", briefly=True)
        took = time.monotonic() - began

    assert (answer["waiting"], answer["changed"], answer["seconds"]) == (True, False, 28)
    assert took < 8, took
    assert programs.migrate(patient, "blue", seconds=answer["seconds"])["after"] == HEAD


def test_where_nobody_is_in_the_way_the_first_try_is_the_last(patient: Target) -> None:
    answer = programs.migrate(patient, "blue", briefly=True)

    assert (answer["after"], "waiting" in answer) == (HEAD, False)
