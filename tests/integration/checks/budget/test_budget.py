"""The budget as the servers themselves tell it: Postgres, the pooler's console, and pg_dump."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from checks.base import pgbouncer
from checks.base.errors import CannotMeasure
from checks.base.postgres_tools import Tools
from checks.budget import cli
from rollout.host.installed_servers import Servers
from tests.integration.checks.servers import BIN, Cluster, free_port
from tests.running import running_pooler

INVENTORY = {
    "hosts": 2,
    "instances": 2,
    "threads": 8,
    "pool_size": 8,
    "max_overflow": 8,
    "limiter_storage": "redis",
}


@pytest.fixture(scope="module")
def pools(servers: Servers, scratch: Path, postgres: Cluster) -> Iterator[Path]:
    """A running pooler's configuration file; its port stands in it."""
    with running_pooler(servers, scratch / "pools", postgres, default_pool_size=25):  # type: ignore[arg-type]
        used(scratch / "pools" / "pgbouncer.ini")
        yield scratch / "pools" / "pgbouncer.ini"


def used(pools: Path) -> None:
    """Connect once: a pooler that serves any database knows those that were asked for."""
    psycopg2.connect(console_of(pools).removesuffix("pgbouncer") + "postgres").close()


def console_of(pools: Path) -> str:
    port = next(line for line in pools.read_text().splitlines() if line.startswith("listen_port")).split()[-1]
    return f"postgresql://nobody@127.0.0.1:{port}/pgbouncer"


@pytest.fixture
def reconfigured(pools: Path) -> Iterator[Any]:
    """Change the pooler's configuration for one test."""
    before = pools.read_text()

    def change(old: str, new: str) -> None:
        assert old in before
        pools.write_text(before.replace(old, new))
        reload()

    def reload() -> None:
        with pgbouncer.console(console_of(pools)) as console:
            pgbouncer.ask(console, "RELOAD")
        used(pools)

    yield change
    pools.write_text(before)
    reload()


def check(
    tmp_path: Path, database: str, console: str, bin_dir: Path = BIN, **changed: Any
) -> tuple[int, dict[str, Any]]:
    site = tmp_path / "site.json"
    site.write_text(json.dumps(INVENTORY | changed))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "checks",
            "budget",
            "--ask",
            "--json",
            f"--site={site}",
            f"--bin-dir={bin_dir}",
            "--target=production",
        ],
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database, "P12_POOLER_URL": console},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def wrong(report: dict[str, Any]) -> dict[str, str]:
    return {f["name"]: f["verdict"] for f in report["findings"] if f["verdict"] != "passed"}


def test_servers_that_give_enough_pass_and_the_sums_are_shown(
    tmp_path: Path, pools: Path, postgres: Cluster
) -> None:
    status, report = check(tmp_path, postgres.url("postgres"), console_of(pools))

    assert (status, wrong(report)) == (0, {})
    assert report["facts"]["during_overlap"].endswith("= 132 of max_client_conn 500")
    assert report["inputs"]["server_version"] == report["inputs"]["pg_dump_version"] == 15


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pool_mode = transaction", "pool_mode = session"),
        ("[pgbouncer]", "postgres = host=127.0.0.1 pool_mode=session\n[pgbouncer]"),
    ],
    ids=["for all", "for this database alone"],
)
def test_a_pooler_that_is_in_session_mode_is_refused(
    tmp_path: Path, pools: Path, postgres: Cluster, reconfigured: Any, old: str, new: str
) -> None:
    reconfigured(old, new.replace("127.0.0.1", f"127.0.0.1 port={postgres.port}"))

    status, report = check(tmp_path, postgres.url("postgres"), console_of(pools))

    assert (status, wrong(report)) == (3, {"pool_mode": "failed"})


def test_a_limit_for_the_database_counts(
    tmp_path: Path, pools: Path, postgres: Cluster, reconfigured: Any
) -> None:
    reconfigured("[pgbouncer]", "[pgbouncer]\nmax_db_connections = 10")

    status, report = check(tmp_path, postgres.url("postgres"), console_of(pools))

    assert (status, wrong(report)) == (3, {"server_connections_fewest": "failed"})


def test_limits_in_memory_on_several_instances_are_refused(
    tmp_path: Path, pools: Path, postgres: Cluster
) -> None:
    status, report = check(tmp_path, postgres.url("postgres"), console_of(pools), limiter_storage="memory://")

    assert (status, wrong(report)) == (3, {"limiter_storage": "failed"})


def fake_tools(directory: Path, version: str) -> Path:
    """A bin directory whose programs say a version."""
    for name in ("pg_dump", "pg_dumpall", "pg_restore", "initdb", "postgres"):
        (directory / name).write_text(f"#!/bin/sh\necho '{version}'\n")
        (directory / name).chmod(0o755)
    return directory


@pytest.mark.parametrize(
    ("version", "status", "verdict"),
    [("pg_dump (PostgreSQL) 14.9", 3, "failed"), ("who knows", 4, "unknown")],
)
def test_a_pg_dump_older_than_the_server_is_refused_and_a_silent_one_unknown(
    tmp_path: Path, pools: Path, postgres: Cluster, version: str, status: int, verdict: str
) -> None:
    tools = fake_tools(tmp_path, version)

    done, report = check(tmp_path, postgres.url("postgres"), console_of(pools), bin_dir=tools)

    assert (done, wrong(report)) == (status, {"pg_dump_version": verdict})


def test_no_pg_dump_is_unknown(tmp_path: Path) -> None:
    assert cli.pg_dump_version(Tools(tmp_path)) is None


def test_servers_that_do_not_answer_are_unknown_and_keep_their_passwords(
    tmp_path: Path, pools: Path, postgres: Cluster
) -> None:
    database, console = postgres.url("postgres"), console_of(pools)
    away = f"postgresql://nobody:hidden@127.0.0.1:{free_port()}/postgres"
    for given in ((away, console), (database, away)):
        status, report = check(tmp_path, *given)

        assert (status, wrong(report)) == (4, {"measurable": "unknown"})
        assert "hidden" not in json.dumps(report)


def test_a_database_that_the_pooler_does_not_serve_is_named(pools: Path) -> None:
    with (
        pgbouncer.console(console_of(pools)) as console,
        pytest.raises(CannotMeasure, match="no database nowhere"),
    ):
        pgbouncer.limits(console, "nowhere")
