"""Visitors keep a rate, survive everything, and their ledger agrees with the database."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web

from checks.visitors import limit_pass, view_counts
from tests.integration.checks.frontdoor import RELEASE, FrontDoor
from tests.integration.checks.servers import Cluster, free_port, wait_for

SECRET = "what visitors share with the service"


def command(url: str, state: Path, *more: str) -> list[str]:
    check = [sys.executable, "-m", "checks", "visitors", "--base-url", url, "--target", "staging"]
    return [*check, "--state", str(state), *more]


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "P12_REHEARSAL_SECRET": SECRET, **more}


def visit(url: str, state: Path, *more: str) -> dict[str, Any]:
    done = subprocess.run(
        command(url, state, "--json", *more), env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 3), done.stdout + done.stderr
    assert not done.stderr
    return ledger(state)


def ledger(state: Path) -> dict[str, Any]:
    return dict(json.loads(state.read_text()))


@contextmanager
def visiting(url: str, state: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    process = started(url, state, *more)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def started(url: str, state: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(url, state, *more),
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def counters(state: Path, database: str) -> dict[str, Any]:
    asked = argparse.Namespace(target="staging", state=state, drain_seconds=1.0)
    return view_counts.report(asked, database).to_dict()


def test_the_ledger_of_a_healthy_front_door_agrees_with_the_database(
    front_door: FrontDoor, database: str, tmp_path: Path
) -> None:
    state = tmp_path / "visitors.json"

    book = visit(front_door.url, state, "--rate", "60", "--seconds", "2")

    assert (book["requests"], book["failed"], book["unknown_outcomes"]) == (120, 0, 0)
    assert book["releases"] == {RELEASE: 120}
    assert 0 < book["latency_ms"]["p50"] <= book["latency_ms"]["p99"] <= book["latency_ms"]["max"]
    assert book["stopped"] is True
    report = counters(state, database)
    assert report["verdict"] == "passed", report["summary"]
    assert report["facts"]["accepted"] > 50


def test_visitors_show_a_pass_that_is_signed_for_their_target(front_door: FrontDoor, tmp_path: Path) -> None:
    visit(front_door.url, tmp_path / "v.json", "--rate", "20", "--seconds", "0.2")

    expiry = int(front_door.rehearsals[0].split(".")[0])
    signed = limit_pass.Pass(SECRET, "staging").header(expiry - limit_pass.LIFETIME_SECONDS)
    assert front_door.rehearsals[0] == signed
    assert 0 < expiry - time.time() <= 600


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/view", {"ok": False, "error": "db_busy"}),
        ("/view", {"ok": True, "id": 0, "views": 1}),
        ("/view", {"ok": True}),
        ("/notes", [{"error": "db_busy"}]),
        ("/notes/", {"id": 0, "text": "another note"}),
        ("/notes/", {"error": "not_found"}),
    ],
)
def test_a_wrong_body_of_the_right_status_is_a_failure_of_its_own(
    front_door: FrontDoor, tmp_path: Path, path: str, body: Any
) -> None:
    def after(request: web.Request) -> web.StreamResponse | None:
        route = re.sub(r"\d+$", "", request.path)
        is_asked = request.method == "GET" if path != "/view" else True
        return web.json_response(body) if is_asked and route.endswith(path) else None

    front_door.after = after

    book = visit(
        front_door.url, tmp_path / "v.json", "--rate", "100", "--seconds", "1", "--views-share", "0.4"
    )

    assert book["wrong_by"][RELEASE] == book["failed"] > 0
    assert {(f["status"], f["error"]) for f in book["failures"]} == {(200, "wrong body")}


def test_over_loopback_visitors_come_from_addresses_of_their_own(
    front_door: FrontDoor, database: str, tmp_path: Path
) -> None:
    state, peers = tmp_path / "v.json", set()
    front_door.fault = lambda request: peers.add(request.remote)

    book = visit(front_door.url, state, "--rate", "100", "--seconds", "0.5")

    assert len(peers) >= 20
    assert (book["requests"], book["failed"]) == (50, 0)
    assert counters(state, database)["verdict"] == "passed"


def test_every_kind_of_failure_is_counted_and_named_and_stops_nothing(
    front_door: FrontDoor, database: str, tmp_path: Path
) -> None:
    turns = iter(range(10_000))

    def fault(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith("/view"):
            turn = next(turns)
            if turn % 10 == 1:
                return web.json_response({"ok": False, "error": "db_busy"}, status=503)
            if turn % 10 == 2 and request.transport:
                request.transport.close()
            if turn % 10 == 3:
                return web.Response(text="<html>", content_type="text/html")
        return None

    front_door.fault = fault
    state = tmp_path / "visitors.json"

    book = visit(front_door.url, state, "--rate", "60", "--seconds", "2", "--views-share", "0.9")

    assert book["requests"] == 120
    assert book["failed"] > 20
    assert book["unknown_outcomes"] > 10
    assert {failure.get("status", "error") for failure in book["failures"]} == {503, 200, "error"}
    assert len(book["failures"]) <= 20
    assert counters(state, database)["verdict"] == "passed"


def test_an_answer_lost_after_the_view_was_counted_is_an_unknown_outcome(
    front_door: FrontDoor, database: str, tmp_path: Path
) -> None:
    def after(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=502) if request.path.endswith("/view") else None

    front_door.after = after
    state = tmp_path / "visitors.json"

    book = visit(front_door.url, state, "--rate", "40", "--seconds", "1", "--duplicates-share", "0")

    views = sum(note["unknown"] for note in book["notes"].values())
    assert views == book["unknown_outcomes"] > 10
    assert "views_unlike_log" not in [
        finding["name"] for finding in counters(state, database)["findings"] if finding["verdict"] == "failed"
    ]


def test_what_fails_is_counted_by_release_and_what_is_refused_while_read_only_apart(
    front_door: FrontDoor, tmp_path: Path
) -> None:
    turns = iter(range(10_000))

    def fault(request: web.Request) -> web.StreamResponse | None:
        if not request.path.endswith("/view"):
            return None
        match next(turns) % 3:
            case 0:
                return web.json_response({"ok": False, "error": "read_only"}, status=503)
            case 1:
                return web.json_response({"ok": False, "error": "db_busy"}, status=503)
        return None

    front_door.fault = fault

    book = visit(front_door.url, tmp_path / "visitors.json", "--rate", "40", "--seconds", "1")

    assert book["read_only"] > 2
    assert book["failed_by"] == {RELEASE: book["failed"]}
    assert 2 < book["failed"] <= book["requests"] - book["read_only"]


def test_a_ledger_is_continued(front_door: FrontDoor, database: str, tmp_path: Path) -> None:
    state = tmp_path / "visitors.json"
    first = visit(front_door.url, state, "--rate", "40", "--seconds", "0.5")

    second = visit(front_door.url, state, "--rate", "40", "--seconds", "0.5")

    assert (first["requests"], second["requests"]) == (20, 40)
    assert second["started"] == first["started"]
    assert first["notes"].keys() < second["notes"].keys()
    assert counters(state, database)["verdict"] == "passed"


def test_visitors_wait_for_the_front_door_and_do_not_count_the_waiting(
    front_door: FrontDoor, tmp_path: Path
) -> None:
    closed = [True]

    def fault(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=503) if closed[0] and request.path == "/api/health" else None

    front_door.fault = fault
    state = tmp_path / "visitors.json"

    with visiting(front_door.url, state, "--rate", "50"):
        wait_for(lambda: ledger(state)["updated"], "a ledger while waiting")
        assert ledger(state)["requests"] == 0
        closed[0] = False
        wait_for(lambda: ledger(state)["requests"] > 20, "visits once the door is open")

    assert ledger(state)["failed"] == 0


def test_sigterm_finishes_what_is_in_flight_and_leaves_a_closed_ledger(
    front_door: FrontDoor, database: str, tmp_path: Path
) -> None:
    state = tmp_path / "visitors.json"
    with visiting(front_door.url, state, "--rate", "100") as process:
        wait_for(lambda: ledger(state)["requests"] > 30, "visits")
        during = counters(state, database)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)

    book = ledger(state)
    assert (process.returncode, book["stopped"], book["in_flight"], book["failed"]) == (0, True, 0, 0)
    assert during["verdict"] == counters(state, database)["verdict"] == "passed"


def test_killed_visitors_leave_a_ledger_that_is_continued_without_a_false_alarm(
    front_door: FrontDoor, database: str, tmp_path: Path
) -> None:
    state = tmp_path / "visitors.json"
    with visiting(front_door.url, state, "--rate", "100") as process:
        wait_for(lambda: ledger(state)["requests"] > 30, "visits")
        process.kill()
        process.communicate()

    visit(front_door.url, state, "--rate", "40", "--seconds", "0.3")

    assert counters(state, database)["verdict"] == "passed"


def test_a_server_that_goes_away_and_comes_back_is_visited_all_the_while(
    database: str, tmp_path: Path
) -> None:
    state = tmp_path / "visitors.json"
    with FrontDoor(database) as door:
        url = door.url
        process = started(url, state, "--rate", "50")
        wait_for(lambda: ledger(state)["requests"] > 10, "visits")
    try:
        wait_for(lambda: ledger(state)["failed"] > 10, "failures")
        assert process.poll() is None
        assert "error" in ledger(state)["failures"][-1]
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_two_crowds_cannot_write_one_ledger(front_door: FrontDoor, tmp_path: Path) -> None:
    state = tmp_path / "visitors.json"
    with visiting(front_door.url, state, "--rate", "10"):
        wait_for(lambda: ledger(state)["requests"], "visits")

        done = subprocess.run(
            command(front_door.url, state), env=environment(), capture_output=True, text=True, check=False
        )

    assert done.returncode == 2
    assert "still running" in done.stderr


def test_without_the_secret_they_say_what_to_set_and_do_not_start(tmp_path: Path) -> None:
    done = subprocess.run(
        command("http://127.0.0.1:1", tmp_path / "v.json"),
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "P12_REHEARSAL_SECRET is not exported" in done.stderr


@pytest.mark.parametrize(("mode", "status"), [(0o600, 0), (0o640, 2)])
def test_the_secret_may_come_from_a_file_that_nobody_else_can_read(
    front_door: FrontDoor, tmp_path: Path, mode: int, status: int
) -> None:
    secrets = tmp_path / "env"
    secrets.write_text(f"# a comment\nOTHER='1'\nP12_REHEARSAL_SECRET='{SECRET}'\n")
    secrets.chmod(mode)

    done = subprocess.run(
        command(front_door.url, tmp_path / "v.json", "--seconds", "0.1", "--env-file", str(secrets)),
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == status, done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_a_hundred_requests_a_second_are_held_with_little_cpu(front_door: FrontDoor, tmp_path: Path) -> None:
    state = tmp_path / "visitors.json"
    with visiting(front_door.url, state, "--rate", "100") as process:
        wait_for(lambda: ledger(state)["requests"] > 20, "visits")
        first, cpu_before = ledger(state), sum(psutil.Process(process.pid).cpu_times()[:2])
        wait_for(lambda: ledger(state)["updated"] > first["updated"] + 2.5, "two seconds more")
        last, cpu_after = ledger(state), sum(psutil.Process(process.pid).cpu_times()[:2])

    seconds = last["updated"] - first["updated"]
    assert (last["requests"] - first["requests"]) / seconds > 95
    # Under 15 % of a core at 40 a second, with room for a busy machine.
    assert (cpu_after - cpu_before) / seconds < 0.15 * 100 / 40 * 1.5


def test_the_oracle_names_a_note_that_lost_a_view(
    front_door: FrontDoor, postgres: Cluster, database: str, tmp_path: Path
) -> None:
    state = tmp_path / "visitors.json"
    book = visit(front_door.url, state, "--rate", "40", "--seconds", "1")
    note_id = max(book["notes"], key=lambda i: book["notes"][i]["accepted"])
    postgres.run(f"UPDATE notes SET views = views - 1 WHERE id = {note_id}", database.rsplit("/", 1)[1])

    report = counters(state, database)

    assert report["verdict"] == "failed"
    assert f"note {note_id} by 1" in report["summary"]
    assert {f["name"] for f in report["findings"] if f["verdict"] == "failed"} == {
        "lost_views",
        "views_unlike_log",
    }


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("UPDATE notes SET views = views + 1", "extra_views"),
        ("DELETE FROM view_log", "views_unlike_log"),
        ("DELETE FROM notes", "missing_notes"),
    ],
)
def test_the_oracle_sees_every_kind_of_damage(
    front_door: FrontDoor, postgres: Cluster, database: str, tmp_path: Path, damage: str, finding: str
) -> None:
    state = tmp_path / "visitors.json"
    visit(front_door.url, state, "--rate", "40", "--seconds", "0.5")
    postgres.run(damage, database.rsplit("/", 1)[1])

    report = counters(state, database)

    assert finding in {f["name"] for f in report["findings"] if f["verdict"] == "failed"}


def test_views_that_stay_queued_leave_the_oracle_unknown(
    front_door: FrontDoor, postgres: Cluster, database: str, tmp_path: Path
) -> None:
    state = tmp_path / "visitors.json"
    book = visit(front_door.url, state, "--rate", "40", "--seconds", "0.5")
    note_id = next(iter(book["notes"]))
    name = database.rsplit("/", 1)[1]
    postgres.run(f"UPDATE notes SET views = views - 1 WHERE id = {note_id}", name)
    postgres.run(f"INSERT INTO view_queue (note_id) VALUES ({note_id})", name)

    report = counters(state, database)

    assert report["verdict"] == "unknown"
    assert "queued_views 1" in report["summary"]


def test_an_empty_ledger_proves_nothing(database: str, tmp_path: Path) -> None:
    state = tmp_path / "visitors.json"
    state.write_text('{"notes": {}}')

    assert counters(state, database)["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("accepted", "status"), [(0, 4), (1, 3)], ids=["nothing was accepted", "a note is missing"]
)
def test_the_oracle_exits_as_its_verdict_says(
    database: str, tmp_path: Path, accepted: int, status: int
) -> None:
    state = tmp_path / "visitors.json"
    state.write_text(json.dumps({"notes": {"1": {"accepted": 1, "unknown": 0}} if accepted else {}}))

    assert ask_oracle(state, database).returncode == status


def test_a_database_that_is_away_is_unknown(tmp_path: Path) -> None:
    state = tmp_path / "visitors.json"
    state.write_text('{"notes": {"1": {"accepted": 1, "unknown": 0}}}')

    done = ask_oracle(state, f"postgresql://x:hidden@127.0.0.1:{free_port()}/x")

    assert done.returncode == 4
    assert "Check DATABASE_URL" in done.stdout
    assert "hidden" not in done.stdout + done.stderr


def ask_oracle(state: Path, database: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "checks", "counters", "--state", str(state)],
        env=environment(DATABASE_URL=database),
        capture_output=True,
        text=True,
        check=False,
    )
