"""What a rollout makes of a check's end: 0, 3 and 4 are verdicts to show, 1 and 2 are errors to read."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from rollout.errors import Refused, RolloutError
from rollout.host import run_checks
from rollout.host.run_checks import as_rollout_error
from rollout.target.dsn import OWNER, database_url
from rollout.target.target import Target
from tests.integration.rollout.steered import Steered
from tests.running import CHECKOUT, free_port

LIVE = "a" * 12
BURST = {"levels": [2], "rounds": 1, "shapes": ["hot"], "visitors": ["distinct"]}
Booked = Callable[..., Target]


@pytest.fixture(autouse=True)
def kit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the p12 command on a host starts Python."""
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))


@pytest.fixture
def booked(provisioned: Target, tmp_path: Path) -> Iterator[Booked]:
    """A ledger of accepted views of one note, and what the database has of it."""
    connection = psycopg2.connect(database_url(provisioned, OWNER))
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("INSERT INTO notes (text) VALUES ('counted') RETURNING id")
    note = cursor.fetchone()[0]
    directory = tmp_path / "staging"
    (directory / "visitors").mkdir(parents=True)
    (directory / "secrets.json").write_text((provisioned.directory / "secrets.json").read_text())

    def make(accepted: int, counted: int, **settings: Any) -> Target:
        cursor.execute(f"UPDATE notes SET views = {counted} WHERE id = {note}")
        cursor.execute(
            "INSERT INTO view_log (note_id, fingerprint, day) SELECT %s, n, 'today'"
            " FROM generate_series(1, %s) AS n",
            [note, counted],
        )
        notes = {str(note): {"accepted": accepted, "unknown": 0}}
        ledger = {"notes": notes, "updated": time.time(), "stopped": True}
        (directory / "visitors" / "visitors.json").write_text(json.dumps(ledger))
        return Target("staging", directory, {**provisioned.settings, **settings})

    yield make
    cursor.execute(f"DELETE FROM view_log WHERE note_id = {note}; DELETE FROM notes WHERE id = {note}")
    connection.close()


def test_a_check_that_passes_is_an_answer_with_its_summary(booked: Booked) -> None:
    report = run_checks.counters(booked(accepted=3, counted=3))

    assert report["verdict"] == "passed"
    assert report["say"].startswith("staging: counters: passed")


def test_a_check_that_fails_is_an_answer_too_for_its_verdict_is_what_was_asked(booked: Booked) -> None:
    report = run_checks.counters(booked(accepted=3, counted=2))

    assert report["verdict"] == "failed"
    assert "lost_views 1" in report["say"]


def test_a_check_that_cannot_measure_answers_unknown(booked: Booked) -> None:
    report = run_checks.counters(booked(accepted=3, counted=3, postgres_port=free_port()))

    assert report["verdict"] == "unknown"
    assert "Postgres does not let us in" in json.dumps(report)


def test_a_check_that_crashes_is_an_error_with_its_status_and_last_words(
    booked: Booked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = booked(accepted=3, counted=3)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(
        RolloutError, match=r"^staging: counters: ended with status 1: .*No module named checks"
    ):
        run_checks.counters(target)


def test_a_check_that_is_misused_is_an_error_with_its_status_and_last_words(live: Steered) -> None:
    target = with_burst(live, levels=[0])

    with pytest.raises(
        RolloutError, match=r"burst: ended with status 2: --levels 0 .* cannot be fired"
    ) as raised:
        run_checks.burst(target, LIVE)

    assert raised.value.hint == "See that the target is up: ./p12 status"


def test_a_burst_that_cannot_measure_answers_unknown_and_says_why(live: Steered) -> None:
    report = run_checks.burst(with_burst(live), LIVE)

    assert report["verdict"] == "unknown"
    assert "Postgres does not let us in" in report["summary"]
    assert report["inputs"]["release"] == LIVE


def test_a_burst_at_another_release_than_the_one_that_serves_is_refused_before_it_is_fired(
    live: Steered,
) -> None:
    with pytest.raises(Refused, match=f"production serves {LIVE}, not bbbbbbbbbbbb") as raised:
        run_checks.burst(with_burst(live), "b" * 12)

    assert raised.value.hint.startswith("./p12 deploy --branch ")
    assert not (live.target.steering / "burst-report.json").exists()


def test_an_earlier_report_is_never_taken_for_this_burst(live: Steered) -> None:
    target = with_burst(live, levels=[0])
    (target.steering / "burst-report.json").write_text('{"verdict": "passed"}')

    with pytest.raises(RolloutError, match="ended with status 2"):
        run_checks.burst(target, LIVE)


@pytest.mark.parametrize("name", ["CannotMeasure", "Misused"])
def test_what_stops_a_check_in_this_process_is_told_with_target_and_purpose(
    provisioned: Target, name: str
) -> None:
    from checks.base import errors

    with (
        pytest.raises(RolloutError, match=r"^staging: restore: The disk is away\.$"),
        as_rollout_error(provisioned, "restore"),
    ):
        raise getattr(errors, name)("The disk is away.")


def with_burst(live: Steered, **burst: Any) -> Target:
    """The target with a small burst and a database that nobody runs."""
    (live.directory / "log").mkdir(exist_ok=True)
    secrets = {"monitor": "m" * 16, "rehearsal": "h" * 16}
    (live.directory / "secrets.json").write_text(json.dumps(dict(live.target.secrets) | secrets))
    settings = {
        **live.target.settings,
        **{"database": "none", "database_address": "127.0.0.1", "postgres_port": free_port()},
        "ports": {"pgbouncer": free_port()},
        "burst": {**BURST, **burst},
    }
    return Target("production", live.directory, settings)
