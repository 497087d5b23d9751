"""Counters are exact under any concurrency, in every mode, behind a pooler in transaction mode."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import psycopg2
import pytest
import requests

from app.flags import Arm
from tests.integration.app.instances import Slot, migrate, running_worker, slot
from tests.running import Cluster

CLIENTS = 32
ADVISORY, QUEUE = "P12_ENABLE_ADVISORY_LOCKS", "P12_ENABLE_VIEW_QUEUE"
MODES = {
    "inline": {},
    "advisory": {ADVISORY: "1"},
    "queue": {QUEUE: "1"},
    "half and half": {ADVISORY: "50%", QUEUE: "50%"},
}
# A note's lock is free again within milliseconds; only a slow machine makes anyone wait longer.
PATIENT = {"P12_DB_LOCK_TIMEOUT_MS": "5000", "P12_DB_RETRY_BUDGET_MS": "5000"}


@pytest.fixture(scope="module")
def busy(postgres: Cluster, pgbouncer: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slot]:
    """Two instances behind pgbouncer, on a database of their own."""
    postgres.run("CREATE DATABASE counting")
    assert migrate("upgrade", postgres.url("counting"))[0] == 0
    url = f"postgresql://nobody@127.0.0.1:{pgbouncer}/counting"
    with slot(url, tmp_path_factory.mktemp("slot"), PATIENT) as instances:
        yield instances
    postgres.run("DROP DATABASE counting WITH (FORCE)")


def new_note(postgres: Cluster) -> int:
    ((note_id,),) = postgres.run("INSERT INTO notes (text) VALUES ('hot') RETURNING id", "counting")
    assert isinstance(note_id, int)
    return note_id


def counted(postgres: Cluster, column: str, note_id: int) -> int:
    ((count,),) = postgres.run(f"SELECT {column} FROM notes WHERE id = {note_id}", "counting")
    assert isinstance(count, int)
    return count


def logged(postgres: Cluster, table: str, note_id: int) -> int:
    ((count,),) = postgres.run(f"SELECT count(*) FROM {table} WHERE note_id = {note_id}", "counting")
    assert isinstance(count, int)
    return count


def burst(busy: Slot, paths: list[str], fingerprints: list[str]) -> Counter[int]:
    """Post as every fingerprint to every path, 32 at a time, over all instances; count the statuses."""
    sessions = threading.local()

    def post(job: tuple[str, str]) -> int:
        url, who = job
        sessions.mine = getattr(sessions, "mine", None) or requests.Session()
        return int(sessions.mine.post(url, headers={"X-FP": who}, timeout=30).status_code)

    bases = cycle(busy.urls)
    jobs = [(next(bases) + path, who) for who in fingerprints for path in paths]
    with ThreadPoolExecutor(CLIENTS) as clients:
        return Counter(clients.map(post, jobs))


@pytest.mark.parametrize("mode", MODES)
def test_each_visitor_counts_once_however_many_come_at_once(busy: Slot, postgres: Cluster, mode: str) -> None:
    busy.set_flags(**MODES[mode])
    notes = [new_note(postgres) for _ in range(2)]
    visitors = [f"v{number}" for number in range(100)]

    statuses = burst(busy, [f"/api/notes/{note}/view" for note in notes], visitors * 2)
    if QUEUE in MODES[mode]:
        busy.drain()

    assert statuses == {200: 400}
    assert [counted(postgres, "views", note) for note in notes] == [100, 100]
    assert [logged(postgres, "view_log", note) for note in notes] == [100, 100]
    assert busy.metric("p12_db_errors_total", sqlstate="40P01") == 0


def test_switching_modes_under_traffic_loses_and_doubles_nothing(busy: Slot, postgres: Cluster) -> None:
    note = new_note(postgres)
    visitors = [f"v{number}" for number in range(150)]

    with ThreadPoolExecutor(1) as background:
        running = background.submit(burst, busy, [f"/api/notes/{note}/view"], visitors * 2)
        while not running.done():
            for flags in MODES.values():
                busy.set_flags(**flags)
        statuses = running.result()
    busy.drain()

    assert statuses == {200: 300}
    assert counted(postgres, "views", note) == 150


def test_workers_at_once_count_every_queued_view_once_beside_inline_views(
    busy: Slot, postgres: Cluster
) -> None:
    notes = [new_note(postgres) for _ in range(10)]
    everyone = ", ".join(map(str, notes))
    postgres.run(
        f"INSERT INTO view_queue (note_id) SELECT unnest(ARRAY[{everyone}]) FROM generate_series(1, 2000)",
        "counting",
    )
    busy.set_flags()

    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(running_worker(busy.environment))
        statuses = burst(busy, [f"/api/notes/{note}/view" for note in notes], [f"v{n}" for n in range(30)])
        busy.wait_drained()

    assert statuses == {200: 300}
    assert [counted(postgres, "views", note) for note in notes] == [2030] * 10
    assert busy.metric("p12_db_errors_total", sqlstate="40P01") == 0


@pytest.mark.parametrize("mode", ["inline", "advisory"])
def test_likes_and_reports_are_exact_too(busy: Slot, postgres: Cluster, mode: str) -> None:
    busy.set_flags(**MODES[mode])
    liked, reported = new_note(postgres), new_note(postgres)
    postgres.run(f"UPDATE notes SET reports = -1000 WHERE id = {reported}", "counting")
    paths = [f"/api/notes/{liked}/like", f"/api/notes/{reported}/report"]

    statuses = burst(busy, paths, [f"v{number}" for number in range(60)] * 2)

    assert statuses == {200: 240}
    assert (counted(postgres, "likes", liked), logged(postgres, "like_log", liked)) == (60, 60)
    assert (counted(postgres, "reports", reported), logged(postgres, "report_log", reported)) == (-940, 60)


@pytest.mark.parametrize("arm", Arm)
def test_first_views_are_counted_as_accepted_and_every_try_timed_by_the_way_they_went(
    busy: Slot, postgres: Cluster, arm: Arm
) -> None:
    busy.set_flags(**MODES[arm])
    note = new_note(postgres)
    accepted, timed = "p12_views_accepted_total", "p12_view_transaction_seconds_count"
    before = {name: {way: busy.metric(name, arm=way) for way in Arm} for name in (accepted, timed)}

    burst(busy, [f"/api/notes/{note}/view"], ["a", "b", "a"])

    for way in Arm:
        went = way is arm
        assert busy.metric(accepted, arm=way) - before[accepted][way] == 2 * went
        # One try is the least that a view takes.
        assert (busy.metric(timed, arm=way) - before[timed][way] >= 3) is went


def test_nothing_of_a_request_stays_in_the_poolers_connections(busy: Slot, postgres: Cluster) -> None:
    busy.set_flags(**{ADVISORY: "1"})
    note = new_note(postgres)

    burst(busy, [f"/api/notes/{note}/view"], [f"v{number}" for number in range(40)])

    assert postgres.run("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    port = busy.environment["DATABASE_URL"].split(":")[-1].split("/")[0]
    with psycopg2.connect(f"postgresql://nobody@127.0.0.1:{port}/counting") as connection:
        cursor = connection.cursor()
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)
    connection.close()
