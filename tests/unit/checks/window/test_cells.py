"""Cells of the request log: lines are read or counted as unreadable, routes are few, quantiles are near."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.window.cells import (
    LONGEST_ROUTE,
    ROUTES,
    Cell,
    Cells,
    Line,
    bucket_of,
    fold,
    is_notice,
    is_visitors,
    merge,
    milliseconds_of,
    parse_line,
    quantile,
    read_cell,
    status_class,
)

SALT = b"salt"
SENT = (
    b"<134>1 2026-11-28T16:56:50.033346+00:00 - haproxy 19171 - [p12 7 1795885010 green-1.local 200 -- "
    b"+1 5 2 1 30 41 d116bd3c-a5eb-49a0-b25c-810d0b8301bb 192.0.2.7 GET /api/notes/12] and more"
)
NOTICE = b"<133>1 2026-11-28T16:56:50.033346+00:00 - haproxy 19171 - - Proxy front stopped."
SLOTS = {"green-1.local": "green", "blue-1.local": "blue"}


def line(**changes: Any) -> Line:
    read = parse_line(SENT, SALT)
    assert read is not None
    return read._replace(**changes)


def test_a_line_is_read() -> None:
    read = line()

    assert read[:9] == (19171, 7, 1795885010, "green-1.local", 200, "--", 1, True, 2)
    assert (read.connect_ms, read.response_ms, read.waited_ms) == (1, 30, 36)
    assert (read.id, read.method, read.path) == (
        "d116bd3c-a5eb-49a0-b25c-810d0b8301bb",
        "GET",
        "/api/notes/12",
    )


def test_an_address_is_in_nothing_that_is_read_and_another_process_hashes_it_otherwise() -> None:
    other = parse_line(SENT, b"other")

    assert b"192.0.2.7" not in line().client
    assert "192.0.2.7" not in repr(line())
    assert other is not None
    assert other.client != line().client


def test_what_haproxy_says_of_itself_is_no_request_and_no_unreadable_line() -> None:
    assert parse_line(NOTICE, SALT) is None
    assert is_notice(NOTICE)
    assert not is_notice(SENT)
    assert not is_notice(SENT.replace(b"19171 - [p12", b"19171 - [p13"))


@given(st.binary() | st.integers(0, len(SENT)).map(lambda end: SENT[:end]))
def test_any_bytes_are_a_line_or_none(sent: bytes) -> None:
    parse_line(sent, SALT)
    is_notice(sent)


@given(st.lists(st.binary(max_size=12), min_size=20, max_size=26))
def test_any_words_are_a_line_that_can_be_counted_or_none(words: list[bytes]) -> None:
    read = parse_line(b" ".join([*SENT.split(b" ", 7)[:7], *words]), SALT)
    cells = Cells(SLOTS)
    if read is not None:
        cells.add(read)
    assert all(read_cell(value) for value in cells.take()["cells"])


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/notes/12/view", "GET /api/notes/N/view"),
        ("/n-12", "GET /n-N"),
        ("/o/d116bd3c-a5eb-49a0-b25c-810d0b8301bb", "GET /o/N"),
        ("/c/9f8e7d6c5b4a", "GET /c/N"),
        ("/s/dGhlIHF1aWNrIGJyb3duIGZveA1", "GET /s/N"),
        ("/static/app.9f8e7d6c.css", "GET /static/app.N.css"),
        ("/api/notes", "GET /api/notes"),
        ("/facade/deadbeef", "GET /facade/deadbeef"),
        ("http://elsewhere/", "other"),
        ("-", "other"),
        ("/" + "long/" * 50, "other"),
    ],
)
def test_a_path_is_folded_to_its_route(path: str, route: str) -> None:
    assert fold("GET", path) == route


methods, statuses = st.sampled_from(["GET", "POST", "EVIL"]), st.sampled_from([200, 404, 500])


@given(st.lists(st.tuples(methods, st.text(), statuses)))
def test_routes_are_few_and_short(asked: list[tuple[str, str, int]]) -> None:
    cells = Cells(SLOTS)
    for number, (method, path, status) in enumerate(asked * 9):
        cells.add(line(method=method, path=f"/{'x' * (number % 90)}{path}", status=status))
    routes = {value[2] for value in cells.take()["cells"]}

    assert len(routes) <= ROUTES + 1
    assert all(len(route) <= LONGEST_ROUTE for route in routes)


def test_guesses_at_paths_make_no_routes_and_take_no_place() -> None:
    cells = Cells(SLOTS)
    for number in range(200):
        cells.add(line(path=f"/wp-{'x' * number}", status=404))
        cells.add(line(path=f"/admin{'x' * number}", status=503, server="<NOSRV>"))
    cells.add(line())

    assert {value[2] for value in cells.take()["cells"]} == {"other", "GET /api/notes/N"}


@pytest.mark.parametrize(
    "path", ["/internal", "/internal/ready", "/healthz", "/api/health", "/api/health/db"]
)
def test_what_nobody_visits_is_no_visitors_request(path: str) -> None:
    assert not is_visitors(line(path=path))
    assert is_visitors(line(path="/healthz/x"))


def test_who_went_away_before_asking_asked_nothing() -> None:
    assert not is_visitors(line(status=400, ended="CR", path="-"))
    assert not is_visitors(line(status=408, ended="cR", path="-"))
    assert is_visitors(line(status=400, ended="PR", path="-"))


@pytest.mark.parametrize(
    ("status", "ended", "found"),
    [
        *((200, "--", "2xx"), (201, "CD", "2xx"), (302, "--", "3xx"), (404, "--", "404"), (429, "--", "429")),
        *((400, "PR", "4xx"), (503, "sQ", "503"), (500, "--", "5xx"), (502, "SH", "5xx")),
        *((503, "CQ", "cut"), (-1, "CH", "cut"), (503, "CC", "cut"), (200, "SD", "5xx")),
    ],
)
def test_a_status_has_its_class(status: int, ended: str, found: str) -> None:
    assert status_class(status, ended) == found


def test_requests_of_a_second_a_slot_a_route_and_a_class_are_one_cell() -> None:
    cells = Cells(SLOTS)
    for client in (b"a", b"a", b"b"):
        cells.add(line(client=client, waited_ms=30))
    cells.add(line(client=b"a", status=500, id="first"))
    cells.add(line(client=b"c", server="<NOSRV>", status=503, waited_ms=-1))

    taken = cells.take()

    route, second = "GET /api/notes/N", 1795885010
    assert taken["cells"] == [
        [second, "", route, "503", 1, 1, 1, {}],
        [second, "green", route, "2xx", 3, 2, 2, {str(bucket_of(30)): 3}],
        [second, "green", route, "5xx", 1, 1, 1, {str(bucket_of(36)): 1}],
    ]
    assert taken["clients"] == {"": 1, "green": 2}
    assert taken["failures"] == [
        [second, route, 500, "green-1.local", "first"],
        [second, route, 503, "<NOSRV>", line().id],
    ]
    assert list(taken["marks"]) == ["0", "2"]
    assert cells.take() == {"cells": [], "clients": {}, "failures": [], "marks": {}}


@given(st.lists(st.integers(0, 10**7), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_within_two_percent(times: list[int], part: float) -> None:
    latency: dict[int, int] = {}
    for time in times:
        latency[bucket_of(time)] = latency.get(bucket_of(time), 0) + 1
    exact = sorted(times)[max(1, math.ceil(part * len(times))) - 1]

    found = quantile(latency, part)

    assert found is not None
    assert abs(found - exact) <= 0.02 * exact


def test_no_requests_have_no_quantile() -> None:
    assert quantile({}, 0.5) is None


def test_a_bucket_stands_for_a_time_in_it() -> None:
    assert all(bucket_of(milliseconds_of(bucket)) == bucket for bucket in range(1, 400))


cells_of_one_route = st.builds(
    lambda second, counts, latency: Cell(
        second, "blue", "GET /", "2xx", sum(counts) + sum(latency.values()), len(counts), max(counts), latency
    ),
    st.integers(0, 10**10),
    st.lists(st.integers(1, 50), min_size=1),
    st.dictionaries(st.integers(-1, 400), st.integers(1, 50)),
)


@given(cells_of_one_route, cells_of_one_route, cells_of_one_route)
def test_merging_is_associative_and_loses_no_request(a: Cell, b: Cell, c: Cell) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, b) == merge(b, a)
    merged = merge(a, b)
    assert merged.requests == a.requests + b.requests
    assert sum(merged.latency.values()) == sum(a.latency.values()) + sum(b.latency.values())
    assert read_cell([*merged[:7], {str(k): v for k, v in merged.latency.items()}]) == merged


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(anything)
def test_any_value_is_a_cell_or_none(value: Any) -> None:
    read_cell(value)
