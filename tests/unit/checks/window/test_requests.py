"""The request log in a window: unaccounted time is not watched, and what failed is named."""

from typing import Any

import pytest
from hypothesis import given

from checks.window.requests import Requests
from tests.unit.checks.window.test_cells import anything

CELL = [1795885010, "green", "GET /", "2xx", 4, 2, 3, {"7": 4}]
FAILED = [1795885010, "green", "GET /", "5xx", 1, 1, 1, {}]
SERVERS = {"green-1": {"slot": "green"}, "blue-1": {"slot": "blue"}}


def sample(*cells: Any, broken: tuple[str, ...] = (), failures: tuple[Any, ...] = ()) -> dict[str, Any]:
    found = {"cells": list(cells), "broken": list(broken), "failures": list(failures)}
    return {"servers": SERVERS, "requests": found}


def test_a_sample_of_before_there_was_a_request_log_breaks_nothing() -> None:
    assert Requests("green").add({}) == []


def test_what_the_reader_could_not_account_for_is_why_time_is_not_watched() -> None:
    assert Requests("green").add(sample(CELL)) == []
    assert Requests("green").add(sample(CELL, broken=("3 are missing",))) == ["3 are missing"]


def test_the_candidates_routes_and_first_failures_are_named() -> None:
    seen = Requests("green")
    first = [1795885010, "GET /", 500, "green-1", "some-id"]
    seen.add(sample(CELL, FAILED, [*FAILED[:1], "blue", *FAILED[2:]], failures=(first,)))
    seen.add(sample(failures=([1795885010, "GET /", 500, "blue-1", "other-id"],)))

    assert seen.failing() == (
        "failed about 1 visitor, by route: GET / 1 of 5; first: 16:56:50Z GET / 500 green-1 request=some-id"
    )


def test_an_answer_that_ended_in_the_middle_is_not_shown_as_a_success() -> None:
    seen = Requests("green")
    seen.add(sample(CELL, FAILED, failures=([1795885010, "GET /", 200, "green-1", "some-id"],)))

    assert seen.failing().endswith("first: 16:56:50Z GET / 200 cut off in the middle green-1 request=some-id")


def test_nothing_failed_names_nothing() -> None:
    seen = Requests("green")
    seen.add(sample(CELL))

    assert seen.failing() == ""


@pytest.mark.parametrize("cell", [None, [], CELL[:7], [*CELL[:4], 0, *CELL[5:]], ["x", *CELL[1:]]])
def test_a_cell_that_is_none_makes_the_sample_unreadable(cell: Any) -> None:
    assert Requests("green").add(sample(cell)) == ["the sample's requests cannot be read"]


@given(anything, anything, anything)
def test_whatever_a_kept_sample_holds_nothing_raises(one: Any, other: Any, third: Any) -> None:
    for found in (one, {"cells": [one], "failures": [other], "broken": third}, {"cells": one, "broken": [1]}):
        Requests("green").add({"requests": found, "servers": other})
    Requests("green").add(sample(CELL, failures=(one, other)))
