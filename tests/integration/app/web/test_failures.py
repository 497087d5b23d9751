"""Each request that failed is in the log: what was asked, by which id, of which release, and why."""

import contextlib
import logging
from collections.abc import Callable

import psycopg2
import pytest
from flask.testing import FlaskClient

from tests.running import Cluster, free_port

RELEASE = "0" * 12
ID = {"X-Request-Id": "8f14e45f-ceea-467f-a0e6-4d9f7a5c0001"}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[int, str]]]:
    """Levels and texts of what the service logged."""
    caplog.set_level(logging.INFO, "app")
    return lambda: [(r.levelno, r.getMessage()) for r in caplog.records if r.name.startswith("app.")]


Lines = Callable[[], list[tuple[int, str]]]


def test_a_500_is_told_with_its_traceback_and_without_what_was_typed(
    client: FlaskClient, postgres: Cluster, database: str, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    postgres.run("ALTER TABLE notes RENAME TO hidden", database)
    try:
        client.get("/api/notes/7?q=private", headers=ID)
    finally:
        postgres.run("ALTER TABLE hidden RENAME TO notes", database)

    failed = f"request failed: GET /api/notes/7 status 500, request {ID['X-Request-Id']}, release {RELEASE}: "
    ((level, line),) = lines()
    assert (level, line.startswith(failed)) == (logging.ERROR, True)
    assert caplog.records[0].exc_info
    assert "private" not in caplog.text


def test_a_503_is_told_with_its_cause(
    client: FlaskClient, postgres: Cluster, database: str, lines: Lines
) -> None:
    postgres.run("INSERT INTO notes (text) VALUES ('hot')", database)
    with contextlib.closing(psycopg2.connect(postgres.url(database))) as holder:
        holder.cursor().execute("SELECT FROM notes FOR UPDATE")
        assert client.post("/api/notes/1/view", headers=ID).status_code == 503

    asked = f"POST /api/notes/1/view status 503, request {ID['X-Request-Id']}, release {RELEASE}"
    assert lines() == [(logging.WARNING, f"request failed: {asked}: db_busy (SQLSTATE 55P03)")]


def test_a_database_that_is_away_and_a_service_that_only_reads_are_told_apart(
    make_client: Callable[..., FlaskClient], lines: Lines
) -> None:
    client = make_client(f"postgresql://nobody@127.0.0.1:{free_port()}/none", P12_READ_ONLY="1")

    for path in ("/api/notes", "/api/health/db"):
        assert client.get(path).status_code == 503
    assert client.post("/api/notes/1/like").status_code == 503

    assert [(level, line.rsplit(": ", 1)[1]) for level, line in lines()] == [
        (logging.WARNING, "db_unavailable (SQLSTATE none)"),
        (logging.WARNING, "db_unavailable (SQLSTATE none)"),
        (logging.INFO, "read_only"),
    ]


def test_what_went_well_was_refused_or_is_asked_by_the_kit_leaves_no_line(
    make_client: Callable[..., FlaskClient], lines: Lines
) -> None:
    client = make_client(f"postgresql://nobody@127.0.0.1:{free_port()}/none")

    statuses = [client.get(path).status_code for path in ("/healthz", "/api/nothing", "/internal/ready")]

    assert statuses == [200, 404, 503]
    assert lines() == []


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é"])
def test_what_cannot_be_the_balancers_id_is_not_written(
    make_client: Callable[..., FlaskClient], lines: Lines, given: str
) -> None:
    client = make_client(f"postgresql://nobody@127.0.0.1:{free_port()}/none")

    client.get("/api/notes", headers={"X-Request-Id": given})

    ((_, line),) = lines()
    assert line.startswith(f"request failed: GET /api/notes status 503, request -, release {RELEASE}: ")
