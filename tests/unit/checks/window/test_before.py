"""How it was before a release: from minutes that no release touched, and windows held against it."""

import dataclasses
import json
import random
from pathlib import Path

import pytest

from checks.base.report import Verdict
from checks.window import samples as kept
from checks.window.before import Before, before, times_before
from checks.window.judge import Judgement, WindowJudge
from checks.window.limits import WindowLimits
from checks.window.minutes import Minute, Minutes, read_minute
from checks.window.samples import Question
from tests import simulated_causes as causes
from tests.simulated_causes import Make, answers, fewer, slower, tail
from tests.simulated_minutes import BEGUN, known, minutes
from tests.simulated_requests import NEW, OLD, World, samples

LIMITS = WindowLimits(600, 1800, 100, 0.01, scrape_gap_seconds=15, watch_database=False, by_request=True)
HOUR_BEFORE = BEGUN - 3600


@pytest.fixture(scope="module")
def usual() -> Before:
    return known(days=2)


def judged(make: Make, usual: Before | None, control: str | None, share: int, seed: int = 1) -> Judgement:
    window = WindowJudge(LIMITS, NEW, control, share=share, before=usual)
    for sample in samples(seed, 1800, 600, share / 100, make(random.Random(seed), share / 100)):
        if control is None:
            del sample["servers"][OLD], sample["instances"][OLD]
        if window.add(sample).verdict is not None:
            break
    return window.judgement


def deciding(judgement: Judgement) -> str:
    return " ".join(f.name for f in judgement.findings if f.verdict is judgement.verdict)


# Minutes.


def test_a_minute_reads_back_as_it_was_written() -> None:
    minute = next(minutes(1, HOUR_BEFORE, 60, 600, World()))
    again = read_minute(minute.to_line().encode())

    assert again is not None
    assert (again.start, again.seconds, again.release) == (minute.start, minute.seconds, "aaaa")
    assert again.block.events == pytest.approx(minute.block.events)
    assert again.block.judged == pytest.approx(minute.block.judged)
    assert again.block.timed(OLD).mean == pytest.approx(minute.block.timed(OLD).mean)
    assert sum(again.block.buckets[OLD].values()) == sum(minute.block.buckets[OLD].values())


@pytest.mark.parametrize(
    "line",
    [
        *(b'{"minute": 17', b"\x00\x00", b"[]", b"3", b"{}"),
        b'{"minute": 1, "seconds": NaN, "release": "", "slots": {}}',
        b'{"minute": 1, "seconds": 60, "release": "", "slots": {"blue": {"events": {"failed": -1}}}}',
    ],
)
def test_a_line_that_is_none_is_no_minute(line: bytes) -> None:
    assert read_minute(line) is None


def fold(*looks: tuple[float, dict[str, object]], release: str = "aaaa") -> list[Minute]:
    folding = Minutes((OLD, NEW))
    return [over for at, found in looks if (over := folding.add(at, found, release))]


def look(n: int, broken: tuple[str, ...] = ()) -> dict[str, object]:
    cells = [[0, OLD, "GET /", "2xx", n, n, 1, {"50": n}]]
    return {"cells": cells, "clients": {OLD: n}, "broken": list(broken)}


def test_what_is_not_whole_is_left_out_and_not_counted_as_known_time() -> None:
    (minute,) = fold((60, look(9)), (70, look(5)), (80, look(7, ("3 are missing",))), (120, look(1)))

    assert minute.seconds == 10
    assert minute.block.judged[OLD, "GET /"] == 5


@pytest.mark.parametrize("jump", [-500.0, 5000.0])
def test_a_clock_that_jumps_loses_that_look_alone(jump: float) -> None:
    found = fold((60, look(9)), (70, look(5)), (70 + jump, look(7)), (80 + jump, look(6)), (2e5, look(1)))

    assert [minute.seconds for minute in found] == [10, 10]
    assert [minute.block.judged[OLD, "GET /"] for minute in found] == [5, 6]


