"""A window is judged from its samples alone: it fails early, passes only at the end, and never on a gap."""

import copy
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks import kept
from checks.errors import Misused
from checks.judge import Judgement, Window, WindowLimits, judge
from checks.report import Verdict

LIMITS = WindowLimits(
    seconds=60, max_seconds=180, min_requests=300, max_error_ratio=0.01, scrape_gap_seconds=12
)
Sample = dict[str, Any]


def window(
    seconds: int = 60, every: int = 5, errors: float = 0, control_errors: float = 0, control: bool = True
) -> list[Sample]:
    """Samples of two slots with 100 requests and so many errors per slot and sample, counters at 1000."""

    def at(i: int) -> Sample:
        servers = {
            f"{slot}-1@app1": {"slot": slot, "requests": 1000 + 100 * i, "errors": int(bad * i), "up": True}
            for slot, bad in (("green", errors), ("blue", control_errors))
            if control or slot == "green"
        }
        instances = {name: {"started": 900.0, "deadlocks": 0, "busy": 0} for name in servers}
        return {"at": 1000.0 + every * i, "servers": servers, "instances": instances}

    return [at(i) for i in range(seconds // every + 1)]


def held(samples: list[Sample], control: str | None = "blue", limits: WindowLimits = LIMITS) -> Judgement:
    return judge(limits, samples, "green", control)


def names(judgement: Judgement, verdict: Verdict) -> set[str]:
    return {finding.name for finding in judgement.findings if finding.verdict is verdict}


def test_a_clean_window_passes_at_its_end_and_not_before() -> None:
    samples = window()

    assert held(samples[:-1]).verdict is None
    assert held(samples).verdict is Verdict.PASSED


def test_a_clean_window_without_a_control_passes_against_the_slo() -> None:
    assert held(window(control=False), control=None).verdict is Verdict.PASSED


def test_a_worse_candidate_fails_long_before_the_window_ends() -> None:
    judgement = held(window(errors=5, control_errors=0.2))

    assert judgement.verdict is Verdict.FAILED
    assert names(judgement, Verdict.FAILED) == {"errors_against_control_ln_e"}
    assert judgement.elapsed_seconds < 30


def test_errors_that_hit_both_arms_alike_do_not_fail_the_candidate() -> None:
    assert held(window(errors=4, control_errors=4)).verdict is Verdict.PASSED


def test_a_candidate_over_the_slo_fails_without_a_control() -> None:
    judgement = held(window(errors=5, control=False), control=None)

    assert names(judgement, Verdict.FAILED) == {"errors_against_slo_ln_e"}


def test_a_ratio_over_the_slo_that_proves_nothing_keeps_the_window_open_then_unknown() -> None:
    samples = window(seconds=180, control=False)
    for i, sample in enumerate(samples):
        sample["servers"]["green-1@app1"] |= {"errors": 5 if i > 10 else 0, "requests": 1000 + 10 * i}
    limits = WindowLimits(
        seconds=60, max_seconds=180, min_requests=100, max_error_ratio=0.01, scrape_gap_seconds=12
    )

    assert held(samples[:20], None, limits).verdict is None
    assert held(samples, None, limits).verdict is Verdict.UNKNOWN


def test_ten_errors_at_a_burning_rate_trip_the_breaker_even_when_the_control_fails_too() -> None:
    judgement = held(window(errors=40, control_errors=40)[:2])

    assert names(judgement, Verdict.FAILED) == {"burning_errors"}


def test_nine_errors_do_not_trip_the_breaker() -> None:
    samples = window()[:2]
    samples[1]["servers"]["green-1@app1"] |= {"requests": 1009, "errors": 9}

    assert "burning_errors" not in names(held(samples), Verdict.FAILED)


def test_errors_late_in_a_long_clean_window_still_trip_the_breaker() -> None:
    samples = window(seconds=55)
    last = copy.deepcopy(samples[-1])
    last["at"] += 1
    for name in last["servers"]:
        last["servers"][name]["requests"] += 200
        last["servers"][name]["errors"] += 190

    judgement = held([*samples, last])

    assert names(judgement, Verdict.FAILED) == {"burning_errors"}


def test_one_deadlock_of_the_candidate_fails_the_window_at_once() -> None:
    samples = window()
    samples[3]["instances"]["green-1@app1"]["deadlocks"] = 1

    judgement = held(samples)

    assert names(judgement, Verdict.FAILED) == {"deadlocks"}
    assert judgement.elapsed_seconds == 15


def test_a_deadlock_hidden_by_a_missing_scrape_is_counted_when_the_instance_is_seen_again() -> None:
    samples = window()
    del samples[3]["instances"]["green-1@app1"]
    for sample in samples[4:]:
        sample["instances"]["green-1@app1"]["deadlocks"] = 1

    assert names(held(samples), Verdict.FAILED) == {"deadlocks"}


def test_deadlocks_of_the_old_slot_do_not_fail_the_new_one() -> None:
    samples = window()
    for i, sample in enumerate(samples):
        sample["instances"]["blue-1@app1"]["deadlocks"] = i

    assert held(samples).verdict is Verdict.PASSED


def test_a_dead_candidate_instance_fails_and_a_dead_control_does_not() -> None:
    candidate, control = window(), window()
    candidate[2]["servers"]["green-1@app1"]["up"] = False
    control[2]["servers"]["blue-1@app1"]["up"] = False

    assert names(held(candidate), Verdict.FAILED) == {"dead_instances"}
    assert held(control).verdict is Verdict.PASSED


def test_more_busy_answers_than_the_control_fail() -> None:
    samples = window()
    for i, sample in enumerate(samples):
        sample["instances"]["green-1@app1"]["busy"] = 6 * i

    assert names(held(samples), Verdict.FAILED) == {"busy_against_control_ln_e"}


def test_more_slow_answers_than_the_control_fail_where_they_are_measured() -> None:
    samples = window()
    for i, sample in enumerate(samples):
        sample["instances"]["green-1@app1"] |= {"slow": 30 * i, "handled": 100 * i}
        sample["instances"]["blue-1@app1"] |= {"slow": 5 * i, "handled": 100 * i}

    assert names(held(samples), Verdict.FAILED) == {"slow_against_control_ln_e"}
    assert "slow_against_control_ln_e" not in names(held(window()), Verdict.PASSED)


def test_too_little_traffic_extends_the_window_and_ends_unknown() -> None:
    samples = window(seconds=180)
    for i, sample in enumerate(samples):
        sample["servers"]["green-1@app1"]["requests"] = 1000 + i

    assert held(samples[:20]).verdict is None
    assert held(samples).verdict is Verdict.UNKNOWN
    assert names(held(samples), Verdict.UNKNOWN) == {"requests"}


def test_a_control_without_traffic_proves_nothing() -> None:
    samples = window(seconds=180)
    for sample in samples:
        sample["servers"]["blue-1@app1"]["requests"] = 0

    assert held(samples).verdict is Verdict.UNKNOWN


def test_late_traffic_lets_an_extended_window_pass() -> None:
    samples = window(seconds=100)
    for i, sample in enumerate(samples):
        sample["servers"]["green-1@app1"]["requests"] = 1000 + (i if i < 15 else 100 * i)

    assert held(samples).verdict is Verdict.PASSED


def test_a_scrape_missed_once_is_watched_longer_and_then_passes() -> None:
    samples = window(seconds=75)
    samples[4]["instances"] = {}

    at_the_usual_end = held(samples[:13])

    assert at_the_usual_end.verdict is None
    assert at_the_usual_end.watched_seconds == 50
    assert held(samples).verdict is Verdict.PASSED


def test_a_candidate_that_started_anew_can_never_pass() -> None:
    samples = window(seconds=180)
    for sample in samples[5:]:
        sample["instances"]["green-1@app1"]["started"] = 1024.0

    judgement = held(samples)

    assert judgement.verdict is Verdict.UNKNOWN
    assert judgement.elapsed_seconds == 60
    assert "lost_counters" in names(judgement, Verdict.UNKNOWN)


def without(sample: Sample, part: str) -> None:
    sample[part] = {}


def not_a_number(sample: Sample, part: str, counter: str) -> None:
    sample[part]["green-1@app1"][counter] = math.nan


BREAKS: dict[str, Any] = {
    "nothing was scraped": lambda s: without(s, "instances"),
    "no server was seen": lambda s: without(s, "servers"),
    "the sample is empty": dict.clear,
    "requests are not a number": lambda s: not_a_number(s, "servers", "requests"),
    "errors are not a number": lambda s: not_a_number(s, "servers", "errors"),
    "deadlocks are not a number": lambda s: not_a_number(s, "instances", "deadlocks"),
    "busy is missing": lambda s: s["instances"]["green-1@app1"].pop("busy"),
    "started is missing": lambda s: s["instances"]["green-1@app1"].pop("started"),
    "nobody knows whether it is up": lambda s: s["servers"]["green-1@app1"].pop("up"),
    "requests are text": lambda s: s["servers"]["green-1@app1"].update(requests="100"),
    "requests are negative": lambda s: s["servers"]["green-1@app1"].update(requests=-1),
    "requests fell": lambda s: s["servers"]["green-1@app1"].update(requests=0),
    "the time is not a number": lambda s: s.update(at=math.nan),
    "the clock went back": lambda s: s.update(at=s["at"] - 10),
    "the clock went ahead": lambda s: s.update(at=s["at"] + 3600),
    "the control is not seen": lambda s: s["servers"].pop("blue-1@app1"),
    "another process answers": lambda s: s["instances"]["green-1@app1"].update(started=901.0),
    "the deadlock counter fell": lambda s: s["instances"]["green-1@app1"].update(deadlocks=-0.5),
}


@pytest.mark.parametrize("mutation", BREAKS)
@pytest.mark.parametrize("where", [1, 6, 12])
def test_a_broken_sample_never_lets_the_window_pass_on_time(mutation: str, where: int) -> None:
    samples = window()
    BREAKS[mutation](samples[where])

    assert held(samples).verdict is not Verdict.PASSED


@pytest.mark.parametrize("mutation", BREAKS)
def test_a_break_in_every_second_sample_ends_unknown_or_open_never_passed(mutation: str) -> None:
    samples = window(seconds=400)
    for sample in samples[2::2]:
        BREAKS[mutation](sample)

    assert held(samples).verdict in (Verdict.UNKNOWN, None)


def test_a_hole_between_samples_is_not_watched_time() -> None:
    samples = window()
    del samples[3:8]

    assert held(samples).verdict is None
    assert held(samples).watched_seconds == 30


def test_no_samples_are_an_open_window() -> None:
    assert held([]).verdict is None


def test_empty_samples_end_unknown() -> None:
    samples: list[Sample] = [{"at": 1000.0 + 5 * i, "servers": {}, "instances": {}} for i in range(60)]

    assert held(samples).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("wrong", [{"min_requests": 0}, {"seconds": 0}, {"max_seconds": 1}, {"alpha": 0}])
def test_limits_that_would_pass_on_nothing_are_refused(wrong: dict[str, Any]) -> None:
    right = {"seconds": 60, "max_seconds": 180, "min_requests": 300, "max_error_ratio": 0.01}

    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.* is not a window limit"):
        WindowLimits(**(right | wrong))


def test_a_candidate_is_not_judged_beside_itself() -> None:
    with pytest.raises(ValueError, match="two slots"):
        Window(LIMITS, "green", "green")


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda children: (
        st.lists(children, max_size=2) | st.dictionaries(st.text(max_size=3), children, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(where=st.integers(0, 12), data=st.data())
def test_nothing_that_stands_where_a_number_should_makes_the_judge_stumble(
    where: int, data: st.DataObject
) -> None:
    samples = window()
    part = data.draw(st.sampled_from(["at", "servers", "instances", "server", "instance"]))
    value = data.draw(anything)
    if part in ("at", "servers", "instances"):
        samples[where][part] = value
    else:
        field = data.draw(
            st.sampled_from(["requests", "errors", "up", "slot", "started", "deadlocks", "busy"])
        )
        samples[where][f"{part}s"]["green-1@app1"][field] = value

    judgement = held(samples)

    assert judgement.verdict in (None, *Verdict)
    json.dumps([str(finding) for finding in judgement.findings])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), rate=st.floats(0, 0.1))
def test_a_verdict_once_given_stays_and_a_window_judged_twice_says_the_same(seed: int, rate: float) -> None:
    samples = simulated(random.Random(seed), 120, rate, 0.005)
    live = Window(LIMITS, "green", "blue")

    told = [live.add(sample).verdict for sample in samples]

    decided = [verdict for verdict in told if verdict is not None]
    assert len(set(decided)) <= 1
    assert held(samples) == live.judgement
    assert held(json.loads(json.dumps(samples))) == live.judgement


def simulated(chance: random.Random, seconds: int, candidate: float, control: float) -> list[Sample]:
    """Two slots at a 20/80 share of 100 requests per second, sampled every 5 s, with these error ratios."""
    totals = {"green": [0, 0], "blue": [0, 0]}
    samples = []
    for at in range(0, seconds + 1, 5):
        servers = {
            f"{slot}-1@app1": {"slot": slot, "requests": n, "errors": k, "up": True}
            for slot, (n, k) in totals.items()
        }
        instances = {name: {"started": 1.0, "deadlocks": 0, "busy": 0} for name in servers}
        samples.append({"at": 1000.0 + at, "servers": servers, "instances": instances})
        for slot, mean, ratio in (("green", 100, candidate), ("blue", 400, control)):
            arrived = max(1, round(chance.gauss(mean, math.sqrt(mean))))
            totals[slot][0] += arrived
            totals[slot][1] += sum(chance.random() < ratio for _ in range(arrived))
    return samples


def test_healthy_windows_are_hardly_ever_failed_however_often_they_are_looked_at() -> None:
    chance = random.Random(7)

    failed = sum(held(simulated(chance, 60, 0.008, 0.008)).verdict is Verdict.FAILED for _ in range(200))

    assert failed <= 6  # the 99.9th percentile of a binomial of 200 at alpha 0.01


def test_a_candidate_ten_times_worse_is_found_in_nearly_every_window() -> None:
    chance = random.Random(11)

    failed = sum(held(simulated(chance, 60, 0.05, 0.005)).verdict is Verdict.FAILED for _ in range(40))

    assert failed >= 38


def test_the_slo_alone_hardly_ever_fails_a_candidate_that_just_meets_it() -> None:
    chance = random.Random(13)

    failed = sum(held(simulated(chance, 60, 0.01, 0.01), None).verdict is Verdict.FAILED for _ in range(200))

    assert failed <= 6


def test_a_kept_window_replays_to_the_same_verdict(tmp_path: Path) -> None:
    file = tmp_path / "window.jsonl"
    samples = window(errors=5)
    question = kept.Question("staging", "green", "blue", LIMITS)
    file.write_text("\n".join([question.to_line(), *map(kept.to_line, samples)]))

    report = kept.replay(file)

    assert report.verdict is Verdict.FAILED
    assert report.findings == held(samples).findings


def test_a_torn_line_in_a_kept_window_breaks_its_segment(tmp_path: Path) -> None:
    file = tmp_path / "window.jsonl"
    lines = [kept.to_line(sample) for sample in window()]
    lines[6] = lines[6][:40]
    question = kept.Question("staging", "green", "blue", LIMITS)
    file.write_text("\n".join([question.to_line(), *lines]))

    assert kept.replay(file).verdict is Verdict.UNKNOWN


def test_a_file_of_samples_alone_is_judged_by_what_the_command_line_asks(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text("\n".join(map(kept.to_line, window())))
    limits = json.dumps({"seconds": 60, "max_seconds": 90, "min_requests": 300, "max_error_ratio": 0.01})

    status = kept.main(
        ["--samples", str(file), "--candidate", "green", "--control", "blue", "--limits", limits]
    )

    assert status == 0


def test_limits_that_are_not_limits_are_a_usage_error_that_names_them(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_text("")

    with pytest.raises(Misused, match="min_requests"):
        kept.main(["--samples", str(file), "--candidate", "green", "--limits", '{"seconds": 60}'])


@pytest.mark.parametrize(
    ("errors", "status"), [(0, 0), (30, 3)], ids=["a clean window exits 0", "a failing one exits 3"]
)
def test_the_command_exits_as_the_verdict_says(tmp_path: Path, errors: int, status: int) -> None:
    file = tmp_path / "window.jsonl"
    question = kept.Question("staging", "green", "blue", LIMITS)
    file.write_text("\n".join([question.to_line(), *map(kept.to_line, window(errors=errors))]))

    done = subprocess.run(
        [sys.executable, "-m", "checks", "judge", "--samples", str(file), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == status, done.stderr
    assert json.loads(done.stdout)["check"] == "window"


def test_a_file_that_is_no_kept_window_is_unknown_without_a_stack_trace(tmp_path: Path) -> None:
    file = tmp_path / "window.jsonl"
    file.write_text("[]\n")

    done = subprocess.run(
        [sys.executable, "-m", "checks", "judge", "--samples", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 4
    assert "not a kept window" in done.stdout
    assert "Traceback" not in done.stderr


def test_importing_the_judge_imports_nothing_slow() -> None:
    slow = ["aiohttp", "asyncio", "psycopg2", "psutil", "subprocess", "ssl"]
    script = f"import sys, checks.judge; print([m for m in {slow!r} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
