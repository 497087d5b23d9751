"""What the guard sees of a real database and a real pooler, and what it makes of one that hangs."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from checks.window import counted, tripwires
from checks.window.limits import WindowLimits
from rollout.files import write_json
from rollout.guard.database_reader import PressureReader, reader
from rollout.host.installed_servers import Servers
from rollout.target.target import Target
from tests.integration.rollout.steered import NEW, Steered
from tests.running import Cluster, free_port, running_pooler, wait_for

NAME = "pressed"
SECRET = "nobody may read this"


@pytest.fixture(scope="module")
def pooled(servers: Servers, postgres: Cluster) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A pooler with one server connection, and the database behind it."""
    postgres.make_monitor()
    postgres.new_database(NAME)
    options = {"stats_users": "p12_monitor", "default_pool_size": 1}
    with running_pooler(servers, postgres.home.parent / "pressed", postgres, **options) as made:
        yield made


@pytest.fixture
def settings(postgres: Cluster, pooled: tuple[int, object]) -> dict[str, Any]:
    return {
        "database": NAME,
        "database_address": "127.0.0.1",
        "postgres_port": postgres.port,
        "ports": {"pgbouncer": pooled[0]},
        "guard": {"database_seconds": 0},
    }


@pytest.fixture
def watching(settings: dict[str, Any], tmp_path: Path) -> PressureReader:
    return reading_of(settings, tmp_path)


def reading_of(settings: dict[str, Any], home: Path) -> PressureReader:
    write_json(home / "secrets.json", {"monitor": SECRET})
    return reader(Target("production", home, settings))


@pytest.fixture
def connect(postgres: Cluster) -> Iterator[Callable[..., Any]]:
    """Connect as the service would; closed at the end of the test."""
    made = []

    def to(port: int = postgres.port) -> Any:
        made.append(psycopg2.connect(host="127.0.0.1", port=port, dbname=NAME, user="nobody"))
        return made[-1]

    yield to
    for connection in made:
        connection.close()


def seen(watching: PressureReader, name: str, least: float) -> float:
    def enough() -> float:
        found = watching.latest() or {}
        return found.get(name, 0) if found.get(name, 0) >= least else 0

    return wait_for(enough, f"{name} >= {least}")


def test_a_healthy_database_trips_nothing(watching: PressureReader) -> None:
    found = watching.latest()

    assert found, watching.error
    judged = tripwires.Database(WindowLimits(60, 60, 1, 0.01), alone=True)
    assert judged.add({"at": time.time(), "database": found}) == []
    assert {str(finding.verdict) for finding in judged.findings()} == {"passed"}
    assert (found["connection_limit"], found["pooler_waiting"]) == (147, 0)


def test_who_waits_for_a_lock_and_for_how_long_a_transaction_is_open_is_seen(
    watching: PressureReader, connect: Callable[..., Any]
) -> None:
    holder, waiter = connect(), connect()
    holder.cursor().execute("SELECT pg_advisory_xact_lock(1)")
    waiting = threading.Thread(target=waiter.cursor().execute, args=("SELECT pg_advisory_xact_lock(1)",))
    waiting.start()

    assert seen(watching, "lock_wait_seconds", 0.05) < 10
    assert seen(watching, "transaction_seconds", 0.05) < 10

    holder.rollback()
    waiting.join()


def test_who_holds_others_up_is_told(watching: PressureReader, connect: Callable[..., Any]) -> None:
    holder, waiter = connect(), connect()
    holder.cursor().execute("SET application_name = 'paste12-green-1'")
    holder.cursor().execute("SELECT pg_advisory_xact_lock(1)   /* holds */")
    waiting = threading.Thread(target=waiter.cursor().execute, args=("SELECT pg_advisory_xact_lock(1)",))
    waiting.start()

    try:
        assert seen(watching, "lock_wait_seconds", 1.1) < 10
        (told,) = (each for each in (watching.latest() or {})["holders"] if each["is_blocking"])
    finally:
        holder.rollback()
        waiting.join()
    assert (told["pid"], told["application"]) == (holder.info.backend_pid, "paste12-green-1")
    assert told["query"] == "SELECT pg_advisory_xact_lock(1) /* holds */"
    assert (told["user"], told["state"]) == ("nobody", "idle in transaction")


def test_the_oldest_queued_view_is_seen(watching: PressureReader, postgres: Cluster) -> None:
    postgres.run("CREATE TABLE view_queue (id serial, queued_at timestamptz)", NAME)
    postgres.run("INSERT INTO view_queue (queued_at) VALUES (now() - interval '90 s')", NAME)

    try:
        assert 90 <= seen(watching, "queue_lag_seconds", 1) < 120
    finally:
        postgres.run("DROP TABLE view_queue", NAME)


TABLES = """
CREATE TABLE notes (id serial PRIMARY KEY, views int);
CREATE TABLE view_log (note_id int, fingerprint text);
CREATE TABLE view_queue (id serial, note_id int, queued_at timestamptz DEFAULT now());
INSERT INTO notes (views) VALUES (7), (NULL);
"""
VIEW = (
    "INSERT INTO view_log VALUES ({0}, 'x'); UPDATE notes SET views = coalesce(views, 0) + {1} WHERE id = {0}"
)


