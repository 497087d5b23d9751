"""A burst at what is not there, not right, or goes away under it: failed or unknown, in words."""

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from checks.base import pgbouncer
from checks.base.errors import CannotMeasure, Misused
from checks.base.postgres import connected, rows
from checks.burst import cli, connection_peaks, deadlock_counts, postgres_log
from checks.burst.limits import BurstLimits
from checks.burst.postgres_log import LogCount
from rollout.host.installed_servers import find
from tests.integration.checks.burst.bursts import burst
from tests.integration.checks.frontdoor import FrontDoor
from tests.integration.checks.servers import Cluster, free_port, wait_for
from tests.running import cluster


def decided(report: dict[str, object], verdict: str) -> set[str]:
    return {f["name"] for f in report["findings"] if f["verdict"] == verdict}  # type: ignore[attr-defined]


def test_a_note_that_vanishes_while_it_is_fired_at_fails_and_is_named(
    front_door: FrontDoor, postgres: Cluster, database: str
) -> None:
    views = itertools.count()

    def vanish(request: object) -> None:
        if request.path.endswith("/view") and next(views) == 60:  # type: ignore[attr-defined]
            postgres.run("DELETE FROM notes WHERE id = (SELECT min(id) FROM notes)", "notes")

    front_door.fault = vanish

    status, report = burst(front_door.url, database)

    assert status == 3
    assert decided(report, "failed") >= {"missing_notes", "unexpected_answers"}
    assert "note 1 by" in report["summary"]


