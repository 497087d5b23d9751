"""What was read is judged and told in words: what is in the way first, and nothing steers a terminal."""

from typing import Any

import pytest

from checks.adoption.judge import judge
from checks.adoption.words import as_text
from checks.base.report import Report, Verdict


def obstacle(kind: str, weight: str, **more: Any) -> dict[str, Any]:
    plain = {
        "error": f"{kind} is there",
        "mend": f"MEND {kind}",
        "query": "",
        "count": 1,
        "rows": [],
        "text": "",
    }
    return {"kind": kind, "weight": weight, **plain, **more}


def facts(**changes: Any) -> dict[str, Any]:
    return {
        "server": {
            "version": "15.8", "database": "notes", "bytes": 8_000_000, "encoding": "UTF8", "owner": "ann",
            "is_encrypted": False,
        },
        "role": {
            "name": "ann", "is_superuser": False, "schema": "public", "may_create_tables": True,
            "member_of": [],
        },
        "extensions": [],
        "tables": [],
        "other_databases": [],
        "connections": {
            "used": 20, "max": 100, "reserved": 3, "most_of_role_or_database": None, "wanted": 33,
        },
        "obstacles": [],
        "not_seen": [],
        "notes": {},
    } | changes  # fmt: skip


def report(**changes: Any) -> Report:
    found = facts(**changes)
    place = {"host": "db", "port": "5432", "dbname": "notes", "user": "ann"}
    return Report("adoption", "production", judge(found), inputs=place, facts=found)


def test_nothing_in_the_way_passes_and_names_what_comes_next() -> None:
    text = as_text(report())

    assert report().verdict is Verdict.PASSED
    assert text.splitlines()[0] == "production: notes at db:5432: nothing is in the way. Nothing was changed."
    assert text.endswith("./p12 release")


@pytest.mark.parametrize(
    ("weight", "verdict"), [("stops", Verdict.FAILED), ("harms", Verdict.FAILED), ("tells", Verdict.PASSED)]
)
def test_an_obstacle_is_in_the_way_by_its_weight(weight: str, verdict: Verdict) -> None:
    assert report(obstacles=[obstacle("orphans", weight)]).verdict is verdict


def test_what_could_not_be_seen_is_unknown_unless_something_is_in_the_way() -> None:
    unseen = {"not_seen": [{"what": "orphans", "error": "canceling statement due to statement timeout"}]}

    assert report(**unseen).verdict is Verdict.UNKNOWN
    assert report(**unseen, obstacles=[obstacle("trigger", "harms")]).verdict is Verdict.FAILED
    assert "orphans could not be looked at: canceling statement" in as_text(report(**unseen))


def test_what_is_in_the_way_stands_before_what_is_good_to_know() -> None:
    text = as_text(report(obstacles=[obstacle("orphans", "tells"), obstacle("trigger", "harms")]))

    assert text.index("trigger is there") < text.index("Good to know") < text.index("orphans is there")
    assert "1 obstacle is in the way" in text


def test_rows_query_command_and_code_are_told_and_cannot_steer_a_terminal() -> None:
    rows = [{"note_id": 7, "fingerprint": "\x1b[31mred"}]
    seen = obstacle(
        "trigger", "harms", rows=rows, count=9, query="SELECT 1", text="CREATE TRIGGER x\n  AFTER"
    )

    text = as_text(report(obstacles=[seen]))

    assert "\x1b" not in text
    for words in ("note_id=7", "and 8 more", "shows  SELECT 1", "mends  MEND trigger", "text     AFTER"):
        assert words in text


def test_connections_that_do_not_fit_are_in_the_way_with_the_sum() -> None:
    full = {"used": 60, "max": 100, "reserved": 3, "most_of_role_or_database": 20, "wanted": 33}

    text = as_text(report(connections=full))

    assert "postgres_connections 93 (limit <= 77)" in text
    assert "60 in use + 33 that the kit wants, of 80% × (100 max_connections − 3 reserved)" in text
    assert "connection_limit 33 (limit <= 20)" in text


@pytest.mark.parametrize(
    ("is_on", "said"),
    [
        (False, "off; after 30 days it would delete 9 notes and 12 rows of their logs for good"),
        (True, "ON after 30 days (p12_purge_after_days): the first one deletes 9 notes and 12 rows"),
    ],
)
def test_it_says_what_a_purge_would_take(is_on: bool, said: str) -> None:
    purge = {"is_on": is_on, "days": 30, "notes": 9, "view_log": 9, "like_log": 3, "report_log": 0}

    text = as_text(report(notes={"notes": 400, "expired": 26, "removed": 3, "purge": purge}))

    assert "400: 26 expired, 3 removed" in text
    assert said in text


def test_other_databases_of_the_server_are_named_for_it_may_be_the_wrong_one() -> None:
    assert "databases paste12_old, shop: is it the right one?" in as_text(
        report(other_databases=["paste12_old", "shop"])
    )


def test_todays_service_that_does_not_answer_is_in_the_way() -> None:
    away = {"path": "/api/health", "status": None, "median_ms": None, "error": "refused"}
    asked = {"url": "http://old", "failed": 1, "answers": [away]}

    assert report(today=asked).verdict is Verdict.FAILED
    assert "today's service at http://old does not answer as it should: /api/health: refused" in as_text(
        report(today=asked)
    )


def test_a_report_of_what_could_not_be_measured_is_one_sentence() -> None:
    from checks.base.errors import CannotMeasure
    from checks.base.report import unmeasurable

    failed = Report("adoption", "production", (unmeasurable(CannotMeasure("Postgres is away.")),))

    assert "Postgres is away." in as_text(failed)
