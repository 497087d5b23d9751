"""Break what a window guards, in samples of a real one that passed: it must never pass again."""

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checks.base.report import Verdict
from checks.window.judge import judge
from checks.window.limits import WindowLimits
from rollout.host.installed_servers import Servers
from rollout.steps.window import read_samples, samples_path
from tests.integration.rollout.steered import NEW, OLD, steered

Samples = list[dict[str, Any]]
CANDIDATES = ("green-1.local", "green-2.local")


@pytest.fixture(scope="module")
def passed(servers: Servers, scratch: Path) -> Iterator[tuple[WindowLimits, Samples]]:
    """The limits and the samples of a window at 25 % that passed on real requests."""
    with steered(servers, scratch / "gates", {"blue": 2, "green": 2}) as made:
        made.settings["steps"] = [25, 100]
        made.serve(OLD)
        made.offer(NEW)
        made.shift(NEW, 25)
        window = made.open()
        made.watch(12, 10, rounds=4)
        yield WindowLimits(**window.limits), read_samples(samples_path(made.target, window.id))


def verdict(limits: WindowLimits, samples: Samples) -> Verdict | None:
    return judge(limits, samples, "green", "blue").verdict


def later(samples: Samples) -> Samples:
    """The samples after the first one, which every counter starts from."""
    return samples[1:]


def servers_fail(samples: Samples) -> None:
    for number, sample in enumerate(later(samples), 1):
        for name in CANDIDATES:
            sample["servers"][name]["errors"] += 5 * number


def a_deadlock(samples: Samples) -> None:
    samples[-1]["instances"][CANDIDATES[0]]["deadlocks"] += 1


def an_instance_goes_down(samples: Samples) -> None:
    samples[-1]["servers"][CANDIDATES[0]]["up"] = False


def an_instance_is_down_for_one_sample(samples: Samples) -> None:
    samples[2]["servers"][CANDIDATES[0]]["up"] = False


def no_requests(samples: Samples) -> None:
    for sample in samples:
        for name in CANDIDATES:
            sample["servers"][name]["requests"] = 0


def no_requests_of_the_control(samples: Samples) -> None:
    for sample in samples:
        for server in sample["servers"].values():
            if server["slot"] == "blue":
                server["requests"] = 0


def requests_fall(samples: Samples) -> None:
    samples[2]["servers"][CANDIDATES[0]]["requests"] = 0


def counters_are_reset_halfway(samples: Samples) -> None:
    half = samples[2]
    for sample in samples[3:]:
        for name, server in sample["servers"].items():
            for counter in ("requests", "errors"):
                server[counter] = max(0, server[counter] - half["servers"][name][counter]) // 2


def deadlocks_fall(samples: Samples) -> None:
    for sample in samples[:2]:
        sample["instances"][CANDIDATES[0]]["deadlocks"] = 9


def a_process_starts_anew(samples: Samples) -> None:
    for sample in samples[2:]:
        sample["instances"][CANDIDATES[0]]["started"] += 5


def an_instance_is_never_scraped(samples: Samples) -> None:
    for sample in samples:
        del sample["instances"][CANDIDATES[0]]


def an_instance_is_not_scraped_at_the_end(samples: Samples) -> None:
    del samples[-1]["instances"][CANDIDATES[0]]


def the_balancer_forgets_an_instance(samples: Samples) -> None:
    del samples[-1]["servers"][CANDIDATES[0]]


def the_balancer_says_nothing(samples: Samples) -> None:
    for sample in later(samples):
        sample["servers"] = {}


def no_sample_after_the_first(samples: Samples) -> None:
    del samples[1:]


def no_sample_at_all(samples: Samples) -> None:
    samples.clear()


def a_sample_that_says_nothing(samples: Samples) -> None:
    samples[2].clear()


def a_hole_in_time(samples: Samples) -> None:
    for sample in samples[3:]:
        sample["at"] += 30


def time_stands_still(samples: Samples) -> None:
    for sample in samples:
        sample["at"] = samples[0]["at"]


def time_goes_back(samples: Samples) -> None:
    samples[-1]["at"] = samples[0]["at"] - 1


def the_same_sample_again_and_again(samples: Samples) -> None:
    samples[1:] = [copy.deepcopy(samples[0]) for _ in later(samples)]


def too_short(samples: Samples) -> None:
    del samples[-1]


def words_for_numbers(samples: Samples) -> None:
    samples[-1]["servers"][CANDIDATES[0]]["errors"] = "none"