@pytest.fixture
def counting(postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Notes of which one is off by seven since long ago."""
    monkeypatch.setattr(counted, "LOOK_SECONDS", 0.0)
    postgres.run(TABLES, NAME)
    yield
    postgres.run("DROP TABLE notes, view_log, view_queue", NAME)


def miscounted(watching: PressureReader) -> list[int]:
    return list((watching.latest() or {})["miscounted"])


@pytest.mark.usefixtures("counting")
def test_views_that_are_counted_as_they_are_logged_are_well(
    watching: PressureReader, postgres: Cluster
) -> None:
    assert miscounted(watching) == []

    postgres.run(VIEW.format(1, 1), NAME)
    postgres.run("INSERT INTO view_log VALUES (2, 'y'); INSERT INTO view_queue (note_id) VALUES (2)", NAME)
    postgres.run("INSERT INTO notes (views) VALUES (0)", NAME)
    postgres.run(VIEW.format(3, 1), NAME)

    assert miscounted(watching) == []


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize("counts", [0, 2])
def test_views_that_are_counted_otherwise_than_logged_are_told_and_hold_a_window(
    watching: PressureReader, postgres: Cluster, counts: int
) -> None:
    """As a trigger would do that counts once more, or a log guard that counts what it does not log."""
    assert miscounted(watching) == []
    postgres.run(VIEW.format(2, counts), NAME)
    postgres.run("INSERT INTO notes (views) VALUES (0)", NAME)
    postgres.run(VIEW.format(3, counts), NAME)

    found = watching.latest() or {}

    assert found["miscounted"] == [2, 3]
    judged = tripwires.Database(WindowLimits(60, 60, 1, 0.01), alone=False)
    assert judged.add({"at": time.time(), "database": found}) == []
    (finding,) = [each for each in judged.findings(lambda _: False) if each.name == "miscounted_notes"]
    assert (str(finding.verdict), finding.measured) == ("held", 2)


@pytest.mark.usefixtures("counting")
def test_a_note_that_is_gone_is_not_miscounted(watching: PressureReader, postgres: Cluster) -> None:
    assert miscounted(watching) == []

    postgres.run("DELETE FROM notes", NAME)

    assert miscounted(watching) == []


def test_clients_in_the_poolers_line_are_seen(
    watching: PressureReader, connect: Callable[..., Any], pooled: tuple[int, object]
) -> None:
    holder = connect(pooled[0])
    holder.cursor().execute("SELECT 1")  # in a transaction, so it keeps the only server connection
    waiter = threading.Thread(target=connect(pooled[0]).cursor().execute, args=("SELECT 1",))
    waiter.start()

    assert seen(watching, "pooler_waiting", 1) == 1

    holder.rollback()
    waiter.join()


def test_a_pooler_that_hangs_makes_nobody_wait_and_its_last_answer_grows_old(
    watching: PressureReader, pooled: tuple[int, subprocess.Popen[bytes]]
) -> None:
    first = watching.latest()
    assert first
    pooled[1].send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert [watching.latest() for _ in range(50)] == [first] * 50
        assert time.monotonic() - started < 5
    finally:
        pooled[1].send_signal(signal.SIGCONT)

    wait_for(lambda: (watching.latest() or first)["at"] > first["at"], "a new reading")


def test_a_database_that_is_away_gives_no_reading_and_no_secret(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    watching = reading_of(settings | {"postgres_port": free_port()}, tmp_path)

    assert watching.latest() is None
    assert "Connection refused" in watching.error
    assert SECRET not in watching.error


def test_a_database_that_came_back_is_read_again(settings: dict[str, Any], tmp_path: Path) -> None:
    right = settings["postgres_port"]
    settings["postgres_port"] = free_port()
    watching = reading_of(settings, tmp_path)
    assert watching.latest() is None

    settings["postgres_port"] = right

    assert wait_for(watching.latest, "a reading")
    assert watching.error == ""


def stepping(live: Steered, settings: dict[str, Any]) -> None:
    live.settings.update(settings, steps=[25, 100])
    live.settings["guard"] = live.settings["guard"] | {"heal_seconds": 60}
    live.settings["windows"]["step"] |= {"watch_database": True}
    write_json(live.directory / "secrets.json", {**live.target.secrets, "monitor": SECRET})
    live.target.__dict__.pop("secrets", None)
    live.offer(NEW)
    live.shift(NEW, 25)


def test_a_window_passes_with_the_database_in_sight(live: Steered, settings: dict[str, Any]) -> None:
    stepping(live, settings)

    live.pass_window()


def test_a_window_that_never_saw_the_database_is_unknown_and_status_says_why(
    live: Steered, settings: dict[str, Any]
) -> None:
    stepping(live, settings | {"postgres_port": free_port()})
    window = live.open()
    live.watch(8, 10, rounds=2)
    said = live.host("status")[1]["say"]

    live.watch(8, 10, rounds=11)

    assert "the database cannot be read: Postgres does not let us in: connection to server" in said
    assert live.window(window).verdict == "unknown"
    assert "the database was not read" in live.window(window).summary


GUARDED = """
CREATE TABLE view_log (note_id integer);
CREATE FUNCTION ask_the_stray() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER trg_view_log_guard BEFORE INSERT ON view_log FOR EACH ROW EXECUTE FUNCTION ask_the_stray()
"""


def test_triggers_that_todays_service_made_again_are_told_while_they_are_there(
    make_target: Callable[..., Steered], settings: dict[str, Any], postgres: Cluster
) -> None:
    beside = make_target(today=1)
    beside.settings.update(settings)
    beside.settings["guard"] = beside.settings["guard"] | {"heal_seconds": 0, "interval_seconds": 0.05}
    write_json(beside.directory / "secrets.json", {**beside.target.secrets, "monitor": SECRET})
    beside.target.__dict__.pop("secrets", None)
    postgres.run(GUARDED, NAME)

    try:
        beside.guard.look()
        told = beside.host("status")[1]["say"]
    finally:
        postgres.run("DROP TABLE view_log", NAME)
    beside.guard.look()

    assert "  triggers    trg_view_log_guard on view_log: not the service's" in told
    assert "triggers" not in beside.host("status")[1]["say"]
