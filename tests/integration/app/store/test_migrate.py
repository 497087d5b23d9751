"""Migrations create the schema or take over what an older Paste12 left, and lose no row."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.store.schema import HEAD
from app.worker.rollup import count_batch
from tests.integration.app.instances import migrate
from tests.running import Cluster

OLD_SCHEMA = """
CREATE TABLE notes (id serial PRIMARY KEY, text text NOT NULL, timestamp timestamp NOT NULL DEFAULT now(),
    expires_at timestamp, likes int NOT NULL DEFAULT 0, views int NOT NULL DEFAULT 0,
    reports int NOT NULL DEFAULT 0, author_fp varchar(64), deleted_at timestamp);
CREATE TABLE view_log (id serial PRIMARY KEY, note_id int NOT NULL, fingerprint varchar(128) NOT NULL,
    day text NOT NULL, created_at timestamp NOT NULL DEFAULT now());
CREATE TABLE like_log (note_id int NOT NULL, fingerprint varchar(128) NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(), CONSTRAINT old_name UNIQUE (fingerprint, note_id));
CREATE TABLE report_log (note_id int NOT NULL REFERENCES notes ON DELETE CASCADE,
    fingerprint varchar(128) NOT NULL, created_at timestamp NOT NULL DEFAULT now());
CREATE TABLE note (id int); CREATE TABLE note_view (id int);
CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM view_log v WHERE (v.note_id, v.fingerprint, v.day)
               = (NEW.note_id, NEW.fingerprint, NEW.day))
    THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE TRIGGER trg_view_log_guard BEFORE INSERT ON view_log FOR EACH ROW EXECUTE FUNCTION guard();
INSERT INTO notes (text, views) SELECT 'old ' || n, n FROM generate_series(1, 50) n;
INSERT INTO view_log (note_id, fingerprint, day) SELECT n, 'v', '2025-10-28' FROM generate_series(1, 60) n;
INSERT INTO like_log (note_id, fingerprint) VALUES (1, 'a'), (999, 'orphan');
INSERT INTO report_log (note_id, fingerprint) VALUES (1, 'a');
"""
CONTENT = """
SELECT (SELECT json_agg(n ORDER BY id) FROM notes n)::text, (SELECT count(*) FROM view_log),
       (SELECT count(*) FROM like_log), (SELECT count(*) FROM report_log)
