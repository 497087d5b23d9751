"""What a window takes from an instance: from the service's own exposition, and from broken ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.flags import Arm
from app.metrics import Metrics
from app.release import Release
from app.settings import load_settings
from app.worker_errors import WorkerErrors
from checks.window.baseline import Threshold, quantile_edge, timed
from checks.window.metrics import scrape

VIEW = "/api/notes/{id}/view"


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    made = Metrics(load_settings({"DATABASE_URL": "postgresql://u@h/d"}), Release("b" * 40))
    yield made
    made.close()


def scraped(metrics: Metrics) -> dict[str, object]:
    found = scrape(metrics.exposition().decode())
    assert found is not None
    return dict(found)


def test_a_service_that_has_answered_nothing_shows_its_counters_and_no_latency(metrics: Metrics) -> None:
    found = scraped(metrics)

    assert {found[name] for name in ("deadlocks", "busy", "unjudged", "retries")} == {0}
    assert "latency" not in found
    assert 20 < float(str(found["resident_mb"])) < 1000


def test_what_may_leak_is_told_with_what_the_process_may_have(metrics: Metrics) -> None:
    assert "connections" not in scraped(metrics)
    metrics.connections_in_use = lambda: 3

    found = scraped(metrics)

    assert (found["connections"], found["connections_limit"]) == (3, 16)
    assert 3 < float(str(found["open_files"])) < float(str(found["open_files_limit"]))


def test_what_visitors_asked_is_counted_and_timed_over_all_routes(metrics: Metrics) -> None:
    for status, seconds in ((200, 0.0101), (200, 0.0101), (500, 0.3), (503, 40.0)):
        metrics.count_request(VIEW, "POST", status, seconds)
    metrics.count_request("/api/notes", "GET", 200, 0.0101)

    found = scraped(metrics)

    assert found["busy"] == 1
    assert found["latency"] == {"0.0107": 3, "0.3418": 1, "+Inf": 1}
    assert timed(found["latency"], 0.0107) == (5, 2)


def test_limited_requests_are_counted_apart_and_not_timed(metrics: Metrics) -> None:
    metrics.count_request(VIEW, "POST", 429, 0.01)

    found = scraped(metrics)

    assert found["unjudged"] == 1
    assert found.get("latency", {}) == {}


def test_a_view_is_one_request_whichever_way_it_was_counted(metrics: Metrics) -> None:
    for arm in Arm:
        metrics.count_view(arm)
        metrics.time_view(arm, 0.3)
        metrics.count_request(VIEW, "POST", 200, 0.0101)

    assert scraped(metrics)["latency"] == {"0.0107": len(Arm)}


@pytest.mark.parametrize("route", ["/internal/metrics", "/internal/ready", "/healthz", "/api/health/db"])
def test_scrapes_and_health_checks_are_no_visitors(metrics: Metrics, route: str) -> None:
    metrics.count_request(route, "GET", 503, 0.01)

    found = scraped(metrics)

    assert (found["busy"], found["unjudged"], found.get("latency", {})) == (0, 0, {})


def test_health_checks_that_the_balancer_forwarded_are_known_so_that_nobody_judges_by_them(
    metrics: Metrics,
) -> None:
    metrics.count_request("/healthz", "GET", 200, 0.01)
    metrics.count_request("/api/health/db", "GET", 200, 0.01)
    metrics.count_request("/healthz", "GET", 503, 0.01)

    assert scraped(metrics)["unjudged"] == 2


def test_retries_are_told_apart_by_their_sqlstate(metrics: Metrics) -> None:
    for state in ("55P03", "55P03", "40001"):
        metrics.count_retry(state)
    metrics.count_error("40P01")

    found = scraped(metrics)

    assert (found["retries"], found["deadlocks"]) == (3, 1)
    assert found["retried"] == {"40P01": 0, "40001": 1, "55P03": 2}


def test_a_deadlock_of_the_worker_beside_it_is_told_by_an_instance(tmp_path: Path) -> None:
    flags_file = str(tmp_path / "flags.json")
    WorkerErrors(flags_file).add("40P01")
    given = {"DATABASE_URL": "postgresql://u@h/d", "P12_FLAGS_FILE": flags_file}
    made = Metrics(load_settings(given), Release("b" * 40))
    try:
        assert scraped(made)["deadlocks"] == 1
    finally:
        made.close()


@pytest.mark.parametrize("gone", ["p12_process_start_time_seconds", "p12_db_errors", "p12_db_retries"])
def test_without_a_counter_that_is_there_from_the_start_nothing_is_known(metrics: Metrics, gone: str) -> None:
    text = "\n".join(line for line in metrics.exposition().decode().splitlines() if gone not in line)

    assert scrape(text) is None


def test_a_histogram_that_falls_is_none(metrics: Metrics) -> None:
    metrics.count_request(VIEW, "POST", 200, 0.01)
    text = metrics.exposition().decode().replace('le="+Inf"', 'le="99"')
    broken = "\n".join(
        line.rsplit(" ", 1)[0] + " 0" if 'le="99"' in line and "request_duration" in line else line
        for line in text.splitlines()
    )

    found = scrape(broken)

    assert found is not None
    assert found["latency"] is None


@pytest.mark.parametrize(
    ("histogram", "edge"),
    [
        ({}, None),
        ({"0.1": 95, "0.2": 5}, 0.1),
        ({"0.1": 94, "0.2": 6}, 0.2),
        ({"0.2": 5, "0.1": 95}, 0.1),
        ({"0.1": 94, "+Inf": 6}, None),
    ],
    ids=str,
)
def test_the_threshold_is_the_first_edge_that_95_of_100_did_not_exceed(
    histogram: dict[str, int], edge: float | None
) -> None:
    assert quantile_edge(histogram, 0.95) == edge


def test_a_process_that_started_anew_while_the_threshold_is_learned_is_counted_from_there() -> None:
    learning = Threshold(least_requests=10)

    for counted in ({"0.1": 100}, {"0.1": 104}, {"0.1": 1}, {"0.1": 6, "0.2": 5}):
        learning.learn({"blue-1": counted})

    assert (learning.requests, learning.seconds) == (10, 0.2)
