"""Roles and the database of a target: made once, with the inventory's passwords, and no right too many."""

import contextlib
import getpass
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from rollout.database import roles
from rollout.database.postgres import Cluster as TargetCluster
from rollout.errors import RolloutError
from rollout.host.installed_servers import Servers
from rollout.target.dsn import MONITOR, OWNER, database_url
from rollout.target.target import Target
from tests.running import Cluster, cluster, free_port

PASSWORDS = {"database": "o" * 16, "monitor": "m" * 16}
RIGHTS = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"


@dataclass
class Fresh:
    """A cluster whose hosts need passwords, and the target it belongs to; its superuser is who runs this."""

    cluster: Cluster
    target: Target

    def execute(self, role: str, statement: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(psycopg2.connect(database_url(self.target, role))) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def with_passwords(self, **passwords: str) -> Target:
        (self.target.directory / "secrets.json").write_text(json.dumps(PASSWORDS | passwords))
        return Target("production", self.target.directory, self.target.settings)


@pytest.fixture(scope="module")
def fresh(servers: Servers, scratch: Path) -> Iterator[Fresh]:
    home = scratch / "roles"
    home.mkdir()
    with cluster(servers, home / "pg") as made:
        if getpass.getuser() != "nobody":
            made.run(f'CREATE ROLE "{getpass.getuser()}" SUPERUSER LOGIN')
        rules = ["local all all trust", "host all nobody all trust", "host all all all scram-sha-256"]
        (home / "pg" / "data" / "pg_hba.conf").write_text("\n".join(rules) + "\n")
        made.run("SELECT pg_reload_conf()")
        settings = {
            "database": "paste12",
            "database_address": "127.0.0.1",
            "postgres_port": made.port,
            "postgres_socket_directory": str(home / "pg"),
        }
        directory = home / "production"
        directory.mkdir()
        (directory / "secrets.json").write_text(json.dumps(PASSWORDS))
        yield Fresh(made, Target("production", directory, settings))


@pytest.fixture
def made(fresh: Fresh) -> Fresh:
    roles.ensure(fresh.with_passwords())
    return fresh


def test_what_is_missing_is_made_and_named_and_a_second_time_nothing_is(fresh: Fresh) -> None:
    fresh.cluster.run("DROP DATABASE IF EXISTS paste12")
    fresh.cluster.run("DROP ROLE IF EXISTS paste12; DROP ROLE IF EXISTS p12_monitor")

    first, second = roles.ensure(fresh.target), roles.ensure(fresh.target)

    created = ["role paste12", "role p12_monitor", "database paste12"]
    assert first == {"changed": True, "created": created}
    assert second == {"changed": False, "created": []}


def test_a_role_that_is_lost_is_made_again_and_nothing_else(made: Fresh) -> None:
    made.cluster.run("DROP ROLE p12_monitor")

    assert roles.ensure(made.target)["created"] == ["role p12_monitor"]
    assert made.execute(MONITOR, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("role", [OWNER, MONITOR])
def test_each_role_gets_in_with_its_password_and_after_a_change_with_the_new_one(
    made: Fresh, role: str
) -> None:
    assert made.execute(role, "SELECT current_user::text") == [(role,)]
    changed = made.with_passwords(**dict.fromkeys(PASSWORDS, "n" * 16))

    roles.ensure(changed)

    assert Fresh(made.cluster, changed).execute(role, "SELECT 1") == [(1,)]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        made.execute(role, "SELECT 1")


def test_neither_role_may_more_than_it_needs(made: Fresh) -> None:
    rights = made.cluster.run(
        f"SELECT DISTINCT {RIGHTS} FROM pg_roles WHERE rolname IN ('paste12', 'p12_monitor')"
    )
    member = """
        SELECT r.rolname::text, g.rolname::text FROM pg_auth_members m
        JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid
        WHERE r.rolname IN ('paste12', 'p12_monitor') ORDER BY 2
    """

    assert rights == [(False,) * 5]
    assert made.cluster.run(member) == [(MONITOR, "pg_monitor"), (MONITOR, "pg_read_all_data")]


def test_the_monitor_reads_rows_and_statistics_of_others_and_writes_nothing(made: Fresh) -> None:
    made.execute(OWNER, "CREATE TABLE IF NOT EXISTS seen (n int)")
    made.execute(OWNER, "INSERT INTO seen VALUES (1)")

    rows = made.execute(MONITOR, "SELECT n FROM seen LIMIT 1")
    foreign = "SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>'"

    assert (rows, made.execute(MONITOR, foreign)) == ([(1,)], [(0,)])
    for statement in ("INSERT INTO seen VALUES (2)", "DROP TABLE seen", "CREATE TABLE mine (n int)"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            made.execute(MONITOR, statement)


def test_what_a_restore_made_is_the_owners_afterwards(made: Fresh) -> None:
    made.cluster.run("CREATE TABLE theirs (id serial PRIMARY KEY)", "paste12")
    made.cluster.run("CREATE SCHEMA side; CREATE VIEW side.seen AS SELECT 1 AS one", "paste12")

    with TargetCluster.of(made.target).cursor("paste12") as cursor:
        roles.give(cursor, "paste12", OWNER)

    made.execute(OWNER, "INSERT INTO theirs DEFAULT VALUES")
    made.execute(OWNER, "DROP TABLE theirs")
    made.execute(OWNER, "DROP SCHEMA side CASCADE")


def test_a_server_that_does_not_come_is_told_with_its_reason_once_the_time_is_over(fresh: Fresh) -> None:
    away = Target(
        "production", fresh.target.directory, {**fresh.target.settings, "postgres_port": free_port()}
    )
    started = time.monotonic()

    with pytest.raises(RolloutError, match=r"Postgres: connection to server on socket .* failed") as raised:
        roles.ensure(away, seconds=0.3)

    assert time.monotonic() - started >= 0.3
    assert "./p12 provision" in raised.value.hint