"""
WITHOUT_VALUES = (
    "".join(
        f"ALTER TABLE notes ALTER COLUMN {name} DROP DEFAULT, ALTER COLUMN {name} DROP NOT NULL;"
        for name in ("likes", "views", "reports")
    )
    + "UPDATE notes SET likes = NULL, views = NULL, reports = NULL"
)
DUPLICATES = """
ALTER TABLE view_log DISABLE TRIGGER ALL;
INSERT INTO view_log (note_id, fingerprint, day) VALUES (7, 'v', '2025-10-28'), (8, 'v', '2025-10-28');
"""


def run(verb: str, postgres: Cluster, database: str) -> tuple[int, dict[str, Any]]:
    return migrate(verb, postgres.url(database))


def upgraded(before: str | None = None) -> tuple[int, dict[str, Any]]:
    return 0, {"before": before, "after": HEAD, "changed": before != HEAD}


def unique_indexes(postgres: Cluster, database: str, table: str) -> list[Any]:
    return postgres.run(
        "SELECT indisvalid FROM pg_index "
        f"WHERE indrelid = '{table}'::regclass AND indisunique AND NOT indisprimary",
        database,
    )


def test_an_empty_database_gets_the_contracts_tables(postgres: Cluster, empty_database: str) -> None:
    assert run("current", postgres, empty_database) == (0, {"revision": None, "head": HEAD, "obstacles": []})

    assert run("upgrade", postgres, empty_database) == upgraded()

    assert run("current", postgres, empty_database) == (0, {"revision": HEAD, "head": HEAD, "obstacles": []})
    tables = postgres.run(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1", empty_database
    )
    assert [name for (name,) in tables] == [
        "alembic_version",
        "like_log",
        "notes",
        "report_log",
        "view_log",
        "view_queue",
    ]


def test_a_second_run_changes_nothing(postgres: Cluster, empty_database: str) -> None:
    run("upgrade", postgres, empty_database)

    assert run("upgrade", postgres, empty_database) == upgraded(HEAD)


def test_an_old_database_is_adopted_with_every_row_and_name(postgres: Cluster, empty_database: str) -> None:
    postgres.run(OLD_SCHEMA, empty_database)
    before = postgres.run(CONTENT, empty_database)

    assert run("upgrade", postgres, empty_database) == upgraded()

    assert postgres.run(CONTENT, empty_database) == before
    assert unique_indexes(postgres, empty_database, "view_log") == [(True,)]
    assert unique_indexes(postgres, empty_database, "like_log") == [(True,)]
    assert unique_indexes(postgres, empty_database, "report_log") == [(True,)]
    assert postgres.run("SELECT reloptions FROM pg_class WHERE relname = 'notes'", empty_database) == [
        (["fillfactor=80"],)
    ]
    kept = (
        "SELECT to_regclass('note') IS NOT NULL, to_regclass('note_view') IS NOT NULL, count(*) "
        "FROM pg_trigger WHERE tgname = 'trg_view_log_guard'"
    )
    assert postgres.run(kept, empty_database) == [(True, True, 1)]


def test_the_service_works_on_an_adopted_database(
    postgres: Cluster, empty_database: str, make_client: Any
) -> None:
    postgres.run(OLD_SCHEMA, empty_database)
    run("upgrade", postgres, empty_database)
    client: FlaskClient = make_client(postgres.url(empty_database))

    for action, count in (("view", 8), ("like", 1), ("report", 1)):
        for _ in range(2):
            answer = client.post(f"/api/notes/7/{action}", headers={"X-FP": "new"})
            assert answer.status_code == 200
        assert answer.get_json()[f"{action}s"] == count


@pytest.mark.parametrize("flag", ["", "P12_ENABLE_ADVISORY_LOCKS", "P12_ENABLE_VIEW_QUEUE"])
def test_counters_that_never_had_a_value_count_from_0(
    postgres: Cluster, empty_database: str, make_client: Any, flag: str
) -> None:
    postgres.run(f"{OLD_SCHEMA};{WITHOUT_VALUES}", empty_database)
    assert run("upgrade", postgres, empty_database) == upgraded()
    client: FlaskClient = make_client(postgres.url(empty_database), **({flag: "1"} if flag else {}))

    for read in (client.get("/api/notes/7").get_json(), client.get("/api/notes?limit=100").get_json()[-7]):
        assert (read["id"], read["likes"], read["views"], read["reports"]) == (7, 0, 0, 0)
    for number in (1, 2):
        for action in ("view", "like", "report"):
            answer = client.post(f"/api/notes/7/{action}", headers={"X-FP": f"new {number}"})
            assert (answer.status_code, action) == (200, action)
            if (flag, action) != ("P12_ENABLE_VIEW_QUEUE", "view"):
                assert answer.get_json()[f"{action}s"] == number
    count_batch(client.application.extensions["paste12"].database)
    assert postgres.run("SELECT views, likes, reports FROM notes WHERE id = 7", empty_database) == [(2, 2, 2)]


def test_counters_without_a_default_get_one_and_no_row_is_written_again(
    postgres: Cluster, empty_database: str
) -> None:
    postgres.run(f"{OLD_SCHEMA};{WITHOUT_VALUES}", empty_database)
    where = "SELECT relfilenode, (SELECT array_agg(xmin::text ORDER BY id) FROM notes) FROM pg_class "
    before = postgres.run(f"{where} WHERE relname = 'notes'", empty_database)

    assert run("upgrade", postgres, empty_database) == upgraded()

    assert postgres.run(f"{where} WHERE relname = 'notes'", empty_database) == before
    added = "INSERT INTO notes (text) VALUES ('from elsewhere') RETURNING likes, views, reports"
    assert postgres.run(added, empty_database) == [(0, 0, 0)]


def test_duplicates_stop_it_before_anything_changed_naming_the_rows_and_the_query(
    postgres: Cluster, empty_database: str
) -> None:
    postgres.run(OLD_SCHEMA, empty_database)
    postgres.run(DUPLICATES, empty_database)
    before = postgres.run(CONTENT, empty_database)

    status, answer = run("upgrade", postgres, empty_database)

    assert status == 1
    assert answer["error"] == (
        "view_log holds 2 duplicates under a missing unique constraint: "
        "7, v, 2025-10-28, 2; 8, v, 2025-10-28, 2"
    )
    query = answer["hint"].split(";")[0]
    assert postgres.run(query, empty_database) == [(7, "v", "2025-10-28", 2), (8, "v", "2025-10-28", 2)]
    assert postgres.run(CONTENT, empty_database) == before
    assert postgres.run("SELECT reloptions FROM pg_class WHERE relname = 'notes'", empty_database) == [
        (None,)
    ]
    assert run("current", postgres, empty_database) == (
        0,
        {"revision": None, "head": HEAD, "obstacles": [answer]},
    )


def test_it_goes_through_once_the_duplicates_are_gone(postgres: Cluster, empty_database: str) -> None:
    postgres.run(OLD_SCHEMA, empty_database)
    postgres.run(DUPLICATES, empty_database)
    run("upgrade", postgres, empty_database)

    postgres.run("DELETE FROM view_log WHERE id > 60", empty_database)

    assert run("upgrade", postgres, empty_database) == upgraded()


def test_columns_that_older_tables_lack_are_added(postgres: Cluster, empty_database: str) -> None:
    postgres.run(
        "CREATE TABLE notes (id serial PRIMARY KEY, text text); INSERT INTO notes (text) VALUES ('a')",
        empty_database,
    )

    assert run("upgrade", postgres, empty_database) == upgraded()

    assert postgres.run("SELECT likes, views, reports, deleted_at FROM notes", empty_database) == [
        (0, 0, 0, None)
    ]


def test_a_column_that_the_service_would_not_fill_stops_it_by_name(
    postgres: Cluster, empty_database: str
) -> None:
    postgres.run(
        OLD_SCHEMA + "; ALTER TABLE view_log ADD COLUMN view_date date NOT NULL DEFAULT now();"
        "ALTER TABLE view_log ALTER COLUMN view_date DROP DEFAULT",
        empty_database,
    )

    status, answer = run("upgrade", postgres, empty_database)

    assert (status, "SET DEFAULT" in answer["hint"]) == (1, True)
    assert (
        answer["error"] == "view_log.view_date must be given in every row, and the service does not know it"
    )


def test_a_column_of_another_type_stops_it_by_name(postgres: Cluster, empty_database: str) -> None:
    postgres.run(
        OLD_SCHEMA + "ALTER TABLE view_log ALTER COLUMN day TYPE date USING day::date", empty_database
    )

    status, answer = run("upgrade", postgres, empty_database)

    assert (status, answer["error"]) == (1, "view_log.day is date, and the service writes text NOT NULL")


def test_a_missing_column_that_nothing_can_fill_stops_it_by_name(
    postgres: Cluster, empty_database: str
) -> None:
    postgres.run(OLD_SCHEMA + "ALTER TABLE view_log DROP COLUMN day", empty_database)

    status, answer = run("upgrade", postgres, empty_database)

    assert status == 1
    assert answer["error"].startswith("view_log.day is missing")


def test_half_an_index_of_an_earlier_try_is_built_again(postgres: Cluster, empty_database: str) -> None:
    postgres.run(
        OLD_SCHEMA + "; CREATE UNIQUE INDEX view_log_once ON view_log (note_id, fingerprint, day)",
        empty_database,
    )
    postgres.run(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'view_log_once'::regclass", empty_database
    )

    assert run("upgrade", postgres, empty_database) == upgraded()

    assert unique_indexes(postgres, empty_database, "view_log") == [(True,)]


def test_an_older_release_leaves_a_newer_schema_alone(postgres: Cluster, empty_database: str) -> None:
    run("upgrade", postgres, empty_database)
    postgres.run("UPDATE alembic_version SET version_num = '0099'", empty_database)

    assert run("upgrade", postgres, empty_database) == (
        0,
        {"before": "0099", "after": "0099", "changed": False},
    )


@pytest.mark.parametrize("url", ["", "sqlite://", "postgresql://nobody@127.0.0.1:1/none"])
def test_without_a_database_it_says_why_in_json(url: str) -> None:
    status, answer = migrate("upgrade", url)

    assert (status, set(answer)) == (1, {"error", "hint"})


def test_as_a_command_it_answers_in_json_and_takes_two_verbs(postgres: Cluster) -> None:
    command = [sys.executable, "-m", "app.migrate"]
    empty = os.environ | {"DATABASE_URL": postgres.new_database("as_a_command")}

    current = subprocess.run([*command, "current"], capture_output=True, check=False, timeout=60, env=empty)
    mistyped = subprocess.run([*command, "downgrade"], capture_output=True, check=False, timeout=60)

    assert (current.returncode, json.loads(current.stdout)["head"]) == (0, HEAD)
    assert (mistyped.returncode, mistyped.stdout) == (2, b"")