def not_a_number(samples: Samples) -> None:
    samples[-1]["instances"][CANDIDATES[0]]["deadlocks"] = math.nan


def null_for_numbers(samples: Samples) -> None:
    for sample in samples:
        sample["instances"][CANDIDATES[0]]["deadlocks"] = None


def up_is_not_known(samples: Samples) -> None:
    samples[-1]["servers"][CANDIDATES[0]]["up"] = None


def the_latency_is_gone(samples: Samples) -> None:
    for sample in samples:
        del sample["instances"][CANDIDATES[0]]["latency"]


def the_old_slots_latency_is_gone(samples: Samples) -> None:
    for sample in samples:
        for name, scraped in sample["instances"].items():
            if name not in CANDIDATES:
                scraped["latency"] = {}


def the_latency_falls(samples: Samples) -> None:
    samples[-1]["instances"][CANDIDATES[0]]["latency"] = {}


def retries_fall(samples: Samples) -> None:
    samples[1]["instances"][CANDIDATES[0]]["retries"] = 9


def everything_was_limited(samples: Samples) -> None:
    for number, sample in enumerate(samples):
        for name in CANDIDATES:
            sample["instances"][name]["unjudged"] = 1000 * number


def memory_is_not_told(samples: Samples) -> None:
    for sample in samples:
        for name in CANDIDATES:
            sample["instances"][name].pop("resident_mb", None)


def memory_is_no_number(samples: Samples) -> None:
    for sample in samples:
        for name in CANDIDATES:
            sample["instances"][name]["resident_mb"] = math.nan


def nothing_happens_any_more(samples: Samples) -> None:
    first = samples[0]
    samples[:] = [{**copy.deepcopy(first), "at": first["at"] + 10 * number} for number in range(20)]


MUTATIONS: tuple[Callable[[Samples], None], ...] = (
    servers_fail,
    a_deadlock,
    an_instance_goes_down,
    an_instance_is_down_for_one_sample,
    no_requests,
    no_requests_of_the_control,
    requests_fall,
    counters_are_reset_halfway,
    deadlocks_fall,
    a_process_starts_anew,
    an_instance_is_never_scraped,
    an_instance_is_not_scraped_at_the_end,
    the_balancer_forgets_an_instance,
    the_balancer_says_nothing,
    no_sample_after_the_first,
    no_sample_at_all,
    a_sample_that_says_nothing,
    a_hole_in_time,
    time_stands_still,
    time_goes_back,
    the_same_sample_again_and_again,
    too_short,
    words_for_numbers,
    not_a_number,
    null_for_numbers,
    up_is_not_known,
    the_latency_is_gone,
    the_old_slots_latency_is_gone,
    the_latency_falls,
    retries_fall,
    everything_was_limited,
    memory_is_not_told,
    memory_is_no_number,
    nothing_happens_any_more,
)
FAILING = (servers_fail, a_deadlock, an_instance_goes_down, an_instance_is_down_for_one_sample)


def test_untouched_the_window_passes(passed: tuple[WindowLimits, Samples]) -> None:
    limits, samples = passed

    assert verdict(limits, samples) is Verdict.PASSED


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_broken_it_never_passes(
    passed: tuple[WindowLimits, Samples], mutation: Callable[[Samples], None]
) -> None:
    limits, samples = passed
    broken = copy.deepcopy(samples)

    mutation(broken)

    assert verdict(limits, broken) is not Verdict.PASSED


@pytest.mark.parametrize("mutation", FAILING, ids=lambda mutation: mutation.__name__)
def test_real_trouble_is_failed_not_merely_unknown(
    passed: tuple[WindowLimits, Samples], mutation: Callable[[Samples], None]
) -> None:
    limits, samples = passed
    broken = copy.deepcopy(samples)

    mutation(broken)

    assert verdict(limits, broken) is Verdict.FAILED


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("place", ["servers", "instances"])
def test_dropping_any_value_of_the_candidate_at_the_end_never_passes(
    passed: tuple[WindowLimits, Samples], place: str, name: str
) -> None:
    limits, samples = passed
    needed = {
        "servers": ("requests", "errors", "up"),
        "instances": ("deadlocks", "started", "busy", "unjudged", "retries", "latency"),
    }
    for value in needed[place]:
        broken = copy.deepcopy(samples)
        del broken[-1][place][name][value]
        assert verdict(limits, broken) is not Verdict.PASSED, value
