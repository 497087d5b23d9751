"""The public API answers as the contract says, whatever clients send."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.running import Cluster

MakeClient = Callable[..., FlaskClient]
NOTE = {"id", "text", "timestamp", "expires_at", "likes", "views", "reports", "author_fp"}


@pytest.fixture
def note_id(client: FlaskClient) -> int:
    return int(client.post("/api/notes", json={"text": "hola"}).get_json()["id"])


def hours_alive(postgres: Cluster, database: str, note_id: int) -> Any:
    ((hours,),) = postgres.run(
        f"SELECT extract(epoch FROM expires_at - timestamp)::int / 3600 FROM notes WHERE id = {note_id}",
        database,
    )
    return hours


@pytest.mark.parametrize("how", ["json", "data", "multipart"])
def test_a_note_is_made_from_json_a_form_or_multipart(client: FlaskClient, how: str) -> None:
    sent: dict[str, Any] = (
        {"json": {"text": " ¡hola! 🌵 "}} if how == "json" else {"data": {"text": " ¡hola! 🌵 "}}
    )
    if how == "multipart":
        sent["content_type"] = "multipart/form-data"

    answer = client.post("/api/notes", **sent, headers={"X-Author-Fp": "me"})

    note = answer.get_json()
    assert (answer.status_code, set(note)) == (201, NOTE)
    assert (note["text"], note["author_fp"], note["views"]) == ("¡hola! 🌵", "me", 0)
    assert client.get(f"/api/notes/{note['id']}").get_json() == note


@pytest.mark.parametrize(
    ("sent", "hours"),
    [
        ({}, 24),
        ({"hours": 5}, 5),
        ({"ttl_hours": 3, "hours": 5}, 3),
        ({"ttl_hours": 0}, 24),
        ({"ttl_hours": 999}, 168),
    ],
)
def test_a_note_lives_as_long_as_asked_within_limits(
    client: FlaskClient, postgres: Cluster, database: str, sent: dict[str, int], hours: int
) -> None:
    note_id = client.post("/api/notes", json={"text": "a", **sent}).get_json()["id"]

    assert hours_alive(postgres, database, note_id) == hours


def test_times_are_naive_utc_whatever_the_servers_zone(
    client: FlaskClient, postgres: Cluster, database: str
) -> None:
    client.post("/api/notes", json={"text": "a"})

    (row,) = postgres.run(
        "SELECT abs(extract(epoch FROM timezone('utc', now()) - timestamp)) < 60 FROM notes", database
    )
    assert row == (True,)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"json": {}}, 400, "text required"),
        ({"json": {"text": "  "}}, 400, "text required"),
        ({"json": {"text": 5}}, 400, "text_not_a_string"),
        ({"json": {"text": "a\0b"}}, 400, "text_has_nul"),
        ({"json": {"text": "x" * 10_001}}, 400, "text_too_long"),
        ({"json": ["text"]}, 400, "bad_request"),
        ({"data": b'{"text": "\\ud800"}', "content_type": "application/json"}, 400, "text_not_unicode"),
        ({"data": b"{", "content_type": "application/json"}, 400, "bad_request"),
        ({"data": b"[" * 100_000, "content_type": "application/json"}, 400, "bad_request"),
        ({"data": b"\xff", "content_type": "application/json"}, 400, "bad_request"),
        ({"data": b"--x", "content_type": "multipart/form-data; boundary=x"}, 400, "text required"),
        ({"data": b"x" * 300_000, "content_type": "application/json"}, 413, "too_large"),
        ({"data": {"text": "x" * 300_000}}, 413, "too_large"),
    ],
)
def test_a_bad_note_is_refused_in_json(
    client: FlaskClient, sent: dict[str, Any], status: int, code: str
) -> None:
    answer = client.post("/api/notes", **sent)

    assert (answer.status_code, answer.get_json()) == (status, {"error": code})


def test_a_report_needs_no_body(client: FlaskClient, note_id: int) -> None:
    empty = client.post(f"/api/notes/{note_id}/report", content_type="application/json")

    assert empty.get_json() == {"ok": True, "id": note_id, "reports": 1, "removed": False}


def test_pages_follow_each_other_and_know_where_they_end(
    client: FlaskClient, postgres: Cluster, database: str
) -> None:
    postgres.run("INSERT INTO notes (text) SELECT 'n' FROM generate_series(1, 25)", database)
    seen: list[int] = []
    url = "/api/notes?limit=10&wrap=1&active_only=1"

    while True:
        answer = client.get(url)
        page = answer.get_json()
        seen += [note["id"] for note in page["items"]]
        if not page["has_more"]:
            break
        link = answer.headers["Link"]
        assert "wrap=1" in link
        assert "active_only=1" in link
        url = link[1 : link.index(">")]

    assert seen == list(range(25, 0, -1))
    assert "Link" not in answer.headers
    assert page["next_before_id"] is None


def test_more_is_exact_when_a_page_is_just_full(
    client: FlaskClient, postgres: Cluster, database: str
) -> None:
    postgres.run("INSERT INTO notes (text) SELECT 'n' FROM generate_series(1, 10)", database)

    assert client.get("/api/notes?limit=10&wrap=1").get_json()["has_more"] is False
    assert client.get("/api/notes?limit=9&wrap=1").get_json()["has_more"] is True


@pytest.mark.parametrize(
    "query", ["limit=x&before_id=y", "limit=-5", "before_id=99999999999999999999", "limit=1e9"]
)
def test_odd_paging_is_read_leniently(client: FlaskClient, note_id: int, query: str) -> None:
    answer = client.get(f"/api/notes?{query}")

    assert answer.status_code == 200
    assert [note["id"] for note in answer.get_json()] == [note_id]


@pytest.mark.parametrize(
    "gone", ["expires_at = timezone('utc', now()) - interval '1 second'", "deleted_at = now()"]
)
def test_what_is_gone_is_neither_listed_nor_shown_nor_counted(
    client: FlaskClient, postgres: Cluster, database: str, note_id: int, gone: str
) -> None:
    postgres.run(f"UPDATE notes SET {gone}", database)

    assert client.get("/api/notes").get_json() == []
    for answer in (
        client.get(f"/api/notes/{note_id}"),
        *(client.post(f"/api/notes/{note_id}/{action}") for action in ("view", "like", "report")),
    ):
        assert (answer.status_code, answer.get_json()) == (404, {"error": "not_found"})


def test_a_view_counts_once_per_visitor_and_day(
    client: FlaskClient, postgres: Cluster, database: str, note_id: int
) -> None:
    def view(who: str) -> Any:
        return client.post(f"/api/notes/{note_id}/view", headers={"X-FP": who}).get_json()

    assert view("a") == {"ok": True, "id": note_id, "views": 1}
    assert [view("a")["views"], view("b")["views"]] == [1, 2]

    postgres.run("UPDATE view_log SET day = '2020-01-01'", database)

    assert view("a")["views"] == 3


def test_the_day_is_the_one_in_utc(
    client: FlaskClient, postgres: Cluster, database: str, note_id: int
) -> None:
    client.post(f"/api/notes/{note_id}/view")

    assert postgres.run("SELECT day = (now() AT TIME ZONE 'utc')::date::text FROM view_log", database) == [
        (True,)
    ]


@pytest.mark.parametrize("mode", [{}, {"P12_ENABLE_ADVISORY_LOCKS": "1"}, {"P12_ENABLE_VIEW_QUEUE": "1"}])
def test_a_note_that_is_not_there_is_not_found_and_leaves_no_row(
    postgres: Cluster, database: str, make_client: MakeClient, mode: dict[str, str]
) -> None:
    client = make_client(postgres.url(database), **mode)

    numbers = ["0", "4711", "2147483647", "2147483648", "99999999999999999999", "9" * 5000, "-1", "x"]

    for number, action in itertools.product(numbers, ("view", "like", "report")):
        answer = client.post(f"/api/notes/{number}/{action}")
        assert (answer.status_code, answer.get_json()) == (404, {"error": "not_found"})
    for log in ("view_log", "like_log", "report_log"):
        assert postgres.run(f"SELECT count(*) FROM {log}", database) == [(0,)]


def test_a_like_counts_once_per_visitor(client: FlaskClient, note_id: int) -> None:
    def like(who: str) -> Any:
        return client.post(f"/api/notes/{note_id}/like", headers={"X-FP": who}).get_json()

    assert [like("a"), like("a")["likes"], like("b")["likes"]] == [
        {"ok": True, "id": note_id, "likes": 1},
        1,
        2,
    ]


def test_enough_reports_remove_a_note_and_keep_its_row(
    client: FlaskClient, postgres: Cluster, database: str, note_id: int
) -> None:
    answers = [
        client.post(
            f"/api/notes/{note_id}/report", json={"reason": "spam\0"}, headers={"X-FP": who}
        ).get_json()
        for who in "aabcde"
    ]

    assert [(a["reports"], a["removed"]) for a in answers] == [
        (1, False),
        (1, False),
        (2, False),
        (3, False),
        (4, False),
        (5, True),
    ]
    assert client.get(f"/api/notes/{note_id}").status_code == 404
    assert postgres.run("SELECT deleted_at IS NOT NULL FROM notes", database) == [(True,)]
    assert postgres.run("SELECT DISTINCT reason FROM report_log", database) == [("spam",)]


def test_a_fingerprint_too_long_to_store_still_counts_once(client: FlaskClient, note_id: int) -> None:
    views = [
        client.post(f"/api/notes/{note_id}/view", headers={"X-FP": "x" * 500 + end}).get_json()["views"]
        for end in "aab"
    ]

    assert views == [1, 1, 2]


def test_the_old_alias_counts_the_same_views(client: FlaskClient, note_id: int) -> None:
    assert client.post(f"/api/view?id={note_id}", headers={"X-FP": "a"}).get_json()["views"] == 1
    assert client.post("/api/view", data={"id": note_id}, headers={"X-FP": "a"}).get_json()["views"] == 1
    for bad in ("", "?id=x", "?id=-1", "?id=99999999999", "?id=²"):
        answer = client.post(f"/api/view{bad}")
        assert (answer.status_code, answer.get_json()) == (404, {"error": "bad_id"})
    assert client.get(f"/api/view?id={note_id}").status_code == 404


def test_the_old_alias_can_be_switched_off(postgres: Cluster, database: str, make_client: MakeClient) -> None:
    client = make_client(postgres.url(database), P12_ENABLE_LEGACY_VIEW="0")
    note_id = client.post("/api/notes", json={"text": "a"}).get_json()["id"]

    assert client.post(f"/api/view?id={note_id}").get_json() == {"error": "not_found"}


@pytest.mark.parametrize("path", ["/api/like", "/api/report"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_retired_paths_are_not_found(client: FlaskClient, path: str, method: str) -> None:
    assert client.open(path, method=method).status_code == 404


def test_read_only_refuses_writes_and_goes_on_reading(
    postgres: Cluster, database: str, make_client: MakeClient
) -> None:
    client = make_client(postgres.url(database), P12_READ_ONLY="1")
    postgres.run("INSERT INTO notes (text) VALUES ('a')", database)

    assert client.get("/api/notes/1").status_code == 200
    writes = ["/api/notes", "/api/notes/1/view", "/api/notes/1/like", "/api/notes/1/report", "/api/view?id=1"]
    for answer in (client.post(path, json={"text": "a"}) for path in writes):
        assert (answer.status_code, answer.get_json()) == (503, {"ok": False, "error": "read_only"})
        assert "Retry-After" in answer.headers


def test_a_wrong_method_is_told_which_are_right(client: FlaskClient) -> None:
    answer = client.put("/api/notes")

    assert (answer.status_code, answer.get_json()) == (405, {"error": "method_not_allowed"})
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


def test_head_and_options_work(client: FlaskClient, note_id: int) -> None:
    head = client.head(f"/api/notes/{note_id}")

    assert (head.status_code, head.data) == (200, b"")
    assert "GET" in client.options(f"/api/notes/{note_id}").headers["Allow"]


def test_health_says_which_commit_runs_and_is_never_cached(client: FlaskClient) -> None:
    answer = client.get("/api/health")

    assert answer.get_json() == {"ok": True, "status": "ok", "api": True, "ver": "0" * 12, "commit": "0" * 40}
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.get("/healthz").get_json() == {"ok": True}


def test_the_databases_health_shows_connections_and_their_limit(client: FlaskClient) -> None:
    found = client.get("/api/health/db").get_json()

    assert (found["ok"], found["db"], found["dialect"], found["max_connections"]) == (
        True,
        True,
        "postgresql",
        150,
    )
    assert found["connections"] >= 1


def test_an_unforeseen_error_is_json_without_details(
    client: FlaskClient, postgres: Cluster, database: str
) -> None:
    postgres.run("ALTER TABLE notes RENAME TO hidden", database)
    try:
        answer = client.get("/api/notes")
    finally:
        postgres.run("ALTER TABLE hidden RENAME TO notes", database)

    assert (answer.status_code, answer.get_json()) == (500, {"error": "server_error"})


def test_only_allowed_origins_may_call_from_a_browser(
    postgres: Cluster, database: str, make_client: MakeClient
) -> None:
    client = make_client(
        postgres.url(database),
        PUBLIC_BASE_URL="https://p12.example/",
        P12_CORS_ALLOWLIST="https://a.example,https://b.example",
    )

    def allowed(origin: str, path: str = "/api/notes") -> str | None:
        return client.options(path, headers={"Origin": origin}).headers.get("Access-Control-Allow-Origin")

    assert allowed("https://a.example") == "https://a.example"
    assert allowed("https://b.example") == "https://b.example"
    assert allowed("https://p12.example") is None
    assert allowed("https://evil.example") is None
    assert allowed("null") is None
    assert allowed("https://a.example", "/internal/flags") is None


def test_without_an_allowlist_the_public_address_is_the_only_origin(
    postgres: Cluster, database: str, make_client: MakeClient
) -> None:
    client = make_client(postgres.url(database), PUBLIC_BASE_URL="https://p12.example/app")

    preflight = client.options("/api/notes/1/view", headers={"Origin": "https://p12.example"})

    assert preflight.headers["Access-Control-Allow-Origin"] == "https://p12.example"
    assert "X-FP" in preflight.headers["Access-Control-Allow-Headers"]
    assert "Origin" in preflight.headers["Vary"]


def test_secure_headers_can_be_left_to_the_balancer(
    postgres: Cluster, database: str, make_client: MakeClient
) -> None:
    without = make_client(postgres.url(database), P12_SECURE_HEADERS="0").get("/healthz")

    assert "Content-Security-Policy" not in without.headers
