"""The site's own signals: what is worse than before the release is held, what is not read is unknown."""

import random
from typing import Any

import pytest

from checks.base.report import OBSERVED, Finding, Verdict
from checks.window.judge import WindowJudge
from checks.window.limits import WindowLimits
from checks.window.signals import Signals, parse

WRITES = {"better": "higher", "tolerable": "30%"}
SIGNAL = {"name": "writes", "sql": "SELECT 1", **WRITES}


def watched(
    judged: dict[str, Any], now: float, before: float | None = 40.0, seed: int = 1, reads: int = 60
) -> Finding:
    chance = random.Random(seed)
    signals = Signals({"writes": judged}, 3600)
    past = [] if before is None else [chance.gauss(before, 4) for _ in range(60)]
    signals.add({"at": 1.0, "signals_before": {"writes": past}})
    for look in range(reads):
        at = 10.0 * look
        signals.add({"at": at, "signals": {"writes": {"at": at, "value": chance.gauss(now, 4)}}})
    (found,) = signals.findings()
    return found


def test_a_signal_that_is_as_before_passes() -> None:
    assert watched(WRITES, 40).verdict is Verdict.PASSED


def test_a_signal_that_fell_by_more_than_is_tolerable_is_held_with_its_numbers() -> None:
    found = watched(WRITES, 10)

    assert found.verdict is Verdict.HELD
    assert found.sentence.startswith("writes: 9.38 now, 40.4 ")
    assert "before the release (tolerable 30% less); evidence" in found.sentence


@pytest.mark.parametrize(
    ("judged", "now", "verdict"),
    [
        ({"better": "higher", "tolerable": "30%"}, 90, Verdict.PASSED),
        ({"better": "lower", "tolerable": "30%"}, 90, Verdict.HELD),
        ({"better": "lower", "tolerable": "100"}, 90, Verdict.PASSED),
        ({"better": "lower", "tolerable": "5"}, 90, Verdict.HELD),
    ],
)
def test_better_and_tolerable_are_the_sites_words(judged: Any, now: float, verdict: Verdict) -> None:
    assert watched(judged, now).verdict is verdict


def test_what_looks_worse_and_is_not_proven_is_unknown() -> None:
    found = watched(WRITES, 26, reads=8)

    assert found.verdict is Verdict.UNKNOWN
    assert "Looks worse, not yet proven" in found.hint


def test_no_data_is_unknown_with_the_reason() -> None:
    signals = Signals({"writes": WRITES}, 3600)
    signals.add({"at": 1.0, "signals_before": {"writes": [40.0] * 60}})

    def said(sample: Any) -> str:
        signals.add(sample)
        (found,) = signals.findings()
        assert found.verdict is Verdict.UNKNOWN
        return found.hint

    assert said({"at": 2.0}) == "writes: it was read 0 times in this window (limit >= 6)."
    assert said({"at": 3.0, "signals": {"writes": {"at": 3.0, "error": "no route"}}}) == "writes: no route."
    for at in range(4, 12):
        signals.add({"at": float(at), "signals": {"writes": {"at": float(at), "value": 40.0}}})
    assert said({"at": 100.0}) == "writes: its last reading is 89 s old (limit <= 30 s)."
    assert watched(WRITES, 40, before=None).hint == "It was read 0 times before the release (limit >= 6)."


def test_before_a_first_release_there_is_nothing_to_hold_it_against() -> None:
    signals = Signals({"writes": WRITES}, 3600, is_first=True)
    signals.add({"at": 1.0, "signals": {"writes": {"at": 1.0, "value": 3}}})

    assert signals.findings() == []


def test_a_signal_that_wanders_by_itself_is_held_in_at_most_one_window_of_a_hundred() -> None:
    held = 0
    for seed in range(200):
        chance, state = random.Random(seed), [0.0]

        def value(chance: random.Random = chance, state: list[float] = state) -> float:
            state[0] = 0.9 * state[0] + chance.gauss(0, 3)
            return 40 + state[0]

        signals = Signals({"writes": {"better": "higher", "tolerable": "20%"}}, 3600)
        signals.add({"at": 1.0, "signals_before": {"writes": [value() for _ in range(120)]}})
        for look in range(360):
            at = 10.0 * look
            signals.add({"at": at, "signals": {"writes": {"at": at, "value": value()}}})
        held += signals.findings()[0].verdict is Verdict.HELD

    assert held <= 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"better": "more"}, "better is 'more'. Use higher or lower"),
        ({"tolerable": "much"}, "tolerable is 'much'. Use a number such as 5, or a part such as 30%"),
        ({"tolerable": 0}, "tolerable is '0'"),
        ({"query": "up", "url": "http://a:9090"}, "it needs sql, or query and url, and not both"),
        ({"sql": ""}, "it needs sql, or query and url"),
        ({"sql": "", "query": "up"}, "query in PromQL and url of the Prometheus belong together"),
        ({"sql": "", "query": "up", "url": "ftp://me:secret@a"}, "its url is no address of a Prometheus"),
        ({"name": "a b"}, "its name is 'a b'"),
        ({"speed": 3}, "unknown field `speed`"),
    ],
)
def test_what_nobody_can_read_or_judge_by_is_refused_in_words(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match="p12_signals: ") as raised:
        parse([SIGNAL | given])

    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_name_is_used_once() -> None:
    with pytest.raises(ValueError, match="writes is there twice"):
        parse([SIGNAL, SIGNAL])


def judge(**limits: Any) -> WindowJudge:
    return WindowJudge(WindowLimits(60, 90, 1, 0.01, watch_database=False, **limits), "green", "blue")


def deadlocked(window: WindowJudge) -> list[Finding]:
    """Watch a candidate with a deadlock."""
    counters = {"busy": 0, "unjudged": 0, "retries": 0, "latency": {}}
    for look in range(2):
        instances = {
            f"{slot}-1": {"started": 1.0, "resident_mb": 80.0, **counters, "deadlocks": look}
            for slot in ("green", "blue")
        }
        servers = {
            f"{slot}-1": {"slot": slot, "requests": 10 * look, "errors": 0, "up": True}
            for slot in ("green", "blue")
        }
        window.add({"at": 5.0 * look, "servers": servers, "instances": instances})
    return [found for found in window.judgement.findings if found.name == "deadlocks"]


def test_what_is_observed_only_is_shown_and_decides_nothing() -> None:
    (found,) = deadlocked(judge())
    assert found.verdict is Verdict.FAILED

    (found,) = deadlocked(judge(observe=["deadlocks"]))

    assert found.verdict is Verdict.PASSED
    assert found.sentence == f"{OBSERVED}deadlocks 1 (limit <= 0)"


def test_a_signal_of_the_site_may_be_observed_only() -> None:
    window = judge(signals={"writes": WRITES | {"observe": True}})
    deadlocked(window)

    (found,) = [found for found in window.judgement.findings if found.name == "signal_writes"]

    assert found.verdict is Verdict.PASSED
    assert found.sentence.startswith(OBSERVED)


@pytest.mark.parametrize("name", ["watched_seconds", "requests", "deadlock", ""])
def test_that_there_was_enough_to_judge_by_is_never_observed_only(name: str) -> None:
    with pytest.raises(ValueError, match="observe="):
        judge(observe=[name])
