"""Restarts behind a pause: visitors wait a moment, and not one of their requests fails."""

import contextlib
import signal
import subprocess
import sys
import textwrap
import time

import psycopg2
import pytest

from checks.budget import budget
from rollout.database import connection_budget
from rollout.database.pgbouncer import Pooler, paused
from rollout.database.restart import pending_settings, restart, restart_postgres, take_over
from rollout.errors import Refused, RolloutError
from tests.integration.rollout.database.kept import PAUSE_SECONDS, KeptSite
from tests.running import CHECKOUT, UNPRIVILEGED, wait_for


def test_a_setting_that_needs_a_restart_comes_into_force_and_no_visitor_fails(site: KeptSite) -> None:
    file = site.cluster.home / "data" / "postgresql.conf"
    file.write_text(file.read_text() + "wal_buffers = 1MB\n")
    site.cluster.run("SELECT pg_reload_conf()")
    visitors = site.visitors("inline")
    before = site.server.pid
    assert pending_settings(site.server) == {"wal_buffers": "1MB"}

    with visitors.visiting():
        seconds = restart(site.server, site.console, PAUSE_SECONDS)
        back = time.monotonic()
        wait_for(lambda: visitors.back(back), "the visitors being served")

    assert site.server.pid != before
    assert site.cluster.run("SHOW wal_buffers") == [("1MB",)]
    assert set(visitors.statuses()) == {200}
    assert max(answer.ended - answer.started for answer in visitors.answers) < seconds + 2
    site.must_have_counted(visitors)


def test_pgbouncer_runs_anew_and_no_connection_is_closed(site: KeptSite) -> None:
    visitors = site.visitors("inline")
    before = site.pgbouncer.process.pid
    command = [*UNPRIVILEGED, *_command_of(site)]

    with visitors.visiting():
        take_over(site.console, command, site.home / "log")
        done = time.monotonic()
        wait_for(lambda: visitors.back(done), "the visitors being served")

    assert site.pgbouncer.process.pid != before
    assert site.pgbouncer.process.poll() is None
    assert set(visitors.statuses()) == {200}
    site.must_have_counted(visitors)


def test_a_program_killed_in_the_pause_leaves_nobody_waiting(site: KeptSite) -> None:
    program = f"""
        import time
        from rollout.database.pgbouncer import Pooler, paused
        with paused(Pooler({{"dsn": {site.pooler_url("pgbouncer")!r}}}), {PAUSE_SECONDS}):
            print("paused", flush=True)
            time.sleep(60)
    """
    visitors = site.visitors("inline")
    with visitors.visiting():
        running = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert running.stdout is not None
        assert running.stdout.readline() == b"paused\n"
        killed = time.monotonic()
        running.send_signal(signal.SIGKILL)
        running.wait(10)
        running.stdout.close()
        back = wait_for(lambda: visitors.back(killed), "the visitors being served")

    assert back - killed < PAUSE_SECONDS / 2
    assert set(visitors.statuses()) == {200}
    site.must_have_counted(visitors)


def test_a_pause_ends_at_its_deadline_whatever_the_program_does(site: KeptSite) -> None:
    with paused(site.console, 2.0):
        assert _is_paused(site)
        wait_for(lambda: not _is_paused(site), "clients being let go", 5)


def test_a_transaction_that_does_not_end_stops_the_restart_and_visitors_go_on(site: KeptSite) -> None:
    before = site.server.pid
    holder = psycopg2.connect(site.pooler_url("paste12"))
    holder.cursor().execute("SELECT 1")
    try:
        with pytest.raises(Refused, match=r"Transactions still run after 0\.5 s"):
            restart(site.server, site.console, 1.0)
    finally:
        holder.close()

    assert site.server.pid == before
    assert not _is_paused(site)


def test_a_pause_longer_than_pgbouncers_patience_is_refused(site: KeptSite) -> None:
    with pytest.raises(Refused, match=r"query_wait_timeout.*Accepted: up to 7 s"), paused(site.console, 8):
        pass

    assert not _is_paused(site)


def test_a_file_with_which_postgres_would_not_start_is_refused_with_its_line(site: KeptSite) -> None:
    file = site.cluster.home / "data" / "postgresql.conf"
    good = file.read_text()
    file.write_text(good + "max_connections = many\n")
    try:
        with pytest.raises(RolloutError, match=r"conf:\d+: Postgres does not take max_connections = many"):
            pending_settings(site.server)
    finally:
        file.write_text(good)


def test_fewer_connections_than_are_promised_are_refused_before_postgres_is_restarted(site: KeptSite) -> None:
    file = site.cluster.home / "data" / "postgresql.conf"
    good, before = file.read_text(), site.server.pid
    file.write_text(good + "max_connections = 8\n")
    try:
        with pytest.raises(
            Refused, match=r"postgres_connections 7 \(limit <= 4\).*8 − 3 reserved"
        ) as refused:
            restart_postgres(site.target, forced=True)
    finally:
        file.write_text(good)
        site.cluster.run("SELECT pg_reload_conf()")

    assert refused.value.hint.endswith("./p12 maintenance apply")
    assert "nothing was restarted or reloaded" in str(refused.value)
    assert (site.server.pid, _is_paused(site)) == (before, False)


@pytest.mark.parametrize(
    ("coming", "said"),
    [
        ({"max_connections": 20, "pooler_pool_size": 30}, r"postgres_connections 33 \(limit <= 13\)"),
        ({"max_connections": 100, "pooler_pool_size": 60}, r"server_connections_most 60 \(limit <= 50\)"),
        ({"max_client_conn": 20}, r"client_connections_during_overlap 26 \(limit <= 20\)"),
        ({"pooler_pool_size": 0}, r"pooler_pool_size is 0: Expected `int` >= 1"),
    ],
)
def test_settings_over_the_budget_are_named_with_value_and_limit(
    site: KeptSite, coming: dict[str, int], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        connection_budget.require(site.target, coming)


def test_what_the_budget_lacked_before_and_lacks_no_more_than_then_stops_nothing(site: KeptSite) -> None:
    over = [f for f in budget.judge(_site_of(site)) if f.verdict != "passed"]
    assert "server_connections_fewest" in [finding.name for finding in over]

    answer = connection_budget.require(site.target, {"max_connections": 100})

    assert answer["say"] == "production: connections stay within the budget"


def test_the_budget_is_judged_while_every_connection_is_taken(site: KeptSite) -> None:
    most = int(str(site.cluster.run("SHOW max_connections")[0][0]))
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(psycopg2.OperationalError):
            for _ in range(most):
                stack.enter_context(
                    contextlib.closing(psycopg2.connect(site.cluster.url("paste12", "paste12")))
                )
            pytest.fail("no connection was refused")

        assert connection_budget.in_force(site.target)["max_connections"] == most


def _site_of(site: KeptSite) -> budget.Connections:
    return budget.Connections.from_dict(
        {**site.target.settings["budget"], **connection_budget.in_force(site.target)}
    )


def _is_paused(site: KeptSite) -> bool:
    through = Pooler({"dsn": site.pooler_url("paste12")})
    try:
        return not through.command("SELECT 1", 0.2)
    except TimeoutError:
        return True


def _command_of(site: KeptSite) -> list[str]:
    arguments = site.pgbouncer.process.args
    assert isinstance(arguments, list)
    return [str(word) for word in arguments[len(UNPRIVILEGED) :]]
