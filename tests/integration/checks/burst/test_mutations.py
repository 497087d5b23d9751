"""Break what a burst guards, in samples of a real one that passed: it must never pass again."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checks.base.report import Verdict, combine
from checks.burst import cli
from checks.burst.judge import judge
from checks.burst.limits import BurstLimits

Measured = dict[str, Any]


def verdict(measured: Measured) -> Verdict:
    return combine(finding.verdict for finding in judge(measured, BurstLimits()))


def a_deadlock(measured: Measured) -> None:
    measured["after"]["database"]["deadlocks"] += 1


def a_deadlock_that_a_retry_hid(measured: Measured) -> None:
    instance(measured, "after")["errors"]["40P01"] = 1.0


def a_deadlock_in_the_log(measured: Measured) -> None:
    measured["log"] = {"asked": True, "deadlocks": 1, "pairs": ["one waits for the other"]}


def lock_timeouts_without_end(measured: Measured) -> None:
    instance(measured, "after")["errors"]["55P03"] = 1000.0


def a_server_error(measured: Measured) -> None:
    measured["volleys"][0]["hits"][0][:3] = [500, 1.0, "unknown"]


def busy_answers(measured: Measured) -> None:
    for hit in measured["volleys"][0]["hits"]:
        hit[:3] = [503, 1.0, "unknown"]


def a_lost_view(measured: Measured) -> None:
    next(iter(measured["booked"]["view"].values()))["accepted"] += 1


def an_extra_view(measured: Measured) -> None:
    note = next(iter(measured["counted"].values()))
    note["views"] += 1
    note["logged"] += 1


def a_lost_like(measured: Measured) -> None:
    next(iter(measured["booked"]["like"].values()))["accepted"] += 1


def an_extra_report(measured: Measured) -> None:
    counter = next(iter(measured["tallied"]["report"].values()))
    counter[:] = [counter[0] + 1, counter[1] + 1]


def a_note_that_vanished(measured: Measured) -> None:
    next(iter(measured["counted"].values()))["views"] = None


def slow_answers(measured: Measured) -> None:
    for hit in measured["volleys"][0]["hits"]:
        hit[1] = 9_000.0


def too_many_connections(measured: Measured) -> None:
    measured["peaks"]["most"]["postgres_connections"] = 140


def no_rate_limit(measured: Measured) -> None:
    measured["limits"] |= {"statuses": [200] * 6, "passed": 6}


FAILING: tuple[Callable[[Measured], None], ...] = (
    a_deadlock,
    a_deadlock_that_a_retry_hid,
    a_deadlock_in_the_log,
    lock_timeouts_without_end,
    a_server_error,
    busy_answers,
    a_lost_view,
    an_extra_view,
    a_lost_like,
    an_extra_report,
    a_note_that_vanished,
    slow_answers,
    too_many_connections,
    no_rate_limit,
)


def no_volleys(measured: Measured) -> None:
    measured["volleys"] = []


def nothing_planned_and_nothing_fired(measured: Measured) -> None:
    measured["volleys"] = measured["planned"] = []


def the_last_salvos_are_cut_off(measured: Measured) -> None:
    del measured["volleys"][-1]


def a_hit_is_missing(measured: Measured) -> None:
    del measured["volleys"][0]["hits"][0]


def no_notes(measured: Measured) -> None:
    measured["booked"] = {kind: {} for kind in measured["booked"]}
    measured["counted"] = {}


def a_note_is_not_counted(measured: Measured) -> None:
    del measured["counted"][next(iter(measured["counted"]))]


def nothing_was_accepted(measured: Measured) -> None:
    for notes in measured["booked"].values():
        for views in notes.values():
            views.update(accepted=0, unknown=views["accepted"])


def a_queue_that_does_not_drain(measured: Measured) -> None:
    note = next(iter(measured["counted"].values()))
    note["views"] -= 1
    note["queued"] += 1


def reset_statistics(measured: Measured) -> None:
    measured["after"]["database"]["stats_reset"] = "just now"


def a_restarted_postgres(measured: Measured) -> None:
    measured["after"]["database"]["started"] = "just now"


def a_negative_delta(measured: Measured) -> None:
    measured["before"]["database"]["deadlocks"] += 1


def a_restarted_instance(measured: Measured) -> None:
    instance(measured, "after")["started"] += 1


def a_dead_instance(measured: Measured) -> None:
    url = measured["instances"][0]
    measured["after"]["instances"][url] = {"error": "timeout"}


def instances_that_were_forgotten(measured: Measured) -> None:
    measured["before"]["instances"] = measured["after"]["instances"] = {}


def an_instance_counts_backwards(measured: Measured) -> None:
    instance(measured, "before")["errors"]["40P01"] = 3.0


def a_probe_without_deadlocks(measured: Measured) -> None:
    for when in ("before", "after"):
        del instance(measured, when)["errors"]["40P01"]


def a_probe_without_lock_timeouts(measured: Measured) -> None:
    for when in ("before", "after"):
        del instance(measured, when)["errors"]["55P03"]


def a_probe_that_shows_only_its_start(measured: Measured) -> None:
    for when in ("before", "after"):
        instance(measured, when)["errors"] = {}


def a_dead_watcher(measured: Measured) -> None:
    measured["peaks"]["error"] = "Postgres went away"


def nobody_watched(measured: Measured) -> None:
    measured["peaks"] |= {"looks": 0, "most": {}}


def a_log_that_was_rotated(measured: Measured) -> None:
    measured["log"] = {"asked": True, "error": "it was rotated meanwhile"}


def a_clock_that_jumped(measured: Measured) -> None:
    measured["ended"]["wall"] += 3600


def a_clock_that_stood_still(measured: Measured) -> None:
    measured["ended"] = dict(measured["began"])


def not_one_moment(measured: Measured) -> None:
    measured["volleys"][0]["in_flight_peak"] = 3


def more_in_flight_than_sent(measured: Measured) -> None:
    measured["volleys"][0]["in_flight_peak"] = 3000


def limits_were_not_tried(measured: Measured) -> None:
    measured["limits"] |= {"statuses": [], "passed": 0}


def limits_answered_something_else(measured: Measured) -> None:
    measured["limits"] |= {"statuses": [500, 429], "passed": 1}


UNKNOWN: tuple[Callable[[Measured], None], ...] = (
    no_volleys,
    nothing_planned_and_nothing_fired,
    the_last_salvos_are_cut_off,
    a_hit_is_missing,
    no_notes,
    a_note_is_not_counted,
    nothing_was_accepted,
    a_queue_that_does_not_drain,
    reset_statistics,
    a_restarted_postgres,
    a_negative_delta,
    a_restarted_instance,
    a_dead_instance,
    instances_that_were_forgotten,
    an_instance_counts_backwards,
    a_probe_without_deadlocks,
    a_probe_without_lock_timeouts,
    a_probe_that_shows_only_its_start,
    a_dead_watcher,
    nobody_watched,
    a_log_that_was_rotated,
    a_clock_that_jumped,
    a_clock_that_stood_still,
    not_one_moment,
    more_in_flight_than_sent,
    limits_were_not_tried,
    limits_answered_something_else,
)


def instance(measured: Measured, when: str) -> dict[str, Any]:
    return dict.__getitem__(measured[when]["instances"], measured["instances"][0])


def test_untouched_the_burst_passes(fired: dict[str, Any]) -> None:
    assert verdict(fired["measured"]) is Verdict.PASSED


@pytest.mark.parametrize("mutation", FAILING, ids=lambda mutation: mutation.__name__)
def test_real_trouble_is_failed(fired: dict[str, Any], mutation: Callable[[Measured], None]) -> None:
    broken = copy.deepcopy(fired["measured"])

    mutation(broken)

    assert verdict(broken) is Verdict.FAILED


@pytest.mark.parametrize("mutation", UNKNOWN, ids=lambda mutation: mutation.__name__)
def test_what_nobody_saw_is_unknown(fired: dict[str, Any], mutation: Callable[[Measured], None]) -> None:
    broken = copy.deepcopy(fired["measured"])

    mutation(broken)

    assert verdict(broken) is Verdict.UNKNOWN


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in the measurements, of lists and of mappings with names of their own the first one."""
    if path:
        yield path
    if isinstance(value, dict):
        own = path[-1:] in [("view",), ("like",), ("report",), ("counted",), ("instances",), ("errors",)]
        for name in [*value][:1] if own else value:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


