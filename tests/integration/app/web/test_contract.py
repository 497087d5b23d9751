"""The contract, row by row, over real HTTP, with the limits that clients meet."""

import itertools
import re
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator

from tests.integration.app.instances import UNLIMITED, Slot, migrate, slot
from tests.running import Cluster

NOTE = ["id", "text", "timestamp", "expires_at", "likes", "views", "reports", "author_fp"]
ORIGIN = "https://paste12.example"
GONE = ("4711471", "2147483648", "99999999999999999999", "0", "-1", "x", "1.0", "%00")
ROUTES = {
    "/": {"GET"},
    "/healthz": {"GET"},
    "/api/notes": {"GET", "POST"},
    "/api/notes/1": {"GET"},
    "/api/notes/1/view": {"POST"},
    "/api/notes/1/like": {"POST"},
    "/api/notes/1/report": {"POST"},
    "/api/view": {"GET", "POST"},
    "/api/like": {"GET", "POST"},
    "/api/report": {"GET", "POST"},
    "/api/health": {"GET"},
    "/api/health/db": {"GET"},
    "/api/openapi.json": {"GET"},
}
_addresses = (f"10.{a}.{b}.{c}" for a, b, c in itertools.product(range(250), repeat=3))


class Service:
    """The service as clients reach it.

    Every answer must say who gave it, every error must be JSON, and all must be as the service describes.
    """

    def __init__(self, running: Slot, database: str) -> None:
        self.slot = running
        self.database = database
        self.session = requests.Session()
        self.description = requests.get(f"{running.urls[0]}/api/openapi.json", timeout=30).json()

    def ask(self, method: str, path: str, address: str | None = None, **given: Any) -> requests.Response:
        """Send a request, from an address of its own unless one is given."""
        headers = {"X-Forwarded-For": address or next(_addresses), **given.pop("headers", {})}
        answer = self.session.request(
            method, self.slot.urls[0] + path, headers=headers, timeout=30, allow_redirects=False, **given
        )
        assert answer.headers["X-P12-Release"] == "0" * 12
        assert answer.headers["X-P12-Flags"] == str(self.slot.generation)
        if answer.status_code >= 400 and method != "HEAD":
            assert isinstance(answer.json()["error"], str)
        if (operation := self._operation(method, path)) is not None:
            self._must_be_described(answer, operation["responses"])
        return answer

    def _operation(self, method: str, path: str) -> Any:
        for template, operations in self.description["paths"].items():
            if re.fullmatch(template.replace("{id}", "[^/]+"), path.split("?")[0]):
                return operations.get(method.lower())
        return None

    def _must_be_described(self, answer: requests.Response, responses: Any) -> None:
        described = responses[str(answer.status_code)]
        components = self.description["components"]
        for name in described["headers"]:
            schema = components["headers"][name]
            assert name in answer.headers or not schema.get("required"), name
        ((kind, content),) = described["content"].items()
        assert answer.headers["Content-Type"].split(";")[0] == kind
        if kind == "application/json":
            schema = {**content["schema"], "components": components}
            Draft202012Validator(schema).validate(answer.json())

    def write(self, text: str = "hola", **fields: Any) -> dict[str, Any]:
        answer = self.ask("POST", "/api/notes", json={"text": text, **fields})
        assert answer.status_code == 201, answer.text
        note: dict[str, Any] = answer.json()
        return note


