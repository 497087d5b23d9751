"""The small parts that the checks measure with: evidence, power, latency, pace, secrets, metrics."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.flags import Arm
from checks.backup.digest import schema_sha256
from checks.base import bounds
from checks.base import secrets as environment
from checks.base.errors import Misused
from checks.base.report import Finding, Report, Verdict
from checks.burst import deadlock_counts
from checks.visitors import limit_pass
from checks.visitors.histogram import Latencies
from checks.visitors.ledger import NOTES_KEPT, Ledger
from checks.visitors.pacer import Pacer
from checks.window.eprocess import AgainstControl, AgainstRatio


def test_the_evidence_of_a_hand_calculated_block() -> None:
    test = AgainstControl(harm=(3.0,))

    test.add(100, 4, 300, 1)

    share, worse = 100 / 400, 300 / 600
    expected = 4 * math.log(worse / share) + 1 * math.log((1 - worse) / (1 - share))
    assert test.log_e == pytest.approx(expected)


def test_counts_of_one_arm_wait_for_the_other() -> None:
    waiting, at_once = AgainstControl(), AgainstControl()

    assert not waiting.add(50, 3, 0, 0)
    assert waiting.log_e == 0
    assert waiting.add(0, 0, 50, 0)
    at_once.add(50, 3, 50, 0)

    assert waiting.log_e == at_once.log_e > 0


def test_no_events_are_no_evidence_against_anyone() -> None:
    test = AgainstControl()

    test.add(1000, 0, 1000, 0)

    assert test.log_e == 0


@given(st.lists(st.tuples(*[st.integers(0, 10**9)] * 4), max_size=20))
def test_evidence_is_always_a_number(blocks: list[tuple[int, int, int, int]]) -> None:
    test, alone = AgainstControl(), AgainstRatio(0.01)

    for block in blocks:
        test.add(*block)
        alone.add(*block[:2])

    assert math.isfinite(test.log_e)
    assert math.isfinite(alone.log_e)


@pytest.mark.parametrize("allowed", [0.001, 0.01, 0.5, 0.99])
def test_evidence_against_a_ratio_is_a_fair_bet_when_the_ratio_is_just_met(allowed: float) -> None:
    test_of_one = {event: AgainstRatio(allowed) for event in (0, 1)}
    for event, test in test_of_one.items():
        test.add(1, event)

    expected = sum(
        chance * math.exp(test_of_one[event].log_e) for event, chance in ((0, 1 - allowed), (1, allowed))
    )

    assert expected == pytest.approx(1)


@pytest.mark.parametrize(
    ("failed", "requests", "bound"),
    # Clopper and Pearson, one-sided 95 %: 0/300 is the rule of three; the others from tables.
    [(0, 300, 0.00994), (0, 1, 0.95), (1, 100, 0.0466), (5, 100, 0.1023), (3, 3, 1.0), (0, 0, 1.0)],
)
def test_what_clean_requests_prove(failed: int, requests: int, bound: float) -> None:
    assert bounds.upper_bound(failed, requests) == pytest.approx(bound, abs=2e-4)


def test_power_names_what_was_shown_and_the_count_that_would_show_the_wanted_limit() -> None:
    said = bounds.in_words(0, 300, 0.001)

    assert said.startswith("300 requests can only show < 0.99 % errors (95% sure)")
    assert said.endswith("2995 clean ones would show < 0.1 %")
    assert bounds.upper_bound(0, bounds.clean_requests(0.001)) < 0.001
    assert bounds.upper_bound(0, bounds.clean_requests(0.001) - 1) >= 0.001


def test_percentiles_are_at_most_five_percent_too_high() -> None:
    chance = random.Random(3)
    taken = sorted(chance.lognormvariate(3, 1) for _ in range(5000))
    latencies = Latencies()
    for milliseconds in taken:
        latencies.add(milliseconds)

    for share in (0.5, 0.95, 0.99):
        exact = taken[int(share * len(taken)) - 1]
        assert exact <= (latencies.percentile(share) or 0) * 1.001 <= exact * 1.06
    assert latencies.summary()["max"] == round(taken[-1], 2)


def test_no_latency_is_none_and_not_zero() -> None:
    assert set(Latencies().summary().values()) == {None}


def test_latencies_survive_their_file() -> None:
    latencies = Latencies()
    for milliseconds in (0.0, 1.5, 2000.0):
        latencies.add(milliseconds)

    assert Latencies.from_dict(latencies.to_dict(), latencies.max_ms) == latencies


class Time:
    """A clock that only sleeping advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def paced(time: Time, seconds: float, busy: Callable[[], Awaitable[None]]) -> list[float]:
    async def run() -> list[float]:
        moments = []
        async for due in Pacer(10, time.clock, time.sleep).due(asyncio.Event(), seconds):
            moments.append(round(due - 100, 6))
            await busy()
        return moments

    return asyncio.run(run())


def test_the_pacer_keeps_its_rate() -> None:
    async def idle() -> None:
        return

    assert paced(Time(), 1, idle) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_a_pacer_held_up_catches_up_and_still_says_when_each_was_due() -> None:
    time = Time()

    async def slow() -> None:
        time.now += 0.35

    assert paced(time, 1, slow) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_a_stopped_pacer_stops() -> None:
    async def run() -> int:
        stop, sent = asyncio.Event(), 0
        async for _ in Pacer(1000).due(stop):
            sent += 1
            if sent == 3:
                stop.set()
        return sent

    assert asyncio.run(run()) == 3


