"""Trying again launders nothing: a window begins with what the windows before it of the same release saw."""

import json
from typing import Any

import pytest

from checks.base.report import Verdict
from checks.window.by_request import ByRequest
from checks.window.carried import Carried
from checks.window.limits import WindowLimits
from tests.simulated_requests import NEW, OLD

LIMITS = WindowLimits(12, 120, 5, 0.01, by_request=True, tolerable_errors=0.08, tolerable_slow=0.3)
ROUTE = "GET /api/notes/N"


def watched(share: int, errors: int, requests: int, earlier: dict[str, Any] | None = None) -> ByRequest:
    """Twelve seconds of so many requests of the new slot, of which so many failed, beside a sound old one."""
    judging = ByRequest(LIMITS, NEW, OLD, share, carried=earlier)
    old = max(round(requests * (100 - share) / share), 12)
    for second in range(12):
        cells: list[list[Any]] = []
        marks: dict[str, list[int]] = {}
        for slot, n, k in ((NEW, part(requests, second), part(errors, second)), (OLD, part(old, second), 0)):
            if k:
                marks[str(len(cells))] = [100 * share + 5 * second + i for i in range(k)]
                cells.append([second, slot, ROUTE, "5xx", k, k, 1, {}])
            cells += [[second, slot, ROUTE, "2xx", n - k, n - k, 1, {50: n - k}]] if n - k else []
        judging.add(second + 1, 1, {"cells": cells, "marks": marks, "clients": {NEW: 9, OLD: 9}})
    return judging


def part(whole: int, second: int) -> int:
    return (second + 1) * whole // 12 - second * whole // 12


def errors_proven(judging: ByRequest) -> Verdict:
    return next(f.verdict for f in judging.findings(True) if f.name == "errors_at_most_ratio")


def test_a_route_that_fails_now_and_then_is_not_good_because_the_last_look_saw_none() -> None:
    """Two of 8 failed, then 4 of 22, then 7 of 61; a new window of twelve seconds sees none of 160."""
    carried: dict[str, Any] | None = None
    for share, errors, requests in ((5, 2, 8), (25, 4, 22), (50, 7, 61)):
        carried = json.loads(json.dumps(watched(share, errors, requests, carried).carried()))
    again = watched(50, 0, 160, carried)

    assert errors_proven(watched(50, 0, 160)) is Verdict.PASSED
    assert errors_proven(again) is Verdict.UNKNOWN
    (said,) = [str(f) for f in again.findings(True) if f.name == "failed_against_control_ln_e"]
    assert "new 13 of 251" in said


def test_what_lies_above_the_tolerable_is_handed_on_in_words() -> None:
    assert any("errors at most" in words for words in watched(50, 20, 60).carried()["above"])
    assert watched(50, 0, 60).carried()["above"] == []


def test_evidence_of_harm_is_handed_on_and_evidence_of_health_is_no_hole_to_climb_out_of() -> None:
    suspicious = watched(50, 4, 60)
    healthy = watched(50, 0, 60).carried()

    after_harm = watched(50, 2, 60, suspicious.carried()).evidence.log_e("failed")[0]
    assert after_harm > watched(50, 2, 60).evidence.log_e("failed")[0] + 1
    after_health = watched(50, 2, 60, healthy).evidence.log_e("failed")[0]
    assert after_health >= watched(50, 2, 60).evidence.log_e("failed")[0] - 0.7


def test_a_window_knows_from_its_first_second_what_is_slow_where_one_before_it_learned_that() -> None:
    """A twentieth of the answers of a small old slot tell in seconds only what was known before."""
    known = watched(25, 0, 60).carried()

    assert timed(watched(80, 0, 60)) == 0
    assert timed(watched(80, 0, 60, known)) - known["sums"][4] == 60


def timed(judging: ByRequest) -> float:
    """The new slot's answers that were held against what is slow."""
    return judging.evidence.passing.sums[4]


def test_what_an_older_kit_handed_on_is_read() -> None:
    older = watched(50, 4, 60).carried()
    for name in ("tails", "warm", "usual"):
        del older[name]

    assert not Carried.read(older).tails


def test_handed_on_twice_it_is_what_it_was() -> None:
    carried = watched(50, 4, 60).carried()

    assert Carried.read(json.loads(json.dumps(carried))).to_dict() == carried


@pytest.mark.parametrize(
    "damaged",
    [
        {"streams": []},
        {"streams": [[1]], "sums": [0] * 12, "above": []},
        {"streams": [], "sums": [0], "above": []},
        {"streams": [["failed", "", 1e9, 0, 0, 0, 0]], "sums": [0] * 12, "above": []},
        {"streams": [["failed", "", 0, -1, 0, 0, 0]], "sums": [0] * 12, "above": []},
        {"streams": [], "sums": [0] * 12, "above": [], "tails": [["slow_p95", "", 1.5, 10]]},
    ],
)
def test_what_is_damaged_is_refused(damaged: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="windows before"):
        Carried.read(damaged)