@pytest.mark.parametrize(
    "put",
    [None, math.nan, -1, 10**400, "words", {}, [], "nothing at all"],
    ids=lambda put: repr(put)[:20],
)
def test_no_value_can_be_missing_or_nonsense_anywhere(fired: dict[str, Any], put: Any) -> None:
    passed = []
    for path in places(fired["measured"]):
        broken = copy.deepcopy(fired["measured"])
        inside = broken
        for name in path[:-1]:
            inside = inside[name]
        if put == "nothing at all":
            del inside[path[-1]]
        elif inside[path[-1]] == put or (isinstance(inside[path[-1]], str) and isinstance(put, str)):
            continue
        else:
            inside[path[-1]] = put
        if verdict(broken) is Verdict.PASSED:
            passed.append((path, put))

    assert passed == [(path, put) for path, put in passed if may_be(path, put)]


def may_be(path: tuple[Any, ...], put: Any) -> bool:
    """Whether it is no hole: a release that nobody asked for, a lock nobody saw, a note without likes."""
    if path[0] == "tallied" and len(path) == 3:
        return True
    if path[-2:-1] == ("hits",) or path[-3:-1] == ("hits", 0):
        return path[-1] == 3 and put is None
    return path[-1] in ("blocked_locks", "max_client_conn")


def replayed(samples: Path) -> tuple[int, dict[str, Any]]:
    report = samples.with_name("report.json")
    status = cli.main(["--replay", str(samples), "--json", str(report)])
    return status, json.loads(report.read_text())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_unknown_and_no_stack_trace(
    fired: dict[str, Any], tmp_path: Path, share: float
) -> None:
    samples = tmp_path / "burst.json"
    whole = json.dumps(fired)
    samples.write_text(whole[: int(share * len(whole))])

    status, report = replayed(samples)

    assert (status, report["verdict"]) == (4, "unknown")
    assert "holds no kept burst" in report["summary"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"format": "p12 burst 1"}, "is 'p12 burst 1', and this kit reads 'p12 burst 2'"),
        ({"format": None}, "is None"),
        ({"inputs": {}}, "has no target"),
        ({"inputs": []}, "is damaged"),
        ({"measured": None}, "is damaged"),
        ({"measured": {}}, "has no began"),
    ],
)
def test_samples_of_another_version_or_kind_are_unknown_and_say_so(
    fired: dict[str, Any], tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    samples = tmp_path / "burst.json"
    samples.write_text(json.dumps(fired | changed))

    status, report = replayed(samples)

    assert status == 4
    assert words in report["summary"]


@pytest.mark.parametrize("text", ["[]", "null", "3", '"words"', "{}", "[" * 100_000])
def test_a_file_that_holds_something_else_is_unknown(tmp_path: Path, text: str) -> None:
    samples = tmp_path / "burst.json"
    samples.write_text(text)

    assert replayed(samples)[0] == 4