def test_a_pass_is_signed_anew_before_it_expires() -> None:
    shown = limit_pass.Pass("secret", "staging")

    first = shown.header(1000)
    same = shown.header(1059)
    later = shown.header(1061)
    before = shown.header(500)

    assert first == same
    assert [header.split(".")[0] for header in (first, later, before)] == ["1540", "1601", "1040"]
    assert "secret" not in repr(shown)


def test_a_ledger_stays_small_enough_to_be_written_every_second() -> None:
    book = Ledger(started=0)

    for number in range(NOTES_KEPT + 10):
        book.note_created(str(number))

    assert len(book.notes) == NOTES_KEPT
    assert [*book.notes][-1] == str(NOTES_KEPT + 9)


def test_a_view_is_unknown_from_before_it_is_sent_until_it_is_answered() -> None:
    book = Ledger(started=0)
    book.note_created("1")

    book.view_sent("1")
    on_its_way = dict(book.to_dict(0, stopped=False)["notes"]["1"])
    book.view_accepted("1")

    assert on_its_way == {"accepted": 0, "unknown": 1}
    assert book.to_dict(0, stopped=True)["notes"]["1"] == {"accepted": 1, "unknown": 0}


def test_a_secret_file_is_read_as_a_shell_would(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# said 'so'\nA='with space'\nB=plain\nexport C='c'\n\n")
    file.chmod(0o600)

    assert environment.read(file) == {"A": "with space", "B": "plain", "C": "c"}


def test_a_secret_that_is_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P12_REHEARSAL_SECRET", raising=False)
    file = tmp_path / "env"
    file.touch(mode=0o600)

    with pytest.raises(Misused, match=r"neither in .* nor exported"):
        environment.secret("P12_REHEARSAL_SECRET", file)
    with pytest.raises(Misused, match="cannot be read"):
        environment.secret("P12_REHEARSAL_SECRET", tmp_path / "absent")


STARTED = "p12_process_start_time_seconds 5.0e0\n"
DEADLOCKED = 'p12_db_errors_total{sqlstate="40P01",x="}"} 3 17\n'


def test_metrics_hold_the_sqlstates_that_have_a_series_and_without_a_start_are_none() -> None:
    assert deadlock_counts.parse(STARTED) == {"started": 5.0, "errors": {}}
    assert deadlock_counts.parse(STARTED + DEADLOCKED)["errors"] == {"40P01": 3.0}
    assert "error" in deadlock_counts.parse("<html>")


def test_a_sqlstate_is_added_up_over_whatever_else_tells_its_series_apart() -> None:
    series = "".join(f'p12_db_errors_total{{sqlstate="40P01",arm="{arm}"}} 2\n' for arm in Arm)

    found = deadlock_counts.parse(f"p12_process_start_time_seconds 5\n{series}")

    assert found["errors"] == {"40P01": 2 * len(Arm)}


@pytest.mark.parametrize(
    ("before", "after"),
    [(STARTED, STARTED), (STARTED, STARTED + DEADLOCKED), (STARTED + DEADLOCKED, STARTED)],
    ids=["never", "only after", "only before"],
)
def test_metrics_without_a_sqlstate_s_series_do_not_say_that_it_was_never_raised(
    before: str, after: str
) -> None:
    scraped = [{"http://a": deadlock_counts.parse(text)} for text in (before, after)]

    number, why = deadlock_counts.raised_between(*scraped, "40P01")

    assert number is None
    assert why == 'http://a: /internal/metrics has no p12_db_errors_total{sqlstate="40P01"}.'


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({}, "not scraped again"),
        ({"a": {"error": "timeout"}}, "timeout"),
        ({"a": {"started": 2.0, "errors": {}}}, "restarted"),
        ({"a": {"started": 1.0, "errors": {"40P01": 0.0}}}, "fell"),
        ({"a": {"started": 1.0, "errors": {"40P01": math.nan}}}, "fell"),
    ],
)
def test_what_an_instance_forgot_is_unknown(after: dict[str, dict[str, object]], words: str) -> None:
    before = {"a": {"started": 1.0, "errors": {"40P01": 1.0}}}

    number, why = deadlock_counts.raised_between(before, after, "40P01")

    assert number is None
    assert words in why


def test_what_a_dump_writes_anew_each_time_is_not_part_of_the_schema() -> None:
    one = "-- Dumped by pg_dump version 15.14\n\\restrict abc\nCREATE TABLE notes ();\n\\unrestrict abc\n"
    two = "-- Dumped by pg_dump version 15.15\n\\restrict xyz\nCREATE TABLE notes ();\n\n\\unrestrict xyz\n"

    assert schema_sha256(one) == schema_sha256(two) != schema_sha256(one.replace("notes", "other"))


def test_facts_stand_beside_the_fields_of_a_report_and_never_replace_one() -> None:
    found = (Finding("a", 1, "==", 1, Verdict.PASSED),)

    shown = Report("c", "t", found, 0, 1, facts={"id": "x", "verdict": "failed"}).to_dict()

    assert (shown["id"], shown["verdict"]) == ("x", Verdict.PASSED)
