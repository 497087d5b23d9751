"""A burst is one moment, counts exactly, and passes nothing that it did not see."""

import asyncio
import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from checks.burst import rate_limit_proof, run, shapes
from checks.burst.judge import judge
from checks.burst.limits import BurstLimits
from checks.burst.outcomes import Outcomes
from checks.visitors.http_client import Door, sessions
from checks.visitors.limit_pass import Pass
from tests.integration.checks.burst.bursts import SECRET, burst
from tests.integration.checks.frontdoor import RELEASE, FrontDoor
from tests.integration.checks.servers import Cluster, free_port


def decided(report: dict[str, Any], verdict: str) -> set[str]:
    return {finding["name"] for finding in report["findings"] if finding["verdict"] == verdict}


def test_a_healthy_service_passes_and_the_report_proves_the_burst(
    front_door: FrontDoor, database: str, tmp_path: Path
) -> None:
    samples = tmp_path / "burst.json"

    status, report = burst(
        front_door.url, database, "--levels", "40,80", "--instances", front_door.url,
        "--release", RELEASE, "--samples", str(samples),
    )  # fmt: skip

    assert status == 0, report["summary"]
    measured = {finding["name"]: finding["measured"] for finding in report["findings"]}
    assert measured["in_flight_at_80"] >= 72
    volleys = json.loads(samples.read_text())["measured"]["volleys"]
    visitors = [
        (volley, visit)
        for volley, v in enumerate(volleys)
        for visit in set(
            shapes.visits([str(n) for n in range(11)], v["level"], v["shape"], v["visitors"], "")
        )
    ]
    assert measured["accepted_views"] == sum(visit.kind == "view" for _, visit in visitors) + 5
    assert measured["accepted_likes"] == sum(visit.kind == "like" for _, visit in visitors)
    assert measured["accepted_reports"] > 0
    assert 0 < measured["postgres_connections_peak"] <= 150
    assert measured["requests_before_429"] == 5
    assert report["facts"]["requests"] == sum(v["level"] for v in volleys) >= 480
    assert report["facts"]["power"].startswith(f"{report['facts']['requests']} requests can only show < 0.")
    assert SECRET not in samples.read_text() + json.dumps(report)


def replayed(fired: dict[str, Any], tmp_path: Path, *more: str) -> tuple[int, dict[str, Any]]:
    samples = tmp_path / "burst.json"
    samples.write_text(json.dumps(fired))
    return burst("http://127.0.0.1:1", "", "--replay", str(samples), *more, secret="")


def test_kept_samples_are_judged_again_without_firing(fired: dict[str, Any], tmp_path: Path) -> None:
    status, report = replayed(fired, tmp_path)
    stricter, _ = replayed(fired, tmp_path, "--p99-ms", "0.001")

    assert (status, report["target"], stricter) == (0, "staging", 3)


@pytest.fixture
def views_answered(front_door: FrontDoor) -> list[Any]:
    """Answers that replace those to views, one in ten."""
    answers: list[Any] = []
    turns = iter(range(1_000_000))

    def after(request: web.Request) -> web.StreamResponse | None:
        if answers and request.path.endswith("/view") and next(turns) % 10 == 0:
            return answers[0](request)  # type: ignore[no-any-return]
        return None

    front_door.after = after
    return answers