@pytest.fixture(scope="module")
def service(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    url = postgres.new_database("contract")
    migrate("upgrade", url)
    directory: Path = tmp_path_factory.mktemp("contract")
    as_clients_meet_it = {name: "" for name in UNLIMITED}
    environ = {**as_clients_meet_it, "P12_TRUSTED_HOPS": "1", "P12_CORS_ALLOWLIST": ORIGIN}
    with slot(url, directory, environ, instances=1) as running:
        yield Service(running, "contract")


def outcome(answer: requests.Response) -> tuple[int, object]:
    return answer.status_code, answer.json()


@pytest.mark.parametrize("kind", ["json", "data", "files"])
def test_create_takes_json_a_form_or_multipart_and_answers_the_note(service: Service, kind: str) -> None:
    fields: dict[str, Any] = {"text": " ¡hola! 🌵\n", "hours": "2"}
    if kind == "files":
        fields = {name: (None, value) for name, value in fields.items()}

    sent: dict[str, Any] = {kind: fields, "headers": {"X-FP": "me"}}
    answer = service.ask("POST", "/api/notes", **sent)

    note = answer.json()
    assert (answer.status_code, list(note)) == (201, NOTE)
    assert (note["text"], note["author_fp"]) == ("¡hola! 🌵", "me")
    assert (note["likes"], note["views"], note["reports"]) == (0, 0, 0)
    lives = datetime.fromisoformat(note["expires_at"]) - datetime.fromisoformat(note["timestamp"])
    assert lives.total_seconds() == 2 * 3600
    assert outcome(service.ask("GET", f"/api/notes/{note['id']}")) == (200, note)


@pytest.mark.parametrize(
    ("fields", "hours"),
    [
        ({}, 24),
        ({"ttl_hours": 3, "hours": 5}, 3),
        ({"ttl_hours": "", "hours": "5"}, 5),
        ({"ttl_hours": 0}, 24),
        ({"ttl_hours": "soon"}, 24),
        ({"ttl_hours": -2}, 1),
        ({"ttl_hours": 169}, 168),
    ],
)
def test_a_note_lives_1_to_168_hours(service: Service, fields: dict[str, Any], hours: int) -> None:
    note = service.write(**fields)

    lives = datetime.fromisoformat(note["expires_at"]) - datetime.fromisoformat(note["timestamp"])
    assert lives.total_seconds() == hours * 3600


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({}, 400, "text required"),
        ({"json": {"text": " \n"}}, 400, "text required"),
        ({"json": {"text": None}}, 400, "text required"),
        ({"json": {"text": ["a"]}}, 400, "text_not_a_string"),
        ({"json": {"text": "a\0b"}}, 400, "text_has_nul"),
        ({"json": {"text": "x" * 10_001}}, 400, "text_too_long"),
        ({"json": "text"}, 400, "bad_request"),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, "bad_request"),
        ({"json": {"text": "x" * 300_000}}, 413, "too_large"),
        ({"data": {"text": "x" * 300_000}}, 413, "too_large"),
        ({"files": {"text": (None, "x" * 300_000)}}, 413, "too_large"),
    ],
)
def test_what_is_no_note_is_refused(service: Service, sent: dict[str, Any], status: int, code: str) -> None:
    assert outcome(service.ask("POST", "/api/notes", **sent)) == (status, {"error": code})


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
def test_a_body_in_chunks_has_the_same_limit(service: Service, kind: str) -> None:
    chunks = itertools.chain([b"text="], itertools.repeat(b"x" * 10_000, 30))

    answer = service.ask("POST", "/api/notes", data=chunks, headers={"Content-Type": kind})

    assert outcome(answer) == (413, {"error": "too_large"})


def test_a_chunk_that_is_none_is_the_clients_mistake(service: Service) -> None:
    host, port = service.slot.urls[0].removeprefix("http://").split(":")
    lines = ["POST /api/notes HTTP/1.1", f"Host: {host}", "Transfer-Encoding: chunked", "", "zz", "", ""]

    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall("\r\n".join(lines).encode())
        answer = connection.makefile("rb").readline()

    assert answer.split()[1] == b"400"


def test_a_small_body_in_chunks_is_taken(service: Service) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}

    assert service.ask("POST", "/api/notes", data=iter([b"text=", b"a"]), headers=kind).status_code == 201


@pytest.fixture
def only_these(service: Service, postgres: Cluster) -> list[int]:
    """Seven notes that can be read, newest first, between others that are gone."""
    postgres.run("TRUNCATE notes", service.database)
    rows = postgres.run(
        "INSERT INTO notes (text, expires_at, deleted_at) SELECT 'n',"
        "  CASE n % 3 WHEN 1 THEN timezone('utc', now()) - interval '1 second' END,"
        "  CASE n % 3 WHEN 2 THEN timezone('utc', now()) END "
        "FROM generate_series(0, 20) AS n RETURNING id, expires_at IS NULL AND deleted_at IS NULL",
        service.database,
    )
    return sorted((int(str(note)) for note, there in rows if there), reverse=True)


def test_a_list_is_an_array_newest_first_of_notes_that_are_there(
    service: Service, only_these: list[int]
) -> None:
    answer = service.ask("GET", "/api/notes")

    assert [note["id"] for note in answer.json()] == only_these
    assert all(list(note) == NOTE for note in answer.json())
    assert "Link" not in answer.headers


@pytest.mark.parametrize("limit", range(1, 9))
def test_more_is_exact_and_links_keep_wrap_and_active_only(
    service: Service, only_these: list[int], limit: int
) -> None:
    path, pages = f"/api/notes?limit={limit}&wrap=1&active_only=1", []

    while path:
        answer = service.ask("GET", path)
        page = answer.json()
        assert list(page) == ["items", "has_more", "next_before_id"]
        pages.append([note["id"] for note in page["items"]])
        assert page["has_more"] is ("Link" in answer.headers) is (page["next_before_id"] is not None)
        path = answer.links["next"]["url"] if "Link" in answer.headers else ""
        assert not path or {"wrap=1", "active_only=1", f"limit={limit}"} <= set(path.split("?")[1].split("&"))

    assert pages == [only_these[start : start + limit] for start in range(0, len(only_these), limit)]


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("limit=0", 1),
        ("limit=-3", 1),
        ("limit=1000", 100),
        ("limit=x", 20),
        ("limit=", 20),
        ("", 20),
        ("before_id=1", 0),
        ("before_id=-5", 0),
        ("before_id=99999999999999999999999", 20),
    ],
)
def test_a_page_has_1_to_100_notes(service: Service, postgres: Cluster, query: str, listed: int) -> None:
    postgres.run("INSERT INTO notes (text) SELECT 'n' FROM generate_series(1, 101)", service.database)

    assert len(service.ask("GET", f"/api/notes?{query}").json()) == listed


