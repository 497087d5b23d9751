"""What the kit runs on a host: migrations with a release's own code, the visitors, a new cluster."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.store.schema import HEAD
from rollout.database.postgres import Cluster
from rollout.errors import RolloutError
from rollout.host import programs
from rollout.host.installed_servers import Servers
from rollout.target.dsn import MONITOR, OWNER, database_url
from rollout.target.target import Target
from tests.running import CHECKOUT, UNPRIVILEGED

PROGRAM = """
import sys
from pathlib import Path
from rollout.host import programs
from rollout.target.target import Target
programs.{called}(Target.load("staging", Path(sys.argv[1])))
"""


@pytest.fixture
def installed(provisioned: Target, tmp_path: Path) -> Target:
    """A slot with this checkout as its release."""
    release = tmp_path / "staging" / "slots" / "blue" / "release"
    release.mkdir(parents=True)
    (release / "lib").symlink_to(CHECKOUT)
    (tmp_path / "staging" / "secrets.json").write_text((provisioned.directory / "secrets.json").read_text())
    return Target("staging", tmp_path / "staging", {**provisioned.settings, "python": sys.executable})


@pytest.fixture
def empty(provisioned: Target) -> Iterator[str]:
    """The name of a database of the service's role with nothing in it."""
    cluster = Cluster.of(provisioned)
    with cluster.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE empty OWNER {OWNER}")
        yield "empty"
        cursor.execute("DROP DATABASE empty WITH (FORCE)")


def run(target: Target, statement: str, database: str) -> None:
    with contextlib.closing(psycopg2.connect(database_url(target, OWNER, database))) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement)


def test_a_migration_says_from_where_to_where_and_a_second_one_says_nothing(
    installed: Target, empty: str
) -> None:
    first = programs.migrate(installed, "blue", empty)
    second = programs.migrate(installed, "blue", empty)

    assert first["say"] == f"staging: schema as found, of no version → {HEAD}, expand only"
    assert (second["changed"], second["after"], "say" in second) == (False, HEAD, False)


def test_a_migration_that_the_release_refuses_is_told_with_its_reason_and_changes_nothing(
    installed: Target, empty: str
) -> None:
    run(installed, "CREATE TABLE notes (id text PRIMARY KEY)", empty)

    with pytest.raises(RolloutError, match=r"^staging: the migration stopped: .*notes") as raised:
        programs.migrate(installed, "blue", empty)

    assert raised.value.hint
    run(installed, "INSERT INTO notes VALUES ('as it was')", empty)


def test_a_migration_that_is_locked_out_names_who_holds_the_lock_and_what_to_type(
    installed: Target, empty: str
) -> None:
    run(installed, "CREATE TABLE notes (id serial PRIMARY KEY, text text)", empty)
    in_the_way = psycopg2.connect(database_url(installed, MONITOR, empty), application_name="report")

    with contextlib.closing(in_the_way):
        in_the_way.cursor().execute("SELECT count(*) FROM notes WHERE text <> 'private words'")
        pid = in_the_way.info.backend_pid
        with pytest.raises(RolloutError, match=f"is held by pid {pid} .p12_monitor, report.") as raised:
            programs.migrate(installed, "blue", empty)

    assert "staging: the migration stopped: 0001 did not get its lock within 1 s: Acc" in str(raised.value)
    assert "WHERE text <> '?'" in str(raised.value)
    assert f"pg_terminate_backend({pid})" in raised.value.hint
    assert programs.migrate(installed, "blue", empty)["after"] == HEAD


def test_a_release_that_cannot_even_start_is_told_with_its_last_words(installed: Target, empty: str) -> None:
    (installed.directory / "slots" / "blue" / "release" / "lib").unlink()

    with pytest.raises(RolloutError, match=r"the migration stopped: .*No module named 'app'"):
        programs.migrate(installed, "blue", empty)


def test_a_new_cluster_has_checksums_and_asks_hosts_for_passwords(servers: Servers, scratch: Path) -> None:
    home = scratch / "initialised"
    described(home, {"postgres_bin": str(servers.postgres_bin)})
    call(home, "initialise_cluster")
    data = home / "staging" / "postgres"

    said = subprocess.check_output([servers.postgres_bin / "pg_controldata", data], text=True)
    rules = (data / "pg_hba.conf").read_text()

    assert "Data page checksum version:           1" in said
    assert "scram-sha-256" in rules
    assert "trust" not in [
        line.split()[-1] for line in rules.splitlines() if line and not line.startswith("#")
    ]


def test_a_cluster_that_cannot_be_made_is_told_in_the_words_of_initdb(installed: Target) -> None:
    data = installed.directory / "postgres"
    data.mkdir()
    (data / "somebodys").touch()

    with pytest.raises(RolloutError, match=r"^staging: the cluster cannot be made: initdb: ") as raised:
        programs.initialise_cluster(installed)

    assert raised.value.hint == f"df -h {data}"


def test_the_visitors_take_this_process_over_with_the_targets_settings(scratch: Path) -> None:
    home = scratch / "visiting"
    described(home, {"front": "http://127.0.0.1:1", "visitors_rate": 0})
    said = call(home, "visitors", check=False)

    assert "Traceback" not in said
    assert "--rate" in said


def described(home: Path, settings: dict[str, Any]) -> None:
    (home / "staging").mkdir(parents=True)
    (home / "staging" / "target.json").write_text(json.dumps(settings))
    (home / "staging" / "secrets.json").write_text(json.dumps({"rehearsal": "h" * 16}))
    for path in (home, home / "staging", *(home / "staging").iterdir()):
        if UNPRIVILEGED:
            os.chown(path, 65534, 65534)


def call(home: Path, called: str, check: bool = True) -> str:
    """Call one of the programs as the unprivileged user of a host does; return what it said."""
    program = PROGRAM.format(called=called)
    done = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-c", program, str(home)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_evidence_holds_every_finding_of_the_newest_windows(installed: Target) -> None:
    collector = installed.directory.parent / "bin" / "collect_prod_evidence.sh"
    collector.parent.mkdir()
    shutil.copy(CHECKOUT / "tools" / collector.name, collector)
    (installed.directory / "evidence").mkdir()
    for number in range(programs.WINDOWS + 1):
        report = installed.steering / "windows" / f"20261128T12000{number}-abc" / "report.json"
        report.parent.mkdir(parents=True)
        report.write_text(json.dumps({"findings": [number]}))
    settings = {"front": "http://127.0.0.1:9", "haproxy_socket": "/nonexistent", "ports": {"pgbouncer": 9}}

    answer = programs.evidence(Target("staging", installed.directory, {**installed.settings, **settings}))

    kept = [name for name in answer["files"] if name.startswith("window-")]
    assert kept == [f"window-20261128T12000{number}-abc.json" for number in range(1, programs.WINDOWS + 1)]
    assert json.loads((Path(answer["directory"]) / kept[-1]).read_text()) == {"findings": [5]}
