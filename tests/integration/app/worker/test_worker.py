"""The worker counts what is queued, purges what has been gone for long if told to, and stops when told."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError

from app.errors import BusyError
from app.live_flags import LiveFlags
from app.settings import load_settings
from app.store.database import Database
from app.worker.loop import Worker
from app.worker.purge import purge_batch
from app.worker.rollup import LOCK_NOTES, TAKE_BATCH, count_batch
from tests.integration.app.instances import running_worker, slot
from tests.running import Cluster, free_port, wait_for

DAYS = 1
GONE = """
INSERT INTO notes (text, expires_at, deleted_at) VALUES
    ('fresh', timezone('utc', now()) + interval '1 hour', NULL),
    ('for ever', NULL, NULL),
    ('just expired', timezone('utc', now()) - interval '10 minutes', NULL),
    ('long expired', timezone('utc', now()) - interval '2 days', NULL),
    ('just removed', NULL, timezone('utc', now()) - interval '10 minutes'),
    ('long removed', timezone('utc', now()) + interval '1 hour', timezone('utc', now()) - interval '2 days');
INSERT INTO view_log (note_id, fingerprint, day) SELECT id, 'v', 'today' FROM notes;
INSERT INTO like_log (note_id, fingerprint) SELECT id, 'v' FROM notes;
INSERT INTO report_log (note_id, fingerprint) SELECT id, 'v' FROM notes;
INSERT INTO view_queue (note_id) SELECT id FROM notes;
"""


# Two gone notes with 60 views between them, and one that is there.
POPULAR = """
INSERT INTO notes (text, expires_at) VALUES
    ('gone', timezone('utc', now()) - interval '2 days'),
    ('gone', timezone('utc', now()) - interval '2 days'),
    ('there', NULL);
INSERT INTO view_log (note_id, fingerprint, day)
    SELECT 1 + number % 2, number, 'today' FROM generate_series(1, 60) AS number;