@pytest.mark.parametrize("number", GONE)
def test_a_note_that_is_not_there_is_404_everywhere(service: Service, number: str) -> None:
    answers = [service.ask("GET", f"/api/notes/{number}")]
    answers += [service.ask("POST", f"/api/notes/{number}/{verb}") for verb in ("view", "like", "report")]

    assert [outcome(answer) for answer in answers] == [(404, {"error": "not_found"})] * 4


def test_views_and_likes_count_once_per_fingerprint(service: Service) -> None:
    note_id = service.write()["id"]

    for verb, counted in (("view", "views"), ("like", "likes")):
        path = f"/api/notes/{note_id}/{verb}"
        answers = [outcome(service.ask("POST", path, headers={"X-FP": who})) for who in "aab"]
        assert answers == [(200, {"ok": True, "id": note_id, counted: n}) for n in (1, 1, 2)]


def test_five_reports_remove_a_note(service: Service) -> None:
    note_id = service.write()["id"]

    answers = [
        service.ask("POST", f"/api/notes/{note_id}/report", json={"reason": "x"}, headers={"X-FP": who})
        for who in "aabcde"
    ]

    assert [answer.json() for answer in answers] == [
        {"ok": True, "id": note_id, "reports": n, "removed": n == 5} for n in (1, 1, 2, 3, 4, 5)
    ]
    assert service.ask("GET", f"/api/notes/{note_id}").status_code == 404


def test_the_alias_takes_the_id_from_the_query_or_a_form(service: Service) -> None:
    note_id = service.write()["id"]
    who = {"X-FP": "me"}

    for sent in ({"params": {"id": note_id}}, {"data": {"id": note_id}}, {"files": {"id": (None, note_id)}}):
        answer = service.ask("POST", "/api/view", headers=who, **sent)
        assert outcome(answer) == (200, {"ok": True, "id": note_id, "views": 1})
    for bad in ("", "?id=", "?id=x", "?id=-1", "?id=2147483648"):
        assert outcome(service.ask("POST", f"/api/view{bad}")) == (404, {"error": "bad_id"})
    assert outcome(service.ask("POST", "/api/view?id=4711471")) == (404, {"error": "not_found"})


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/view?id=1"), *itertools.product(["GET", "POST"], ["/api/like", "/api/report"])],
)
def test_what_is_retired_is_404(service: Service, method: str, path: str) -> None:
    assert outcome(service.ask(method, path)) == (404, {"error": "not_found"})


def test_health_answers_have_their_fields(service: Service) -> None:
    api, database = service.ask("GET", "/api/health"), service.ask("GET", "/api/health/db")

    assert service.ask("GET", "/healthz").json() == {"ok": True}
    assert api.json() == {"ok": True, "status": "ok", "api": True, "ver": "0" * 12, "commit": "0" * 40}
    assert api.headers["Cache-Control"] == "no-store"
    assert database.json().items() >= {"ok": True, "db": True, "dialect": "postgresql"}.items()
    assert 1 <= database.json()["connections"] < database.json()["max_connections"]


@pytest.mark.parametrize("path", ["/", "/?id=1", "/?id=nonsense"])
def test_the_page_is_html(service: Service, path: str) -> None:
    answer = service.ask("GET", path)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("path", ["/internal/ready", "/internal/metrics", "/internal/flags"])
def test_internal_is_there_for_the_host_and_for_nobody_else(service: Service, path: str) -> None:
    assert requests.get(service.slot.urls[0] + path, timeout=30).status_code == 200

    for method in ("GET", "HEAD", "PUT", "OPTIONS", "POST"):
        assert service.ask(method, path).status_code == 404


