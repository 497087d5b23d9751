"""When the database is busy or away, answers are 503 with Retry-After, soon, and never 500."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from flask.testing import FlaskClient

from app.counting import LOCK_SPACE
from rollout.host.installed_servers import Servers
from tests.integration.app.instances import metric
from tests.running import Cluster, free_port, pooler

MakeClient = Callable[..., FlaskClient]
ACTIONS = ["view", "like", "report"]


@contextmanager
def holding(postgres: Cluster, database: str, sql: str) -> Iterator[None]:
    """Keep a transaction open that did something, on a connection of its own."""
    connection = psycopg2.connect(postgres.url(database))
    try:
        connection.cursor().execute(sql)
        yield
    finally:
        connection.rollback()
        connection.close()


@pytest.fixture
def note_id(client: FlaskClient) -> int:
    return int(client.post("/api/notes", json={"text": "hot"}).get_json()["id"])


@pytest.mark.parametrize("action", ACTIONS)
def test_a_note_locked_too_long_is_busy_and_not_an_error(
    client: FlaskClient, postgres: Cluster, database: str, note_id: int, action: str
) -> None:
    with holding(postgres, database, f"SELECT FROM notes WHERE id = {note_id} FOR UPDATE"):
        answer = client.post(f"/api/notes/{note_id}/{action}")

    assert (answer.status_code, answer.get_json()) == (503, {"ok": False, "error": "db_busy"})
    assert int(answer.headers["Retry-After"]) >= 1
    assert 1 <= metric(client, "p12_db_errors_total", sqlstate="55P03") <= 3
    assert client.post(f"/api/notes/{note_id}/{action}").status_code == 200


def test_nothing_is_counted_by_a_try_that_failed(
    client: FlaskClient, postgres: Cluster, database: str, note_id: int
) -> None:
    with holding(postgres, database, f"SELECT FROM notes WHERE id = {note_id} FOR UPDATE"):
        client.post(f"/api/notes/{note_id}/view")

    assert postgres.run("SELECT count(*) FROM view_log", database) == [(0,)]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_advisory_lock_held_too_long_is_busy(
    postgres: Cluster, database: str, make_client: MakeClient, action: str
) -> None:
    client = make_client(postgres.url(database), P12_ENABLE_ADVISORY_LOCKS="1")
    note_id = client.post("/api/notes", json={"text": "hot"}).get_json()["id"]

    with holding(postgres, database, f"SELECT pg_advisory_xact_lock({LOCK_SPACE}, {note_id})"):
        answer = client.post(f"/api/notes/{note_id}/{action}")

    assert (answer.status_code, answer.get_json()["error"]) == (503, "db_busy")
    assert client.post(f"/api/notes/{note_id}/{action}").status_code == 200


def test_a_queued_view_does_not_wait_for_the_note(
    postgres: Cluster, database: str, make_client: MakeClient
) -> None:
    client = make_client(postgres.url(database), P12_ENABLE_VIEW_QUEUE="1")
    note_id = client.post("/api/notes", json={"text": "hot"}).get_json()["id"]

    with holding(postgres, database, f"SELECT FROM notes WHERE id = {note_id} FOR UPDATE"):
        answer = client.post(f"/api/notes/{note_id}/view")

    assert (answer.status_code, answer.get_json()["views"]) == (200, 1)


def test_a_lock_let_go_in_time_only_costs_a_retry(
    postgres: Cluster, database: str, make_client: MakeClient
) -> None:
    client = make_client(postgres.url(database), P12_DB_LOCK_TIMEOUT_MS="100", P12_DB_RETRY_BUDGET_MS="3000")
    note_id = client.post("/api/notes", json={"text": "hot"}).get_json()["id"]
    sql = f"SELECT FROM notes WHERE id = {note_id} FOR UPDATE"
    service = client.application.extensions["paste12"]

    with holding(postgres, database, sql):
        blocked = client.post(f"/api/notes/{note_id}/view")

    assert blocked.status_code == 503
    assert service.retry.tries == 3
    assert metric(client, "p12_db_retries_total", sqlstate="55P03") == 2
    assert metric(client, "p12_db_lock_wait_seconds_count", kind="view") == 3
    assert 0.3 <= metric(client, "p12_db_lock_wait_seconds_sum", kind="view") < 3
    assert metric(client, "p12_db_transaction_seconds_count", kind="view", outcome="failed") == 3


def test_without_a_database_everything_that_needs_it_says_so(make_client: MakeClient) -> None:
    client = make_client(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    unavailable = {"ok": False, "error": "db_unavailable"}

    for answer in (client.get("/api/notes"), client.get("/api/notes/1"), client.post("/api/notes/1/view")):
        assert (answer.status_code, answer.get_json()) == (503, unavailable)
        assert "Retry-After" in answer.headers
    health = client.get("/api/health/db")
    assert (health.status_code, health.get_json()) == (
        503,
        {"ok": False, "db": False, "error": "db_unavailable"},
    )
    assert client.get("/internal/ready").status_code == 503


def test_without_a_database_health_flags_and_metrics_still_answer(make_client: MakeClient) -> None:
    client = make_client(f"postgresql://nobody@127.0.0.1:{free_port()}/none")

    for path in ("/healthz", "/api/health", "/internal/flags", "/internal/metrics"):
        assert client.get(path).status_code == 200


def test_connections_cut_between_requests_are_not_noticed(
    client: FlaskClient, postgres: Cluster, database: str, note_id: int
) -> None:
    postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")

    assert client.post(f"/api/notes/{note_id}/view").get_json() == {"ok": True, "id": note_id, "views": 1}


def test_a_full_pooler_is_busy_and_not_away(
    servers: Servers, postgres: Cluster, database: str, scratch: Path, make_client: MakeClient
) -> None:
    with pooler(servers, scratch / "full", postgres, default_pool_size=1, query_wait_timeout=1) as port:
        url = f"postgresql://nobody@127.0.0.1:{port}/{database}"
        client = make_client(url)
        assert client.get("/api/notes").status_code == 200
        occupying = psycopg2.connect(url)
        occupying.cursor().execute("SELECT 1")

        answer = client.get("/api/notes")

        occupying.close()
        assert (answer.status_code, answer.get_json()["error"]) == (503, "db_busy")


def test_a_table_that_somebody_locked_ends_the_statement_and_not_the_patience_of_everyone(
    servers: Servers, postgres: Cluster, database: str, scratch: Path, make_client: MakeClient
) -> None:
    limited = "SET statement_timeout = 300"
    with pooler(servers, scratch / "slow", postgres, connect_query=limited) as port:
        client = make_client(f"postgresql://nobody@127.0.0.1:{port}/{database}")
        with holding(postgres, database, "LOCK TABLE notes"):
            answer = client.get("/api/notes")

        assert (answer.status_code, answer.get_json()["error"]) == (503, "db_busy")
        assert client.get("/api/notes").status_code == 200


def test_a_backend_that_hangs_is_given_up_by_the_pooler_and_another_answers(
    servers: Servers, postgres: Cluster, database: str, scratch: Path, make_client: MakeClient
) -> None:
    with pooler(servers, scratch / "hung", postgres, query_timeout=1, server_login_retry=1) as port:
        client = make_client(f"postgresql://nobody@127.0.0.1:{port}/{database}")
        assert client.get("/api/notes").status_code == 200
        ((backend,),) = postgres.run(
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            f" AND datname = '{database}' AND backend_type = 'client backend'"
        )
        os.kill(int(str(backend)), signal.SIGSTOP)
        try:
            answer = client.get("/api/notes")
        finally:
            os.kill(int(str(backend)), signal.SIGCONT)

        assert answer.status_code == 200


def test_a_database_that_hangs_does_not_hang_what_does_not_need_it(
    client: FlaskClient, postgres: Cluster, note_id: int
) -> None:
    assert note_id
    postgres.process.send_signal(signal.SIGSTOP)
    try:
        assert client.get("/healthz").status_code == 200
        assert client.get("/internal/flags").status_code == 200
        assert client.get("/internal/metrics").status_code == 200
    finally:
        postgres.process.send_signal(signal.SIGCONT)