def test_a_minute_in_which_something_was_begun_is_no_releases() -> None:
    folding = Minutes((OLD, NEW))
    folding.add(60, look(1), "aaaa")
    folding.add(70, look(1), "aaaa")
    folding.add(80, look(1), "")
    folding.add(90, look(1), "aaaa")

    assert folding.add(120, look(1), "aaaa").release == ""  # type: ignore[union-attr]


# What was usual.


def test_what_was_usual_is_what_was_there(usual: Before) -> None:
    assert usual.ratios["failed"] == pytest.approx(0.001, abs=0.0006)
    assert usual.ratios["not_found"] == pytest.approx(0.01, abs=0.003)
    assert usual.good_per_minute == pytest.approx(588, rel=0.05)
    assert (usual.minutes, usual.days) == (60, 2)
    assert len(usual.routes) == 5
    assert str(usual).startswith("60 min and 2 earlier days: 0.1")


def test_of_disturbed_minutes_nothing_is_known() -> None:
    disturbed = [dataclasses.replace(m, release="") for m in minutes(1, HOUR_BEFORE, 3600, 600, World())]

    assert before([disturbed]) == (
        None,
        (
            "of the hour before 0 undisturbed minutes with 0 requests are known"
            " (needed: 20 with 200), and 0 earlier days (or: 2)"
        ),
    )


def test_few_requests_tell_nothing() -> None:
    assert before([list(minutes(1, HOUR_BEFORE, 3600, 3, World()))])[0] is None


def test_a_storm_of_a_minute_is_not_usual() -> None:
    hour = list(minutes(1, HOUR_BEFORE, 3600, 600, World()))
    stormy = answers({"503": 0.5})(random.Random(1))
    hour[30:32] = minutes(
        1, HOUR_BEFORE + 1800, 120, 600, World(statuses=lambda m: stormy.statuses(m._replace(slot=NEW)))
    )

    found, _ = before([hour])

    assert found
    assert found.ratios.get("busy", 0.0) < 0.001


def test_what_every_day_has_at_this_hour_is_usual() -> None:
    calm = list(minutes(1, HOUR_BEFORE, 3600, 600, World()))
    nightly = World(statuses=lambda _: {"503": 0.02})
    days = [list(minutes(d, BEGUN - 86400 * d, 3600, 600, nightly)) for d in (1, 2, 3)]

    found, _ = before([calm, *days])

    assert found
    assert found.ratios["busy"] == pytest.approx(0.02, abs=0.004)


def test_days_of_another_release_tell_of_the_traffic_alone() -> None:
    hour = list(minutes(1, HOUR_BEFORE, 3600, 600, World()))
    worse = minutes(2, BEGUN - 86400, 3600, 300, World(statuses=lambda _: {"5xx": 0.05}))

    found, _ = before([hour, [dataclasses.replace(m, release="bbbb") for m in worse]])

    assert found
    assert found.days == 0
    assert found.ratios["failed"] < 0.003
    assert found.good_per_minute == pytest.approx(294, rel=0.1)


def test_the_times_that_count_are_all_before_the_release() -> None:
    times = list(times_before(BEGUN, BEGUN, 14))

    assert times[0] == (BEGUN - 3600, BEGUN)
    assert len(times) == 15
    assert all(begin < end <= BEGUN for begin, end in times)
    assert times[1] == (BEGUN - 86400, BEGUN - 86400 + 7200)


# Windows that have no control.


@pytest.mark.parametrize("name", causes.HEALTHY)
def test_alone_what_befalls_healthy_releases_fails_none(name: str, usual: Before) -> None:
    assert judged(causes.HEALTHY[name], usual, None, 100).verdict is not Verdict.FAILED


def test_alone_a_healthy_release_passes_on_a_proof(usual: Before) -> None:
    judgement = judged(causes.quiet, usual, None, 100)

    assert judgement.verdict is Verdict.PASSED
    said = " ".join(map(str, judgement.findings))
    assert "points above what was before the release (95 %" in said


