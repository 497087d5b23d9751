"""The part of today's service is played as it is known, and ours beside it on one database counts right."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from flask.testing import FlaskClient

from app.factory import create_app
from app.settings import load_settings
from tests.integration.app.instances import UNLIMITED, migrate
from tests.running import Cluster
from tests.today.database import ROWS, TABLES, TODAY, UNIQUE_INDEXES
from tests.today.service import running_today

TRIGGERS = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
KEPT = ["trg_like_log_guard", "trg_parent_note_guard", "trg_report_log_guard", "trg_view_log_guard"]


@pytest.fixture
def old(postgres: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database as today's service left it."""
    name = f"today_{abs(hash(request.node.name))}"
    postgres.new_database(name)
    postgres.run(TODAY, name)
    yield name
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def ours(request: pytest.FixtureRequest) -> Callable[[str], FlaskClient]:
    """Our service on a database that was taken over."""

    def made(url: str) -> FlaskClient:
        app = create_app(load_settings({"DATABASE_URL": url, **UNLIMITED, "P12_TRUSTED_HOPS": "0"}))
        request.addfinalizer(app.extensions["paste12"].close)
        return app.test_client()

    return made


def names(postgres: Cluster, database: str) -> list[object]:
    return [name for (name,) in postgres.run(TRIGGERS, database)]


def in_the_way(url: str) -> list[str]:
    _, answer = migrate("look", url)
    return [each["kind"] for each in answer["obstacles"] if each["weight"] != "tells"]


def test_each_start_makes_the_triggers_again(postgres: Cluster, old: str) -> None:
    postgres.run("DROP TRIGGER trg_parent_note_guard ON view_log", old)

    with running_today(postgres.url(old)):
        pass

    assert names(postgres, old) == KEPT


def test_it_reads_writes_and_counts_each_visitor_once(postgres: Cluster, old: str) -> None:
    with running_today(postgres.url(old)) as address:
        made = requests.post(f"{address}/api/notes", json={"text": "new"}, timeout=10).json()
        path = f"{address}/api/notes/{made['id']}"
        for kind in ("view", "like", "report"):
            for _ in range(2):
                counted = requests.post(f"{path}/{kind}", headers={"X-FP": "ann"}, timeout=10)
            assert (counted.status_code, counted.json()[f"{kind}s"]) == (200, 1)

    indexes = {name for (name,) in postgres.run("SELECT indexname FROM pg_indexes", old)}
    assert {"uq_view_log", "uq_like_log", "uq_report_log"} <= indexes


def test_it_lists_notes_that_were_removed_or_expired(postgres: Cluster, old: str) -> None:
    with running_today(postgres.url(old)) as address:
        listed = requests.get(f"{address}/api/notes?limit=400", timeout=10).json()

    assert len(listed) == 400


def test_its_guard_refuses_the_views_of_a_note_that_ours_made_and_the_look_says_so(
    postgres: Cluster, old: str, ours: Callable[[str], FlaskClient]
) -> None:
    url = postgres.url(old)
    assert migrate("upgrade", url)[0] == 0
    client = ours(url)
    note_id = client.post("/api/notes", json={"text": "ours"}).get_json()["id"]

    assert client.post(f"/api/notes/{note_id}/view", headers={"X-FP": "a"}).status_code == 500
    assert in_the_way(url) == ["trigger"] * 4

    postgres.run("DROP TRIGGER trg_parent_note_guard ON view_log", old)

    assert client.post(f"/api/notes/{note_id}/view", headers={"X-FP": "a"}).get_json()["views"] == 1


def test_a_start_of_todays_service_brings_the_guard_back_and_the_look_finds_it(
    postgres: Cluster, old: str
) -> None:
    url = postgres.url(old)
    for trigger in KEPT:
        table = "view_log" if "parent" in trigger else trigger.removeprefix("trg_").removesuffix("_guard")
        postgres.run(f"DROP TRIGGER {trigger} ON {table}", old)
    assert migrate("upgrade", url)[0] == 0
    assert in_the_way(url) == []

    with running_today(url):
        pass

    assert in_the_way(url) == ["trigger"] * 4


def test_both_on_one_database_count_every_visitor_once(
    postgres: Cluster, old: str, ours: Callable[[str], FlaskClient]
) -> None:
    url = postgres.url(old)
    assert migrate("upgrade", url)[0] == 0
    postgres.run("UPDATE notes SET views = 30, likes = NULL WHERE id = 30", old)
    with running_today(url) as address:
        client = ours(url)
        for visitor in range(10):
            fingerprint = {"X-FP": f"visitor {visitor}"}
            for kind in ("view", "like"):
                first = client.post(f"/api/notes/30/{kind}", headers=fingerprint)
                second = requests.post(f"{address}/api/notes/30/{kind}", headers=fingerprint, timeout=10)
                assert (first.status_code, second.status_code) == (200, 200)

    assert postgres.run("SELECT views, likes FROM notes WHERE id = 30", old) == [(40, 10)]


def test_its_index_in_every_request_deadlocks_under_a_burst(postgres: Cluster) -> None:
    postgres.new_database("bursting")
    postgres.run(
        TABLES + ROWS.replace("INSERT INTO note (id, text) SELECT id, text FROM notes;", ""), "bursting"
    )
    postgres.run(UNIQUE_INDEXES["view_log"], "bursting")

    def view(address: str, number: int) -> int:
        path = f"{address}/api/notes/{100 + number % 10}/like"
        return requests.post(path, headers={"X-FP": f"v{number}"}, timeout=60).status_code

    with running_today(postgres.url("bursting")) as address, ThreadPoolExecutor(16) as visitors:
        statuses = set(visitors.map(lambda number: view(address, number), range(200)))

    assert 503 in statuses
    postgres.run("DROP DATABASE bursting WITH (FORCE)")