def closed(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize(
    ("answer", "findings"),
    [
        (lambda _: web.Response(status=500), {"server_errors"}),
        (lambda _: web.json_response({"ok": False, "error": "db_busy"}, status=503), {"busy_ratio"}),
        (lambda _: web.Response(text="<html>hello</html>"), {"unexpected_answers"}),
        (closed, {"connection_errors"}),
    ],
    ids=["500", "503", "not JSON", "closed"],
)
def test_wrong_answers_fail_by_their_kind(
    front_door: FrontDoor, database: str, views_answered: list[Any], answer: Any, findings: set[str]
) -> None:
    views_answered.append(answer)

    status, report = burst(front_door.url, database)

    assert status == 3
    assert decided(report, "failed") == findings


def after(fired: dict[str, Any], **changed: Any) -> dict[str, set[str]]:
    """The findings by verdict if the database had counted so after the burst."""
    measured = copy.deepcopy(fired["measured"])
    measured["before"]["database"]["deadlocks"] += 1
    measured["after"]["database"]["deadlocks"] += 1
    measured["after"]["database"] |= changed
    found: dict[str, set[str]] = {}
    for finding in judge(measured, BurstLimits()):
        found.setdefault(finding.verdict, set()).add(finding.name)
    return found


def test_a_deadlock_in_the_database_fails(fired: dict[str, Any]) -> None:
    deadlocks = fired["measured"]["after"]["database"]["deadlocks"]

    assert after(fired, deadlocks=deadlocks + 2)["failed"] == {"deadlocks"}


@pytest.mark.parametrize("changed", [{"stats_reset": "now"}, {"started": "now"}, {"deadlocks": 0}])
def test_statistics_that_were_reset_are_unknown(fired: dict[str, Any], changed: dict[str, Any]) -> None:
    assert after(fired, **changed)["unknown"] == {"deadlocks"}


def test_a_burst_that_was_not_one_moment_is_unknown(fired: dict[str, Any]) -> None:
    measured = copy.deepcopy(fired["measured"])
    for volley in measured["volleys"]:
        if volley["salvo"] == 1:
            volley["in_flight_peak"] = 20

    verdicts = {finding.name: finding.verdict for finding in judge(measured, BurstLimits())}

    assert verdicts["in_flight_at_40"] == "unknown"


def test_no_volleys_prove_nothing(fired: dict[str, Any]) -> None:
    verdicts = {finding.verdict for finding in judge(fired["measured"] | {"volleys": []}, BurstLimits())}

    assert "unknown" in verdicts


def test_a_deadlock_that_a_retry_hid_is_seen_in_the_instances_metrics(
    front_door: FrontDoor, database: str, views_answered: list[Any]
) -> None:
    def deadlocked(_: web.Request) -> None:
        front_door.deadlocks += 1

    views_answered.append(deadlocked)

    status, report = burst(front_door.url, database, "--instances", front_door.url)

    assert (status, decided(report, "failed")) == (3, {"deadlocks_seen_by_instances"})


def test_an_instance_that_was_restarted_or_is_away_leaves_its_deadlocks_unknown(
    front_door: FrontDoor, database: str, views_answered: list[Any]
) -> None:
    def restarted(_: web.Request) -> None:
        front_door.started += 1

    views_answered.append(restarted)
    away = f"http://127.0.0.1:{free_port()}"

    for instances in (front_door.url, f"{front_door.url},{away}"):
        status, report = burst(front_door.url, database, "--instances", instances)
        assert (status, decided(report, "unknown")) == (
            4,
            {"deadlocks_seen_by_instances", "lock_timeout_ratio"},
        )


def test_limits_that_are_off_let_the_sixth_request_through_twice(front_door: FrontDoor) -> None:
    front_door.limited = False
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def prove() -> rate_limit_proof.LimitProof:
        async with sessions(5) as http:
            door, shown = (
                Door(front_door.url, http, None),
                Door(front_door.url, http, Pass(SECRET, "staging")),
            )
            note_id = await run.create_note(shown)
            return await rate_limit_proof.prove_limits(door, Outcomes(), note_id, sleep)

    proof = asyncio.run(prove())

    assert (proof.passed, proof.limit, slept) == (6, 5, [61])


def test_a_view_counted_twice_is_found_in_the_note_that_has_it(
    front_door: FrontDoor, postgres: Cluster, database: str, views_answered: list[Any]
) -> None:
    name = database.rsplit("/", 1)[1]

    def counted_again(_: web.Request) -> None:
        postgres.run("UPDATE notes SET views = views + 1 WHERE id = (SELECT min(id) FROM notes)", name)

    views_answered.append(counted_again)

    status, report = burst(front_door.url, database)

    assert (status, decided(report, "failed")) == (3, {"extra_views", "views_unlike_log"})


def test_an_unreachable_target_is_unknown_and_says_so(database: str) -> None:
    status, report = burst(f"http://127.0.0.1:{free_port()}", database)

    assert status == 4
    assert "Is the target up?" in report["summary"]


def test_a_page_instead_of_the_service_is_unknown_and_says_so(front_door: FrontDoor, database: str) -> None:
    front_door.fault = lambda _: web.Response(text="<html>", content_type="text/html")

    status, report = burst(front_door.url, database)

    assert status == 4
    assert "without JSON" in report["summary"]


def test_a_pass_that_is_not_honoured_is_unknown_and_names_the_secret(
    front_door: FrontDoor, database: str
) -> None:
    front_door.fault = lambda _: web.json_response({"error": "rate_limited"}, status=429)

    status, report = burst(front_door.url, database)

    assert status == 4
    assert "P12_REHEARSAL_SECRET" in report["summary"]


def test_a_database_that_refuses_us_is_unknown_and_keeps_the_password_to_itself(
    front_door: FrontDoor, postgres: Cluster
) -> None:
    status, report = burst(front_door.url, postgres.url("nowhere").replace("nobody@", "nobody:hidden@"))

    assert status == 4
    assert "DATABASE_URL" in report["summary"]
    assert "hidden" not in json.dumps(report)


@pytest.mark.parametrize("wrong", [("--levels", "a"), ("--levels", "0"), ("--rounds", "0"), ("--levels", "")])
def test_a_burst_of_nothing_is_refused(wrong: tuple[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "checks", "burst", "--base-url", "http://127.0.0.1:1", *wrong],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "--levels 100,200,300" in done.stderr