@pytest.fixture
def nonsense() -> Iterator[str]:
    """A server that answers every request with something that is not HTTP."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(b"220 mail.example ESMTP\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_something_that_is_not_http_is_unknown(nonsense: str, database: str) -> None:
    status, report = burst(nonsense, database)

    assert status == 4
    assert "creates no note" in report["summary"]


def test_wrong_credentials_are_unknown_and_stay_hidden(front_door: FrontDoor, postgres: Cluster) -> None:
    wrong = postgres.url("notes", user="stranger").replace("stranger@", "stranger:hidden@")

    status, report = burst(front_door.url, wrong)

    assert status == 4
    assert "Check DATABASE_URL" in report["summary"]
    assert "hidden" not in str(report)


def test_a_database_without_counters_is_named_and_not_taken_for_one_without_deadlocks(database: str) -> None:
    with connected(database) as connection:
        with connection.cursor() as cursor:
            # A temporary view is found before the catalogue's.
            cursor.execute("CREATE TEMP VIEW pg_stat_database AS SELECT * FROM pg_stat_database LIMIT 0")

        with pytest.raises(CannotMeasure, match="no row of the database notes"):
            deadlock_counts.database_count(connection)


def test_a_pooler_that_does_not_let_us_look_leaves_the_connections_unknown(
    front_door: FrontDoor, database: str
) -> None:
    console = f"postgresql://nobody:hidden@127.0.0.1:{free_port()}/pgbouncer"

    status, report = burst(front_door.url, database, console=console)

    assert status == 4
    assert "hidden" not in str(report)
    assert "P12_POOLER_URL" in report["summary"]


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (KeyError("cl_active"), "KeyError: 'cl_active'"),
        (ValueError("no number"), "ValueError: no number"),
        (psycopg2.Error(), "Error"),
    ],
    ids=lambda trouble: type(trouble).__name__,
)
def test_a_watcher_that_ends_early_says_why_however_much_it_saw(
    database: str, monkeypatch: pytest.MonkeyPatch, trouble: Exception, words: str
) -> None:
    looks = itertools.count()

    def clients(_: Any) -> dict[str, int]:
        if next(looks):
            raise trouble
        return {"pooler_clients": 1, "pooler_waiting": 0}

    monkeypatch.setattr(pgbouncer, "clients", clients)

    # Postgres lets us in as the pooler's console would.
    with connection_peaks.watching(database, console=database) as seen:
        wait_for(lambda: seen.error, "the watcher's end")

    assert seen.looks == 1
    assert words in seen.error


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--p50-ms=300", "--p95-ms=200"), "contradict each other"),
        (("--p95-ms=3000", "--p99-ms=2000"), "contradict each other"),
        (("--p99-ms=nan",), "contradict each other"),
        (("--p99-ms=0",), "contradict each other"),
        (("--p99-ms=inf",), "contradict each other"),
        (("--p99-ms=20000", "--timeout-seconds=10"), "cannot be seen with a timeout of 10 s"),
        (("--busy-ratio=1.5",), "busy_ratio=1.5 is not a share"),
        (("--busy-ratio=nan",), "busy_ratio=nan is not a share"),
        (("--lock-timeout-ratio=-1",), "lock_timeout_ratio=-1.0 is not a share"),
        (("--in-flight-share=0",), "in_flight_share=0.0 is not a share"),
        (("--wanted-ratio=0",), "wanted_ratio=0.0 is not a share"),
        (("--deadlocks=-1",), "deadlocks=-1 allows less than none"),
        (("--shapes=hot,cold",), "Use some of hot,spread,mix"),
        (("--shapes=",), "Use some of hot,spread,mix"),
        (("--visitors=nobody",), "Use some of distinct,duplicate,both"),
        (("--drain-seconds=nan",), "is no time"),
        (("--timeout-seconds=0", "--p99-ms=1"), "cannot be seen"),
        (("--samples=/absent/burst.json",), "takes no files"),
        (("--postgres-log=/absent/postgres.log",), "cannot be read"),
    ],
)
def test_limits_that_nothing_could_meet_or_break_are_refused(
    wrong: tuple[str, ...],
    words: str,
    database: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("P12_REHEARSAL_SECRET", "secret")

    status = cli.main(["--base-url", f"http://127.0.0.1:{free_port()}", *wrong])

    shown = capsys.readouterr()
    assert (status, shown.out) == (2, "")
    assert words in shown.err


def test_a_limit_of_its_own_is_what_a_percentile_is_held_against() -> None:
    assert BurstLimits(p99_ms=9).latencies == {50: 9, 95: 9, 99: 9}
    assert BurstLimits(p99_ms=9, p95_ms=5).latencies == {50: 5, 95: 5, 99: 9}
    with pytest.raises(Misused, match="p50 4 ms, p95 3 ms and p99 9 ms"):
        BurstLimits(p99_ms=9, p95_ms=3, p50_ms=4)


def deadlock(url: str) -> None:
    """Make a real one: two sessions take two notes in opposite order."""
    with closing(psycopg2.connect(url)) as one, closing(psycopg2.connect(url)) as other:
        for connection, first in ((one, 1), (other, 2)):
            connection.cursor().execute("UPDATE notes SET text = 'secret' WHERE id = %s", [first])

        def wait() -> None:
            try:
                one.cursor().execute("UPDATE notes SET text = 'hidden' WHERE id = 2")
            except psycopg2.errors.DeadlockDetected:
                one.rollback()

        thread = threading.Thread(target=wait)
        thread.start()
        try:
            other.cursor().execute("UPDATE notes SET text = 'hidden' WHERE id = 1")
        except psycopg2.errors.DeadlockDetected:
            other.rollback()
        thread.join(20)


def test_a_deadlock_s_pair_is_named_from_the_log_without_anyone_s_values(
    postgres: Cluster, database: str
) -> None:
    postgres.run("INSERT INTO notes (text) VALUES ('a'), ('b')", "notes")
    with connected(database) as connection:
        mark = postgres_log.mark(connection, postgres.log)
        deadlock(database)
        found = postgres_log.since(connection, mark)

    assert found.deadlocks == 1
    (pair,) = found.pairs
    assert pair.count("UPDATE notes SET text = '…' WHERE id =") == 2
    assert "waits for ShareLock on transaction" in pair
    assert "hidden" not in pair


def test_a_burst_during_which_there_was_a_deadlock_fails_and_names_the_pair(
    front_door: FrontDoor, postgres: Cluster, database: str
) -> None:
    views = itertools.count()
    threads: list[threading.Thread] = []

    def deadlocked(request: object) -> None:
        if request.path.endswith("/view") and next(views) == 50:  # type: ignore[attr-defined]
            threads.append(threading.Thread(target=deadlock, args=[database]))
            threads[0].start()

    front_door.fault = deadlocked

    status, report = burst(
        front_door.url, database, "--postgres-log", str(postgres.log), "--settle-seconds", "1.5"
    )
    threads[0].join()

    assert status == 3
    assert decided(report, "failed") >= {"deadlocks", "deadlocks_in_log"}
    assert "UPDATE notes SET text = '…'" in report["summary"]


def test_a_log_that_was_cut_off_meanwhile_is_not_calm_but_unknown(tmp_path: Path, database: str) -> None:
    log = tmp_path / "postgres.log"
    log.write_text("a line\n")
    with connected(database) as connection:
        mark = postgres_log.mark(connection, log)
        log.write_text("")

        assert "rotated" in postgres_log.since(connection, mark).error


def test_a_log_that_was_renamed_and_grew_again_is_not_calm_but_unknown(tmp_path: Path, database: str) -> None:
    log = tmp_path / "postgres.log"
    log.write_text("a line\n")
    with connected(database) as connection:
        mark = postgres_log.mark(connection, log)
        log.rename(tmp_path / "postgres.log.1")
        log.write_text("another line, longer than all that was there\n")

        found = postgres_log.since(connection, mark)

    assert found == LogCount(True, error="the log cannot be read any more: it was rotated meanwhile")


@pytest.mark.parametrize(("more", "is_read"), [(0, True), (1, False)])
def test_a_log_that_gained_more_than_is_read_is_not_calm_but_unknown(
    tmp_path: Path, database: str, more: int, is_read: bool
) -> None:
    log = tmp_path / "postgres.log"
    log.write_text("a line\n")
    with connected(database) as connection:
        mark = postgres_log.mark(connection, log)
        with log.open("ab") as file:
            file.truncate(len("a line\n") + postgres_log.LONGEST_READ + more)

        found = postgres_log.since(connection, mark)

    gained = "the log cannot be read any more: it gained 16777217 bytes, and no more than 16777216 are read"
    assert found == (LogCount(True, 0) if is_read else LogCount(True, error=gained))


@pytest.mark.parametrize("language", ["de_DE.UTF-8", "fr", "Cherokee", ""])
def test_a_log_in_another_language_is_not_calm_but_unknown(
    tmp_path: Path, database: str, language: str
) -> None:
    log = tmp_path / "postgres.log"
    log.touch()
    with connected(database) as connection:
        speak(connection, language)

        found = postgres_log.since(connection, postgres_log.mark(connection, log))

    assert found.asked is True
    assert found.error.endswith(f"another language than English, for lc_messages is {language!r}")


@pytest.mark.parametrize("language", ["C", "POSIX", "C.UTF-8", "en_US.UTF-8", "en_GB", "en"])
def test_a_log_in_english_is_read(tmp_path: Path, database: str, language: str) -> None:
    log = tmp_path / "postgres.log"
    log.touch()
    with connected(database) as connection:
        speak(connection, language)

        found = postgres_log.since(connection, postgres_log.mark(connection, log))

    assert found.deadlocks == 0


@pytest.fixture(scope="module")
def served(scratch: Path) -> Iterator[str]:
    """A DSN of a Postgres that keeps its log itself."""
    with cluster(find(), scratch / "served", logging_collector="on") as made:
        made.run("CREATE TABLE notes AS SELECT id, 'a' AS text FROM generate_series(1, 2) AS id")
        yield made.url()


def test_a_log_that_postgres_keeps_itself_is_read_through_it(served: str) -> None:
    with connected(served) as connection:
        mark = postgres_log.mark(connection, None)
        deadlock(served)
        found = postgres_log.since(connection, mark)

    assert found.asked is True
    assert found.deadlocks == 1
    assert "UPDATE notes SET text = '…'" in found.pairs[0]


def test_what_the_collector_of_the_log_writes_late_is_waited_for(served: str) -> None:
    with connected(served) as connection:
        mark = postgres_log.mark(connection, None)
        (file,) = rows(connection, "SELECT pg_read_file('postmaster.pid') AS content")
        (collector,) = [
            child
            for child in psutil.Process(int(file["content"].split()[0])).children()
            if "logger" in " ".join(child.cmdline())
        ]
        collector.suspend()
        awake = threading.Timer(0.5, collector.resume)
        try:
            deadlock(served)
            awake.start()
            found = postgres_log.since(connection, mark)
        finally:
            awake.cancel()
            collector.resume()

    assert (found.deadlocks, found.error) == (1, "")


def test_a_log_that_postgres_keeps_is_unknown_when_it_gained_more_than_is_read(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(served) as connection:
        mark = postgres_log.mark(connection, None)
        deadlock(served)
        monkeypatch.setattr(postgres_log, "LONGEST_READ", 10)
        found = postgres_log.since(connection, mark)

    assert found.asked is True
    assert "no more than 10 are read" in found.error


def test_a_log_in_another_language_that_nobody_named_was_not_asked_for(served: str) -> None:
    with connected(served) as connection:
        speak(connection, "de_DE.UTF-8")
        mark = postgres_log.mark(connection, None)

    assert mark["asked"] is False
    assert "another language" in mark["error"]


def speak(connection: Any, language: str) -> None:
    """Show a language that this machine may lack: a temporary view is found before the catalogue's."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP VIEW pg_settings AS SELECT 'lc_messages' AS name, %s AS setting", [language]
        )