INSERT INTO view_log (note_id, fingerprint, day) VALUES (3, 'v', 'today');
"""
# Sixty rows take twice as long as a statement may, ten a third of that.
STATEMENT_MS, ROW_SECONDS = 600, 0.02
SLOW_DELETES = f"""
CREATE FUNCTION slow_delete() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep({ROW_SECONDS}); RETURN OLD; END';
CREATE TRIGGER slow_delete BEFORE DELETE ON view_log FOR EACH ROW EXECUTE FUNCTION slow_delete()
"""


DEADLOCK = """
CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$;
CREATE TRIGGER deadlock BEFORE DELETE ON view_queue FOR EACH STATEMENT EXECUTE FUNCTION deadlock()
"""


@pytest.fixture
def slow_deletes(postgres: Cluster, database: str) -> Iterator[None]:
    """Make each row of the view log take its time to go."""
    with triggered(postgres, database, SLOW_DELETES, "slow_delete", "view_log"):
        yield


@contextlib.contextmanager
def triggered(postgres: Cluster, database: str, sql: str, name: str, table: str) -> Iterator[None]:
    """Have a trigger and its function of the same name at a table, as long as the block lasts."""
    postgres.run(sql, database)
    yield
    postgres.run(f"DROP TRIGGER {name} ON {table}; DROP FUNCTION {name}", database)


@pytest.fixture
def deadlocked_queue(postgres: Cluster, database: str) -> Iterator[None]:
    """Let whoever takes views off the queue be the victim of a deadlock."""
    with triggered(postgres, database, DEADLOCK, "deadlock", "view_queue"):
        yield


@pytest.fixture
def connected(postgres: Cluster, database: str) -> Iterator[Database]:
    opened = Database(load_settings({"DATABASE_URL": postgres.url(database)}))
    yield opened
    opened.close()


def count(postgres: Cluster, database: str, table: str) -> object:
    return postgres.run(f"SELECT count(*) FROM {table}", database)[0][0]


def test_a_batch_is_counted_once_and_leaves_the_queue(
    connected: Database, postgres: Cluster, database: str
) -> None:
    postgres.run(
        "INSERT INTO notes (text) VALUES ('a'), ('b'); INSERT INTO view_queue (note_id) VALUES (1), (2), (1)",
        database,
    )

    assert [count_batch(connected, rows=2), count(postgres, database, "view_queue")] == [2, 1]
    assert [count_batch(connected, rows=2), count_batch(connected)] == [1, 0]
    assert count(postgres, database, "view_queue") == 0
    assert postgres.run("SELECT views FROM notes ORDER BY id", database) == [(2,), (1,)]


def test_views_of_a_note_that_is_no_more_are_dropped(
    connected: Database, postgres: Cluster, database: str
) -> None:
    postgres.run("INSERT INTO view_queue (note_id) VALUES (4711)", database)

    assert count_batch(connected) == 1
    assert count(postgres, database, "view_queue") == 0


def test_only_notes_gone_for_so_many_days_are_purged_with_their_logs(
    connected: Database, postgres: Cluster, database: str
) -> None:
    postgres.run(GONE, database)
    count_batch(connected)

    assert purge_batch(connected, DAYS) == 2 + 2 * 3

    assert postgres.run("SELECT text FROM notes ORDER BY id", database) == [
        ("fresh",),
        ("for ever",),
        ("just expired",),
        ("just removed",),
    ]
    assert [count(postgres, database, log) for log in ("view_log", "like_log", "report_log")] == [4] * 3


def test_a_purge_waits_for_no_rollup_and_leaves_it_the_notes_whose_views_it_counts(
    connected: Database, postgres: Cluster, database: str
) -> None:
    postgres.run(GONE, database)
    postgres.run("DELETE FROM view_queue WHERE note_id = 6", database)

    with contextlib.closing(psycopg2.connect(postgres.url(database))) as rollup, rollup.cursor() as taking:
        taking.execute(TAKE_BATCH, {"rows": 10})
        assert purge_batch(connected, DAYS) == 1 + 3
        taking.execute(f"{LOCK_NOTES} NOWAIT", {"notes": [1, 2, 3, 4, 5]})
        rollup.commit()

    assert purge_batch(connected, DAYS) == 1 + 3
    assert postgres.run("SELECT id FROM notes ORDER BY id", database) == [(1,), (2,), (3,), (5,)]


def test_logs_are_purged_in_chunks_and_their_notes_last(
    connected: Database, postgres: Cluster, database: str
) -> None:
    postgres.run(POPULAR, database)

    left = []
    while removed := purge_batch(connected, DAYS, rows=10):
        left.append((removed, count(postgres, database, "view_log"), count(postgres, database, "notes")))

    # The view of a note that is there is nobody's to remove.
    assert left == [(10, 51, 3), (10, 41, 3), (11, 31, 2), (10, 21, 2), (10, 11, 2), (11, 1, 1)]


@pytest.mark.usefixtures("slow_deletes")
def test_logs_that_take_longer_than_a_statement_may_are_purged_all_the_same(
    postgres: Cluster, database: str
) -> None:
    postgres.run(POPULAR, database)
    url = f"{postgres.url(database)}?options=-c%20statement_timeout%3D{STATEMENT_MS}"
    with contextlib.closing(Database(load_settings({"DATABASE_URL": url}))) as limited:
        with pytest.raises(OperationalError, match="statement timeout"):
            purge_batch(limited, DAYS, rows=60)

        while purge_batch(limited, DAYS, rows=10):
            pass

    assert count(postgres, database, "view_log") == 1
    assert count(postgres, database, "notes") == 1


def test_a_purge_that_fails_keeps_no_view_waiting(
    postgres: Cluster, database: str, connected: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"DATABASE_URL": postgres.url(database), "P12_WORKER_POLL_SECONDS": "0.01"}
    purging = {"P12_PURGE_INTERVAL_SECONDS": "86400", "P12_PURGE_AFTER_DAYS": str(DAYS)}
    settings = load_settings({**environ, **purging})
    purges: list[int] = []

    def fail(_: Database, days: int) -> int:
        purges.append(days)
        raise BusyError

    monkeypatch.setattr("app.worker.loop.purge_batch", fail)
    worker = Worker(settings, connected, LiveFlags("", "dev", "blue", {}), threading.Event())
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        wait_for(lambda: purges, "the purge that fails")
        for _ in range(20):
            postgres.run("INSERT INTO view_queue (note_id) VALUES (1)", database)
            wait_for(lambda: count(postgres, database, "view_queue") == 0, "the drain", seconds=2)
    finally:
        worker.stop.set()
        thread.join(10)

    assert purges == [DAYS]


def test_the_worker_drains_purges_and_stops_on_sigterm(postgres: Cluster, database: str) -> None:
    postgres.run(GONE, database)
    environment = {"DATABASE_URL": postgres.url(database), "P12_WORKER_POLL_SECONDS": "0.05"}
    with running_worker(environment | {"P12_PURGE_AFTER_DAYS": str(DAYS)}) as worker:
        wait_for(lambda: count(postgres, database, "notes") == 4, "the purge")
        wait_for(lambda: count(postgres, database, "view_queue") == 0, "the drain")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    assert postgres.run("SELECT DISTINCT views FROM notes", database) == [(1,)]


def test_nothing_is_purged_until_the_owner_says_after_how_many_days(postgres: Cluster, database: str) -> None:
    postgres.run(GONE, database)
    environment = {"DATABASE_URL": postgres.url(database), "P12_WORKER_POLL_SECONDS": "0.05"}
    with running_worker(environment | {"P12_PURGE_INTERVAL_SECONDS": "1"}) as worker:
        wait_for(lambda: count(postgres, database, "view_queue") == 0, "the drain")
        postgres.run("INSERT INTO view_queue (note_id) VALUES (1)", database)
        wait_for(lambda: count(postgres, database, "view_queue") == 0, "one more drain")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    assert count(postgres, database, "notes") == 6


@pytest.mark.usefixtures("deadlocked_queue")
def test_a_deadlock_of_the_worker_is_told_by_the_instances_of_its_slot_as_the_workers(
    postgres: Cluster, database: str, tmp_path: Path
) -> None:
    def met(sqlstate: str) -> float:
        return running.metric("p12_worker_db_errors_total", sqlstate=sqlstate)

    with slot(postgres.url(database), tmp_path, {}, instances=1) as running:
        before = [met("40P01"), met("55P03")]
        with running_worker(running.environment):
            wait_for(lambda: met("40P01"), "the worker's deadlock")

        assert before == [0, 0]
        assert running.metric("p12_db_errors_total", sqlstate="40P01") == 0


def test_a_read_only_service_has_a_worker_that_waits(
    connected: Database, postgres: Cluster, database: str
) -> None:
    postgres.run(
        "INSERT INTO notes (text) VALUES ('a'); INSERT INTO view_queue (note_id) VALUES (1)", database
    )
    settings = load_settings({"DATABASE_URL": postgres.url(database), "P12_WORKER_POLL_SECONDS": "0.01"})
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()

    Worker(settings, connected, LiveFlags("", "dev", "blue", {"P12_READ_ONLY": "1"}), stop).run()

    assert count(postgres, database, "view_queue") == 1


def test_a_worker_outlives_a_database_that_is_away() -> None:
    environ = {
        "DATABASE_URL": f"postgresql://127.0.0.1:{free_port()}/none",
        "P12_WORKER_POLL_SECONDS": "0.01",
    }
    settings = load_settings(environ)
    failures: list[str] = []
    database, stop = Database(settings, failures.append), threading.Event()
    worker = Worker(settings, database, LiveFlags("", "dev", "blue", {}), stop)
    thread = threading.Thread(target=worker.run)
    thread.start()

    try:
        wait_for(lambda: len(failures) >= 3, "the worker trying again")
        alive = thread.is_alive()
    finally:
        stop.set()
    thread.join(10)
    database.close()

    assert alive
    assert not thread.is_alive()


def test_queued_views_reach_the_note_through_the_worker(
    postgres: Cluster, database: str, make_client: Callable[..., FlaskClient]
) -> None:
    client = make_client(postgres.url(database), P12_ENABLE_VIEW_QUEUE="1")
    note_id = client.post("/api/notes", json={"text": "a"}).get_json()["id"]
    for who in ("a", "b", "a"):
        client.post(f"/api/notes/{note_id}/view", headers={"X-FP": who})
    assert client.get(f"/api/notes/{note_id}").get_json()["views"] == 0

    count_batch(client.application.extensions["paste12"].database)

    assert client.get(f"/api/notes/{note_id}").get_json()["views"] == 2
