"""Readiness, metrics and flags, for the host and the balancer only."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from app.flags import Arm
from app.live_flags import signature
from app.sampling import take_sample
from app.store.schema import HEAD
from tests.integration.app.instances import FLAGS_SECRET, flag_document, metric
from tests.running import Cluster, free_port, wait_for

MakeClient = Callable[..., FlaskClient]
QUEUE = "P12_ENABLE_VIEW_QUEUE"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flags.json"


@pytest.fixture
def lonely(make_client: MakeClient, path: Path) -> FlaskClient:
    """An instance whose database is away: flags must work all the same."""
    return make_client(
        f"postgresql://nobody@127.0.0.1:{free_port()}/none",
        P12_FLAGS_FILE=str(path),
        P12_FLAGS_SECRET=FLAGS_SECRET,
        P12_ENABLE_LEGACY_VIEW="0",
    )


def push(client: FlaskClient, body: bytes, secret: str = FLAGS_SECRET) -> tuple[int, dict[str, object]]:
    answer = client.put("/internal/flags", data=body, headers={"X-P12-Signature": signature(secret, body)})
    return answer.status_code, answer.get_json()


def test_a_signed_document_takes_effect_and_is_answered_with_the_flags_in_force(lonely: FlaskClient) -> None:
    status, shown = push(lonely, flag_document(7, **{QUEUE: "25%"}))

    assert status == 200
    assert shown == lonely.get("/internal/flags").get_json()
    assert (shown["target"], shown["slot"], shown["generation"], shown["error"]) == ("dev", "blue", 7, None)
    assert shown["flags"] == {
        "P12_ENABLE_ADVISORY_LOCKS": "0",
        QUEUE: "25%",
        "P12_ENABLE_LEGACY_VIEW": "0",
        "P12_READ_ONLY": "0",
    }
    assert shown["source"] == {
        "P12_ENABLE_ADVISORY_LOCKS": "default",
        QUEUE: "file",
        "P12_ENABLE_LEGACY_VIEW": "environment",
        "P12_READ_ONLY": "default",
    }
    assert isinstance(shown["known"], dict)
    assert shown["known"]["P12_ENABLE_LEGACY_VIEW"] == "1"


@pytest.mark.parametrize(("given", "shown"), [("", None), ("30", 30)])
def test_it_tells_after_how_many_days_its_slots_worker_purges(
    make_client: MakeClient, given: str, shown: int | None
) -> None:
    client = make_client("postgresql://nobody@127.0.0.1:1/none", P12_PURGE_AFTER_DAYS=given)

    assert client.get("/internal/flags").get_json()["purge_after_days"] == shown


def test_every_answer_names_the_release_and_the_generation(lonely: FlaskClient) -> None:
    push(lonely, flag_document(7))

    for answer in (
        lonely.get("/healthz"),
        lonely.get("/nowhere"),
        lonely.get("/api/notes"),
        lonely.options("/api/notes"),
    ):
        assert (answer.headers["X-P12-Release"], answer.headers["X-P12-Flags"]) == ("0" * 12, "7")


def test_a_document_signed_with_another_secret_is_refused_before_it_is_read(
    lonely: FlaskClient, path: Path
) -> None:
    assert push(lonely, flag_document(1), "guess") == (401, {"error": "unsigned"})
    assert lonely.put("/internal/flags", data=flag_document(1)).status_code == 401
    assert not path.exists()


@pytest.mark.parametrize("late", [flag_document(6), flag_document(7, **{QUEUE: "1"})])
def test_a_generation_that_is_not_higher_is_a_conflict(lonely: FlaskClient, path: Path, late: bytes) -> None:
    push(lonely, flag_document(7))

    assert push(lonely, late) == (409, {"error": "stale_generation", "generation": 7})
    assert path.read_bytes() == flag_document(7)


def test_the_same_document_again_is_fine(lonely: FlaskClient) -> None:
    push(lonely, flag_document(7))

    assert push(lonely, flag_document(7))[0] == 200


@pytest.mark.parametrize(
    ("body", "error", "name"),
    [
        (b"{}", "bad_document", "wrong keys"),
        (flag_document(8, target="production"), "wrong_target", "production"),
        (flag_document(8, slot="green"), "wrong_slot", "green"),
        (flag_document(8, P12_ENABLE_MAGIC="1"), "unknown_flag", "P12_ENABLE_MAGIC"),
        (flag_document(8, **{QUEUE: "yes"}), "bad_value", f"{QUEUE}=yes"),
    ],
)
def test_a_bad_document_is_refused_by_name_and_changes_nothing(
    lonely: FlaskClient, path: Path, body: bytes, error: str, name: str
) -> None:
    push(lonely, flag_document(7))

    status, answer = push(lonely, body)

    assert (status, answer["error"], answer["name"]) == (422, error, name)
    assert answer["accepted"]
    assert path.read_bytes() == flag_document(7)


def test_a_damaged_file_keeps_the_last_good_flags_and_readiness_says_so(
    postgres: Cluster, database: str, make_client: MakeClient, path: Path
) -> None:
    client = make_client(postgres.url(database), P12_FLAGS_FILE=str(path), P12_FLAGS_SECRET=FLAGS_SECRET)
    push(client, flag_document(3, **{QUEUE: "1"}))

    path.write_bytes(b"{")
    ready = client.get("/internal/ready")

    assert ready.status_code == 200
    assert ready.get_json()["flags"]["generation"] == 3
    assert ready.get_json()["flags"]["error"].startswith("flags file: bad_document")
    assert client.get("/internal/flags").get_json()["flags"][QUEUE] == "1"


def test_an_instance_that_never_saw_a_good_file_is_not_ready(
    postgres: Cluster, database: str, make_client: MakeClient, path: Path
) -> None:
    path.write_bytes(b"{")

    assert (
        make_client(postgres.url(database), P12_FLAGS_FILE=str(path)).get("/internal/ready").status_code
        == 503
    )


def test_readiness_tells_commit_schema_and_flags(client: FlaskClient) -> None:
    answer = client.get("/internal/ready")

    assert answer.status_code == 200
    assert answer.get_json() == {
        "ok": True,
        "commit": "0" * 40,
        "release": "0" * 12,
        "target": "dev",
        "slot": "blue",
        "instance": "blue-1",
        "schema": {"revision": HEAD, "head": HEAD},
        "flags": {"generation": 0, "sha256": None, "error": None},
    }


def test_an_older_release_is_ready_on_a_newer_schema(
    client: FlaskClient, postgres: Cluster, database: str
) -> None:
    postgres.run("UPDATE alembic_version SET version_num = '0099'", database)

    assert client.get("/internal/ready").status_code == 200


def test_without_migrations_it_is_not_ready_and_makes_no_table(
    postgres: Cluster, empty_database: str, make_client: MakeClient
) -> None:
    client = make_client(postgres.url(empty_database))

    assert client.get("/internal/ready").status_code == 503
    assert client.get("/api/notes").status_code == 500
    assert postgres.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", empty_database) == [
        (0,)
    ]


@pytest.mark.parametrize("path_", ["/internal/ready", "/internal/metrics", "/internal/flags"])
def test_what_is_internal_is_not_there_for_others(lonely: FlaskClient, path_: str) -> None:
    forwarded = lonely.get(path_, headers={"X-Forwarded-For": "127.0.0.1"})
    foreign = lonely.get(path_, environ_base={"REMOTE_ADDR": "10.1.2.3"})

    assert (forwarded.status_code, foreign.status_code) == (404, 404)


def test_the_balancer_may_ask_when_it_is_allowed(make_client: MakeClient) -> None:
    client = make_client("postgresql://127.0.0.1:1/none", P12_INTERNAL_ALLOW="10.1.2.3")

    assert client.get("/internal/flags", environ_base={"REMOTE_ADDR": "10.1.2.3"}).status_code == 200


def test_metrics_count_routes_and_not_ids_and_leave_health_out(client: FlaskClient) -> None:
    note_id = client.post("/api/notes", json={"text": "a"}).get_json()["id"]
    client.post(f"/api/notes/{note_id}/view")
    for path_ in ("/healthz", "/api/health", "/api/health/db", "/internal/ready"):
        client.get(path_)

    text = client.get("/internal/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    routes = {sample.labels["route"] for sample in families["p12_http_requests"].samples}

    assert routes == {"/api/notes", "/api/notes/{id}/view"}
    here = {"slot", "release"}
    assert {"method", "route", "status", *here} == set(families["p12_http_requests"].samples[0].labels)
    assert {"p12_db_retries", "p12_db_errors", "p12_views_accepted"} <= set(families)
    assert {"p12_view_transaction_seconds", "p12_http_request_duration_seconds"} <= set(families)
    assert families["p12_pool_checkout_seconds"].samples[0].labels.keys() == {*here, "le"}
    assert families["p12_process_start_time_seconds"].samples[0].value > 1.7e9


def test_every_kind_of_transaction_is_timed(client: FlaskClient) -> None:
    client.post("/api/notes", json={"text": "a"})
    for path_ in ("view", "like", "report"):
        client.post(f"/api/notes/1/{path_}")
    client.get("/api/notes/1")
    client.get("/api/notes")

    for kind in ("create", "view", "like", "report", "read", "list"):
        assert metric(client, "p12_db_transaction_seconds_count", kind=kind, outcome="done") == 1


def test_counters_of_trouble_start_at_zero_rather_than_being_absent(lonely: FlaskClient) -> None:
    assert metric(lonely, "p12_db_errors_total", sqlstate="40P01") == 0
    assert metric(lonely, "p12_db_retries_total", sqlstate="40P01") == 0
    for arm in Arm:
        assert metric(lonely, "p12_views_accepted_total", arm=arm, slot="blue", release="0" * 12) == 0
    assert metric(lonely, "p12_limiter_degraded") == 0


def test_what_the_database_did_not_say_is_absent_rather_than_zero(lonely: FlaskClient) -> None:
    assert take_sample(lonely.application.extensions["paste12"]) is None
    assert "p12_view_queue_lag_seconds{" not in lonely.get("/internal/metrics").text


def test_queue_lag_and_lock_waits_are_what_the_database_said_last(
    client: FlaskClient, postgres: Cluster, database: str
) -> None:
    service = client.application.extensions["paste12"]
    lag = "INSERT INTO view_queue (note_id, queued_at) VALUES (1, now() - interval '1 minute')"
    postgres.run(lag, database)

    service.metrics.pressure = take_sample(service)

    assert metric(client, "p12_db_longest_lock_wait_seconds") >= 0
    assert metric(client, "p12_view_queue_lag_seconds") >= 60
    assert metric(client, "p12_db_lock_waiters") >= 0

    # Nothing new came since, so nothing is known.
    service.metrics.pressure = replace(service.metrics.pressure, good_until=0)

    assert "p12_db_lock_waiters{" not in client.get("/internal/metrics").text


def test_the_longest_wait_for_a_lock_is_known_while_it_lasts(
    client: FlaskClient, postgres: Cluster, database: str
) -> None:
    url, service = postgres.url(database), client.application.extensions["paste12"]
    with (
        contextlib.closing(psycopg2.connect(url)) as holder,
        contextlib.closing(psycopg2.connect(url)) as waiter,
    ):
        holder.cursor().execute("LOCK TABLE notes")
        thread = threading.Thread(target=lambda: waiter.cursor().execute("LOCK TABLE notes"))
        thread.start()
        seen = wait_for(lambda: (p := take_sample(service)) and p.lock_wait_seconds > 0.2 and p, "a wait")
        holder.rollback()
        thread.join()

    assert seen.lock_waiters >= 1
