"""What stands in the way of taking over today's database is all found at once, and nothing is changed."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.store.migrations.adoption import look as looking
from app.store.migrations.adoption.look import told_by
from app.store.migrations.adoption.obstacle import Obstacle
from app.store.migrations.adoption.server import judge_server
from app.store.schema import HEAD
from tests.integration.app.instances import migrate
from tests.running import Cluster
from tests.today.database import LOG_TRIGGERS, PARENT_TRIGGERS, ROWS, STRAYS, TABLES, TODAY, trigger

ROLE = "CREATE ROLE {0} LOGIN; GRANT ALL ON DATABASE {1} TO {0}; "
CLEAN = TABLES + "".join(
    f"ALTER TABLE notes ALTER COLUMN {name} SET DEFAULT 0, ALTER COLUMN {name} SET NOT NULL;"
    for name in ("likes", "views", "reports")
)
# Each kind of obstacle: what makes it, its weight, words of its sentence, of its query and of what mends it.
CASES: dict[str, tuple[str, str, str, str, str]] = {
    "duplicates": (
        "INSERT INTO view_log (note_id, fingerprint, day) VALUES (7, 'v', 'd'), (7, 'v', 'd'), (8, 'v', 'd')",
        "stops",
        "view_log holds 1 duplicates under a missing unique constraint: 7, v, d, 2",
        "HAVING count(*) > 1",
        "DELETE FROM view_log a USING view_log b",
    ),
    "another_type": (
        "ALTER TABLE view_log ALTER COLUMN day TYPE date USING day::date",
        "stops",
        "view_log.day is date",
        "",
        "ALTER TABLE view_log ALTER COLUMN day TYPE",
    ),
    "unknown_column": (
        "ALTER TABLE notes ADD COLUMN title text NOT NULL",
        "stops",
        "notes.title must be given in every row",
        "",
        "SET DEFAULT",
    ),
    "missing_column": (
        "ALTER TABLE like_log DROP COLUMN fingerprint; INSERT INTO like_log (note_id) VALUES (1)",
        "stops",
        "like_log.fingerprint is missing",
        "",
        "ADD COLUMN fingerprint",
    ),
    "no_unique_id": (
        ("ALTER TABLE notes DROP CONSTRAINT notes_pkey; ALTER TABLE notes ALTER COLUMN id DROP NOT NULL;"
        "INSERT INTO notes (id, text, likes, views, reports)"
        " VALUES (1, 'a', 0, 0, 0), (1, 'b', 0, 0, 0), (NULL, 'c', 0, 0, 0)"),
        "stops",
        "notes has no unique id, and 2 stand for several notes or none: 1, 2; None, 1",
        "GROUP BY id HAVING count(*) > 1",
        "ADD PRIMARY KEY (id)",
    ),
    "nullable_id": (
        ("ALTER TABLE notes DROP CONSTRAINT notes_pkey; ALTER TABLE notes ALTER COLUMN id DROP NOT NULL;"
        "CREATE UNIQUE INDEX ON notes (id);"
        "INSERT INTO notes (id, text, likes, views, reports) VALUES (NULL, 'c', 0, 0, 0)"),
        "harms",
        "notes.id is null in 1 rows",
        "WHERE id IS NULL",
        "ALTER COLUMN id SET NOT NULL",
    ),
    "null_counters": (
        ("ALTER TABLE notes ALTER COLUMN views DROP NOT NULL;"
        "INSERT INTO notes (text, views) VALUES ('a', NULL), ('b', NULL)"),
        "tells",
        "2 notes have a counter without a value",
        "views IS NULL",
        "views = coalesce(views, 0)",
    ),
    "orphans": (
        "INSERT INTO like_log (note_id, fingerprint) VALUES (99, 'a'), (99, 'b'), (98, 'c')",
        "tells",
        "like_log holds rows of 2 notes that are not there: 98, 1; 99, 2",
        "NOT EXISTS (SELECT FROM notes",
        "DELETE FROM like_log WHERE NOT EXISTS",
    ),
    "new_ids": (
        "INSERT INTO notes (id, text) VALUES (50, 'a')",
        "harms",
        "public.notes_id_seq gives ids that notes has already: None, 50",
        "last_value",
        "SELECT setval('public.notes_id_seq'",
    ),
    "trigger": (
        STRAYS + PARENT_TRIGGERS,
        "harms",
        "the trigger trg_parent_note_guard on view_log runs with every change there",
        "pg_get_triggerdef",
        'DROP TRIGGER "trg_parent_note_guard" ON view_log; once no trigger runs it, DROP FUNCTION parent_',
    ),
    "function": (
        "CREATE FUNCTION tidy() RETURNS void LANGUAGE sql AS 'DELETE FROM view_log'",
        "tells",
        "the function tidy() speaks of the tables, and no trigger runs it",
        "pg_get_functiondef",
        "DROP FUNCTION tidy()",
    ),
    "rule": (
        "CREATE RULE quiet AS ON INSERT TO like_log DO INSTEAD NOTHING",
        "harms",
        "the rule quiet on like_log makes something else",
        "pg_rules",
        'DROP RULE "quiet" ON like_log',
    ),
    "foreign_key": (
        STRAYS + "ALTER TABLE view_log ADD CONSTRAINT parent FOREIGN KEY (note_id) REFERENCES note",
        "harms",
        "view_log asks for a row in note, which the service does not write",
        "pg_constraint",
        'DROP CONSTRAINT "parent"',
    ),
    "stray_table": (
        STRAYS,
        "tells",
        "2 tables are called note… and are not the service's",
        "LIKE 'note%'",
        "ALTER TABLE public.note RENAME TO unused_note",
    ),
    "another_schema": (
        "CREATE SCHEMA old; " + "".join(
            f"ALTER TABLE {name} SET SCHEMA old;" for name in ("notes", "view_log", "like_log", "report_log")
        ),
        "stops",
        "the search path does not lead there: new, empty ones would be made",
        "tablename = 'notes'",
        "SET search_path = old",
    ),
    "another_application": (
        "DROP TABLE notes, view_log, like_log, report_log; CREATE TABLE invoices (id int)",
        "harms",
        "the database holds 1 tables, none of them Paste12's: public, invoices, nobody",
        "pg_tables",
        "CREATE DATABASE paste12",
    ),
    "not_a_table": (
        ("DROP TABLE like_log; CREATE VIEW like_log AS SELECT 1 AS note_id, 'a'::varchar(128) AS fingerprint,"
        " now()::timestamp AS created_at"),
        "stops",
        "like_log is a view, and not a plain table",
        "relkind",
        "make a plain table of each",
    ),
}  # fmt: skip


def look(postgres: Cluster, database: str, user: str = "nobody", **environ: str) -> dict[str, Any]:
    status, answer = migrate("look", postgres.url(database, user), **environ)
    assert status == 0, answer
    return answer


def kinds(answer: dict[str, Any], *weights: str) -> set[str]:
    return {each["kind"] for each in answer["obstacles"] if not weights or each["weight"] in weights}


def dump(postgres: Cluster, database: str, servers: Any) -> str:
    done = subprocess.run(
        [servers.path("pg_dump"), postgres.url(database)], capture_output=True, check=True, text=True
    )
    return "".join(line for line in done.stdout.splitlines(True) if not line.startswith("\\"))


@pytest.mark.parametrize("kind", CASES)
def test_each_obstacle_is_told_with_its_weight_rows_query_and_command(
    postgres: Cluster, empty_database: str, kind: str
) -> None:
    sql, weight, error, query, mend = CASES[kind]
    postgres.run(CLEAN + sql, empty_database)

    found = look(postgres, empty_database)

    (obstacle,) = [each for each in found["obstacles"] if each["kind"] == kind]
    assert (obstacle["weight"], found["not_seen"]) == (weight, [])
    assert (error in obstacle["error"], query in obstacle["query"], mend in obstacle["mend"]) == (True,) * 3
    assert len(obstacle["rows"]) <= obstacle["count"]
    if obstacle["query"]:
        postgres.run(obstacle["query"], empty_database)


@pytest.mark.parametrize("kind", [kind for kind, case in CASES.items() if case[1] == "stops"])
def test_what_stops_the_first_migration_stops_it_before_it_changed_anything(
    postgres: Cluster, empty_database: str, servers: Any, kind: str
) -> None:
    sql, _, error, _, _ = CASES[kind]
    postgres.run(CLEAN + sql, empty_database)
    before = dump(postgres, empty_database, servers)

    status, answer = migrate("upgrade", postgres.url(empty_database))

    assert (status, error in answer["error"], bool(answer["hint"])) == (1, True, True)
    assert dump(postgres, empty_database, servers) == before


def test_a_clean_database_has_nothing_in_the_way(postgres: Cluster, empty_database: str) -> None:
    postgres.run(CLEAN, empty_database)

    assert look(postgres, empty_database)["obstacles"] == []


def test_an_empty_database_has_nothing_in_the_way(postgres: Cluster, empty_database: str) -> None:
    found = look(postgres, empty_database)

    assert (found["obstacles"], found["notes"], found["not_seen"]) == ([], {}, [])


def test_a_database_that_was_taken_over_has_nothing_in_the_way(postgres: Cluster, database: str) -> None:
    assert look(postgres, database)["obstacles"] == []


def test_todays_database_shows_everything_at_once_with_the_text_of_its_triggers(
    postgres: Cluster, empty_database: str
) -> None:
    postgres.run(TODAY, empty_database)

    found = look(postgres, empty_database)

    assert kinds(found, "stops", "harms") == {"trigger"}
    assert kinds(found, "tells") == {"null_counters", "stray_table"}
    triggers = [each for each in found["obstacles"] if each["kind"] == "trigger"]
    assert len(triggers) == 4
    assert all("BEFORE INSERT ON public." in each["text"] for each in triggers)
    assert any("RAISE EXCEPTION 'note % is not there'" in each["text"] for each in triggers)


def test_it_says_how_many_notes_are_gone_today_and_what_a_purge_would_take(
    postgres: Cluster, empty_database: str
) -> None:
    postgres.run(TODAY, empty_database)

    off = look(postgres, empty_database)["notes"]
    on = look(postgres, empty_database, P12_PURGE_AFTER_DAYS="1")["notes"]

    assert (off["notes"], off["expired"], off["removed"]) == (400, 26, 3)
    assert off["purge"] == {
        "is_on": False, "days": 30, "notes": 9, "view_log": 9, "like_log": 9, "report_log": 0,
    }  # fmt: skip
    assert on["purge"] == {
        "is_on": True, "days": 1, "notes": 26, "view_log": 26, "like_log": 26, "report_log": 0,
    }  # fmt: skip


def test_a_look_changes_nothing(postgres: Cluster, empty_database: str, servers: Any) -> None:
    postgres.run(TODAY + CASES["duplicates"][0].replace("'d'", "'e'"), empty_database)
    before = dump(postgres, empty_database, servers)

    look(postgres, empty_database)

    assert dump(postgres, empty_database, servers) == before


def test_what_the_command_mends_is_gone_afterwards(postgres: Cluster, empty_database: str) -> None:
    postgres.run(CLEAN + CASES["duplicates"][0] + ";" + CASES["orphans"][0], empty_database)

    for obstacle in look(postgres, empty_database)["obstacles"]:
        postgres.run(obstacle["mend"].removeprefix("keep one row of each: "), empty_database)

    assert look(postgres, empty_database)["obstacles"] == []


def test_tables_of_somebody_else_and_a_schema_without_rights_are_named_with_the_grants(
    postgres: Cluster, empty_database: str
) -> None:
    role = f"guest_{empty_database}"
    postgres.run(TABLES + f"CREATE ROLE {role} LOGIN", empty_database)
    try:
        found = look(postgres, empty_database, user=role)["obstacles"]

        said = {(each["kind"], each["mend"]) for each in found}
        owners = "; ".join(
            f"ALTER TABLE {table} OWNER TO {role}"
            for table in ("like_log", "notes", "report_log", "view_log")
        )
        assert ("foreign_owner", owners) in said
        assert ("no_rights", f"GRANT CREATE ON SCHEMA public TO {role}") in said
        assert any(
            kind == "no_rights" and "GRANT DELETE, INSERT, SELECT, UPDATE ON notes" in mend
            for kind, mend in said
        )
        assert look(postgres, empty_database, user=role)["not_seen"]
    finally:
        postgres.run(f"DROP ROLE {role}", empty_database)


def test_rows_that_a_policy_hides_are_told(postgres: Cluster, empty_database: str) -> None:
    role = f"kept_{empty_database}"
    postgres.run(
        TABLES + f"CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA public TO {role};"
        f"ALTER TABLE notes OWNER TO {role}; ALTER TABLE notes FORCE ROW LEVEL SECURITY;"
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
        empty_database,
    )
    try:
        assert "row_security" in kinds(look(postgres, empty_database, user=role), "harms")
    finally:
        postgres.run(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}", empty_database)


def test_a_database_that_takes_no_writes_is_told(postgres: Cluster, empty_database: str) -> None:
    postgres.run(f"ALTER DATABASE {empty_database} SET default_transaction_read_only = on")

    (obstacle,) = look(postgres, empty_database)["obstacles"]

    assert (obstacle["kind"], obstacle["weight"]) == ("read_only", "stops")


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"version": 12}, "old_server", "the server is Postgres 12; supported are 13 and newer"),
        ({"is_replica": True}, "read_only", "the server is a replica, which takes no writes"),
        ({"encoding": "LATIN1"}, "encoding", "the database's encoding is LATIN1"),
        ({"schema": None}, "no_rights", "no schema of the search path"),
        ({"has_plpgsql": False}, "no_rights", "may not use the language plpgsql"),
    ],
)
def test_what_the_server_lacks_is_told(changes: dict[str, Any], kind: str, said: str) -> None:
    server = {
        "version": 15, "is_replica": False, "is_read_only": False, "encoding": "UTF8", "database": "paste12",
        "role": "paste12", "schema": "public", "search_path": "public", "may_create": True,
        "has_plpgsql": True,
    }  # fmt: skip

    (obstacle,) = judge_server(server | changes)

    assert (obstacle.kind, said in obstacle.error) == (kind, True)
    assert not list(judge_server(server))


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("CREATE TABLE made_by_a_look ()", "cannot execute CREATE TABLE in a read-only transaction"),
        ("SELECT pg_sleep(30)", "canceling statement due to statement timeout"),
    ],
)
def test_a_question_can_neither_write_nor_last(
    postgres: Cluster, empty_database: str, monkeypatch: pytest.MonkeyPatch, sql: str, said: str
) -> None:
    def question(connection: Connection) -> Iterator[Obstacle]:
        connection.exec_driver_sql(sql)
        yield from ()

    monkeypatch.setattr(looking, "OTHERS", (question, *looking.OTHERS))
    monkeypatch.setattr(looking, "STATEMENT_SECONDS", 0.5)

    assert look(postgres, empty_database)["not_seen"] == [{"what": "question", "error": said}]


def test_a_table_that_is_locked_hides_only_what_is_in_it(postgres: Cluster, empty_database: str) -> None:
    postgres.run(CLEAN + STRAYS, empty_database)
    holder = psycopg2.connect(postgres.url(empty_database))
    try:
        holder.cursor().execute("LOCK TABLE notes")
        found = look(postgres, empty_database)
    finally:
        holder.close()

    assert {each["what"] for each in found["not_seen"]} >= {"census"}
    assert "stray_table" in kinds(found)


def test_a_server_without_room_to_sort_in_is_in_the_way() -> None:
    class Full(Exception):
        pgcode = "53100"

    (obstacle,) = told_by(DBAPIError("SELECT", {}, Full('could not write to file "base/pgsql_tmp"')))

    assert (obstacle.kind, obstacle.weight, obstacle.mend) == (
        "no_room",
        "stops",
        "make room where Postgres keeps its data; on the server: df -h",
    )


def test_another_applications_revision_is_not_taken_for_a_newer_release(
    postgres: Cluster, empty_database: str
) -> None:
    postgres.run(
        CLEAN + "CREATE TABLE alembic_version (version_num varchar(32));"
        "INSERT INTO alembic_version VALUES ('a1b2c3d4e5f6')",
        empty_database,
    )

    status, answer = migrate("upgrade", postgres.url(empty_database))

    assert (status, answer["error"]) == (1, "alembic_version is another application's: it is at a1b2c3d4e5f6")
    (obstacle,) = look(postgres, empty_database)["obstacles"]
    assert (obstacle["kind"], obstacle["weight"], obstacle["error"]) == (
        "another_application",
        "stops",
        answer["error"],
    )


def test_rows_without_a_value_are_no_duplicates(postgres: Cluster, empty_database: str) -> None:
    postgres.run(
        CLEAN + "ALTER TABLE view_log ALTER COLUMN fingerprint DROP NOT NULL;"
        "INSERT INTO view_log (note_id, day) VALUES (1, 'd'), (1, 'd')",
        empty_database,
    )

    assert "duplicates" not in kinds(look(postgres, empty_database))
    status, answer = migrate("upgrade", postgres.url(empty_database))
    assert (status, answer["after"]) == (0, HEAD)


def test_todays_database_is_taken_over_with_its_triggers_where_they_swallow_nothing(
    postgres: Cluster, empty_database: str
) -> None:
    postgres.run(
        TABLES + STRAYS + LOG_TRIGGERS + ROWS + trigger("again", "view_log", "log_guard"), empty_database
    )

    status, answer = migrate("upgrade", postgres.url(empty_database))

    assert (status, answer["after"]) == (0, HEAD)
    assert json.dumps(look(postgres, empty_database)["obstacles"]).count('"kind": "trigger"') == 4