RELATIONS = {"16400": "view_log"}
INCIDENT = """
2026-01-01 UTC [1] app@notes ERROR:  deadlock detected
2026-01-01 UTC [1] app@notes DETAIL:  Process 1 waits for ShareLock on relation 16400 of database 7; blocked by process 2.
\tProcess 2 waits for RowExclusiveLock on relation 16400 of database 7; blocked by process 1.
\tProcess 1: CREATE UNIQUE INDEX IF NOT EXISTS once ON view_log (note_id)
\tProcess 2: INSERT INTO view_log VALUES (1, 'it''s me')
2026-01-01 UTC [1] app@notes HINT:  See server log for query details.
2026-01-01 UTC [1] app@notes STATEMENT:  SELECT 'deadlock detected'
"""  # noqa: E501


def test_the_incident_s_pair_is_read_with_its_relation() -> None:
    ((one, other),) = postgres_log.deadlocks(INCIDENT, RELATIONS, "7")

    assert one.query == "CREATE UNIQUE INDEX IF NOT EXISTS once ON view_log (note_id)"
    assert str(one) == f"{one.query} waits for ShareLock on relation view_log"
    assert (other.mode, other.blocked_by) == ("RowExclusiveLock", "1")
    assert other.query == "INSERT INTO view_log VALUES (1, '…')"


def test_a_statement_is_named_without_what_prepares_it_and_without_a_value_that_was_cut_off() -> None:
    told = INCIDENT.replace("INSERT", "SET LOCAL lock_timeout = 250;\n\tINSERT").replace("it''s me')", "my")

    ((_, other),) = postgres_log.deadlocks(told, RELATIONS, "7")

    assert other.query == "INSERT INTO view_log VALUES (1, '…'"


def test_a_pair_that_met_again_and_again_is_named_once() -> None:
    (waits,) = postgres_log.deadlocks(INCIDENT, RELATIONS, "7")

    assert postgres_log.str_pairs([*waits, *waits]) == postgres_log.str_pairs(waits)


def test_another_database_s_deadlock_is_not_ours() -> None:
    assert postgres_log.deadlocks(INCIDENT, RELATIONS, "8") == []