ALONE: dict[str, tuple[Make, str]] = {
    "2 % errors": (answers({"5xx": 0.02}), "failed"),
    "404s": (answers({"404": 0.2}), "not_found"),
    "redirects": (answers({"3xx": 0.2}), "redirected"),
    "one route fails": (answers({"5xx": 1.0}, route=causes.RARE), "failed"),
    "one route is slow": (slower(3, route=causes.RARE), "slow_p90"),
    "a slow tail": (tail(0.05, 10), "slow_p9"),
    "ten times as slow": (slower(10), "latency"),
    "hardly anybody is answered": (fewer(0.03), "missing"),
    "half of all fail": (answers({"503": 0.5}), "suffers"),
}


@pytest.mark.parametrize("name", ALONE)
def test_alone_what_was_not_there_before_is_held_and_named(name: str, usual: Before) -> None:
    make, named = ALONE[name]

    judgement = judged(make, usual, None, 100)

    assert judgement.verdict is Verdict.HELD
    assert named in deciding(judgement) or "burning" in deciding(judgement)


def test_alone_where_nothing_was_known_before_counters_judge() -> None:
    judgement = judged(causes.quiet, None, None, 100)

    assert any(f.name.startswith("errors_against_slo") for f in judgement.findings)


# Windows that have one.


BOTH: dict[str, tuple[Make, str]] = {
    "404s": (answers({"404": 0.2}, both=True), "old_slot_not_found"),
    "redirects": (answers({"3xx": 0.1}, both=True), "old_slot_redirected"),
    "gone": (fewer(0.03, both=True), "old_slot_missing"),
    "one route fails": (answers({"5xx": 1.0}, route=causes.RARE, both=True), "old_slot_failed"),
    "slower": (slower(3, both=True), "old_slot_latency"),
}


@pytest.mark.parametrize("name", BOTH)
def test_harm_in_both_slots_that_was_not_there_before_is_held(name: str, usual: Before) -> None:
    make, named = BOTH[name]

    judgement = judged(make, usual, OLD, 25)

    assert judgement.verdict is Verdict.HELD
    assert named in deciding(judgement) or "shared" in deciding(judgement)


def test_harm_that_was_there_before_stops_nobody() -> None:
    failing = World(statuses=lambda _: {"404": 0.2})

    assert judged(lambda *_: failing, known(world=failing), OLD, 25).verdict is Verdict.PASSED


def test_a_new_slot_worse_than_before_never_passes_though_the_few_of_the_old_one_tell_nothing(
    usual: Before,
) -> None:
    judgement = judged(answers({"404": 0.1}, both=True), usual, OLD, 98)

    assert judgement.verdict in (Verdict.HELD, Verdict.UNKNOWN)


@pytest.mark.parametrize("name", causes.HEALTHY)
def test_beside_the_old_slot_what_befalls_healthy_releases_fails_none(name: str, usual: Before) -> None:
    assert judged(causes.HEALTHY[name], usual, OLD, 25, seed=2).verdict is not Verdict.FAILED


# Kept windows.


def test_a_kept_window_is_judged_again_with_what_was_known_before(usual: Before, tmp_path: Path) -> None:
    question = Question("production", NEW, None, LIMITS, share=100, before=usual)
    lines = [question.to_line()]
    judging = question.judge()
    for sample in samples(1, 1800, 600, 1.0, answers({"5xx": 0.02})(random.Random(1))):
        del sample["servers"][OLD], sample["instances"][OLD]
        lines.append(kept.to_line(sample))
        judging.add(sample)
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(lines) + "\n")

    report = kept.replay(path)

    assert judging.judgement.verdict is Verdict.HELD
    assert report.verdict is Verdict.HELD
    assert [f.name for f in report.findings] == [f.name for f in judging.judgement.findings]


def test_a_window_kept_before_there_was_a_baseline_is_read(tmp_path: Path) -> None:
    asked = json.loads(Question("production", NEW, OLD, LIMITS).to_line())
    del asked["before"], asked["before_unknown"]
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(asked) + "\n")

    assert kept.read(path)[0].before is None