def test_the_first_of_three_headers_then_the_cookie_then_the_address_tells_who_it_is(
    service: Service,
) -> None:
    def author(address: str, *given: str, cookie: str = "", agent: str = "x") -> str:
        headers = {"User-Agent": agent, **{name: name for name in given}}
        cookies = {"fp": cookie} if cookie else {}
        answer = service.ask(
            "POST", "/api/notes", address, json={"text": "a"}, headers=headers, cookies=cookies
        )
        return str(answer.json()["author_fp"])

    def new() -> str:
        return next(_addresses)

    assert author(new(), "X-FP", "X-Fingerprint", "X-Author-Fp", cookie="c") == "X-Author-Fp"
    assert author(new(), "X-FP", "X-Fingerprint", cookie="c") == "X-Fingerprint"
    assert author(new(), "X-FP", cookie="c") == "X-FP"
    assert author(new(), cookie="c") == "c"
    assert len({author(new()), author(new()), author(new(), agent="y")}) == 3


def test_only_the_last_hop_names_the_client(service: Service) -> None:
    address = next(_addresses)

    # What a client claims to come from stands further left.
    statuses = [
        service.ask("POST", "/api/notes", f"{claimed}, {address}", json={"text": "a"}).status_code
        for claimed in ("6.6.6.1", "6.6.6.2")
    ]

    assert statuses == [201, 429]


@pytest.mark.parametrize(
    ("method", "path", "allowed", "within_seconds"),
    [
        ("POST", "/api/notes", 1, 10),
        ("GET", "/api/notes", 60, 60),
        ("POST", "/api/notes/{id}/view", 30, 60),
        ("POST", "/api/view?id={id}", 5, 60),
    ],
)
def test_one_more_than_allowed_is_429_with_retry_after(
    service: Service, method: str, path: str, allowed: int, within_seconds: int
) -> None:
    path, address = path.format(id=service.write()["id"]), next(_addresses)

    answers = [service.ask(method, path, address, data={"text": "a"}) for _ in range(allowed + 1)]

    assert {answer.status_code for answer in answers[:-1]} <= {200, 201}
    assert outcome(answers[-1]) == (429, {"error": "rate_limited"})
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= within_seconds


def test_health_has_no_limit(service: Service) -> None:
    address = next(_addresses)

    assert {service.ask("GET", "/healthz", address).status_code for _ in range(70)} == {200}


@pytest.mark.parametrize("path", ROUTES)
def test_a_wrong_method_is_405_and_allow_says_which_are_right(service: Service, path: str) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - ROUTES[path]:
        answer = service.ask(method, path)
        assert outcome(answer) == (405, {"error": "method_not_allowed"})
        implied = {"OPTIONS"} | ({"HEAD"} if "GET" in ROUTES[path] else set())
        assert set(answer.headers["Allow"].split(", ")) == ROUTES[path] | implied


@pytest.mark.parametrize("path", ROUTES)
def test_options_says_the_methods_and_head_is_get_without_a_body(service: Service, path: str) -> None:
    options = service.ask("OPTIONS", path)

    assert options.status_code == 200
    assert ROUTES[path] <= set(options.headers["Allow"].split(", "))
    if "GET" in ROUTES[path]:
        head, get = service.ask("HEAD", path), service.ask("GET", path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["Content-Type"] == get.headers["Content-Type"]


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/notes/", "/api//notes", "/api/notes/1/likes", "/x"])
def test_what_is_no_endpoint_is_404_and_never_a_redirect(service: Service, path: str) -> None:
    assert outcome(service.ask("GET", path)) == (404, {"error": "not_found"})


@pytest.mark.parametrize("path", ["/api/notes", "/api/notes/4711471", "/api/health", "/api/nothing"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_an_allowed_origin_may_read_any_answer_and_a_foreign_one_none(
    service: Service, method: str, path: str
) -> None:
    ours = service.ask(method, path, headers={"Origin": ORIGIN})
    foreign = service.ask(method, path, headers={"Origin": "https://evil.example"})

    assert ours.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert not [name for name in foreign.headers if name.startswith("Access-Control-")]
    assert "Origin" in foreign.headers["Vary"]


def test_read_only_stops_writes_and_says_when_to_come_back(service: Service) -> None:
    note_id = service.write()["id"]
    service.slot.set_flags(P12_READ_ONLY="1")
    try:
        writes = ["/api/notes", *(f"/api/notes/{note_id}/{verb}" for verb in ("view", "like", "report"))]
        for answer in (service.ask("POST", path, json={"text": "a"}) for path in writes):
            assert outcome(answer) == (503, {"ok": False, "error": "read_only"})
            assert int(answer.headers["Retry-After"]) > 0
        assert service.ask("GET", f"/api/notes/{note_id}").status_code == 200
    finally:
        service.slot.set_flags()


def test_an_old_client_of_the_alias_is_told_when_it_is_switched_off(service: Service) -> None:
    note_id = service.write()["id"]
    service.slot.set_flags(P12_ENABLE_LEGACY_VIEW="0")
    try:
        assert outcome(service.ask("POST", f"/api/view?id={note_id}")) == (404, {"error": "not_found"})
    finally:
        service.slot.set_flags()
