"""What a migration may do while the release before it serves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.migrations.rules import Schema, refusals

IN_SERVICE = """
CREATE TABLE notes (id serial PRIMARY KEY, text text NOT NULL, likes integer NOT NULL DEFAULT 0);
CREATE TABLE view_log (note_id integer NOT NULL, fingerprint varchar(128) NOT NULL, day text NOT NULL);
CREATE UNIQUE INDEX view_log_once ON view_log (note_id, fingerprint, day);
CREATE FUNCTION p12_count_view_1(a integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE VIEW newest AS SELECT id FROM notes;
"""


@pytest.fixture
def schema() -> Schema:
    made = Schema()
    assert not refusals(IN_SERVICE, made)
    made.settle()
    return made


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE notes ADD x numeric NOT NULL",
        "ALTER TABLE notes ADD CONSTRAINT extra CHECK (likes >= 0)",
        "ALTER TABLE notes ADD CONSTRAINT extra CHECK (likes >= 0) NOT VALID",
        "ALTER TABLE notes ADD UNIQUE (text)",
        "ALTER TABLE view_log ADD FOREIGN KEY (note_id) REFERENCES notes (id)",
        'ALTER TABLE notes ALTER "text" TYPE varchar(9)',
        "ALTER TABLE notes ALTER likes TYPE smallint",
        "ALTER TABLE notes ALTER likes SET DEFAULT 7",
        "ALTER TABLE notes ALTER likes DROP DEFAULT",
        "ALTER TABLE notes ALTER likes DROP NOT NULL",
        "ALTER TABLE notes ALTER likes SET NOT NULL",
        "ALTER TABLE notes DROP COLUMN likes",
        "ALTER TABLE notes RENAME COLUMN likes TO hearts",
        "ALTER TABLE notes RENAME TO note",
        "ALTER TABLE notes SET SCHEMA other",
        "ALTER TABLE notes DISABLE TRIGGER ALL",
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE notes ADD kind uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE notes ADD kind text DEFAULT random()::text",
        "ALTER TABLE notes ADD kind integer GENERATED ALWAYS AS (likes * 2) STORED",
        "ALTER TABLE notes ADD kind bigserial",
        "ALTER TABLE notes ADD kind text UNIQUE",
        "ALTER TABLE notes ADD kind text CHECK (kind <> '')",
        "ALTER TABLE notes ADD kind integer REFERENCES notes (id)",
        "CREATE TABLE kinds (note integer REFERENCES notes (id))",
        "CREATE TABLE kinds () INHERITS (notes)",
        "CREATE TABLE IF NOT EXISTS notes (id integer); ALTER TABLE notes DROP likes",
        "CREATE TABLE other.notes (id integer); ALTER TABLE notes DROP likes",
        "CREATE TABLE kinds AS SELECT * FROM notes",
        "CREATE INDEX extra ON notes (likes)",
        "CREATE UNIQUE INDEX CONCURRENTLY extra ON notes (text)",
        "DROP INDEX CONCURRENTLY view_log_once",
        "DROP INDEX view_log_once; CREATE UNIQUE INDEX CONCURRENTLY view_log_once ON view_log (note_id)",
        "DROP TABLE notes",
        "DROP FUNCTION p12_count_view_1(integer)",
        "CREATE OR REPLACE FUNCTION p12_count_view_1(a integer) RETURNS integer LANGUAGE sql AS 'SELECT 2'",
        "CREATE OR REPLACE VIEW newest AS SELECT id, text FROM notes",
        "UPDATE notes SET likes = 0",
        "UPDATE notes SET likes = 0 WHERE id IN (SELECT id FROM notes LIMIT 10)",
        "ALTER TABLE notes ADD kind text; UPDATE notes SET kind = 'plain'",
        (
            "ALTER TABLE notes ADD kind text; UPDATE notes SET kind = '', likes = 0 "
            "WHERE id IN (SELECT id FROM notes LIMIT 10)"
        ),
        "INSERT INTO notes (text) VALUES ('hello')",
        "DELETE FROM view_log",
        "TRUNCATE view_log",
        (
            "CREATE TABLE gone (id integer); "
            "WITH taken AS (DELETE FROM notes RETURNING id) INSERT INTO gone SELECT id FROM taken"
        ),
        "EXPLAIN ANALYZE DELETE FROM notes",
        "CREATE TRIGGER extra BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE RULE extra AS ON INSERT TO notes DO INSTEAD NOTHING",
        "REVOKE SELECT ON notes FROM PUBLIC",
        "DO $$ BEGIN EXECUTE 'DROP TABLE notes'; END $$",
        "SELECT setval('notes_id_seq', 1)",
        "LOCK TABLE notes",
        "VACUUM FULL notes",
        "CREATE EXTENSION hstore",
        "ALTER SYSTEM SET fsync = off",
        "SET session_replication_role = replica",
        "COPY notes FROM '/etc/passwd'",
        "this is no SQL",
    ],
)
def test_what_is_not_known_to_be_safe_for_the_release_before_is_refused(sql: str, schema: Schema) -> None:
    refused = refusals(sql, schema)

    assert refused
    assert all(refusal.why and refusal.instead for refusal in refused)
    assert sql == "this is no SQL" or "cannot parse" not in str(refused[0])


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "ALTER TABLE notes ADD kind text",
        "ALTER TABLE notes ADD kind text NOT NULL DEFAULT 'plain'",
        "ALTER TABLE notes ADD at timestamp NOT NULL DEFAULT timezone('utc', now())",
        "ALTER TABLE notes SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0)",
        "CREATE TABLE kinds (id bigserial PRIMARY KEY, name text UNIQUE CHECK (name <> ''))",
        "CREATE TABLE kinds (id integer); CREATE INDEX extra ON kinds (id); ALTER TABLE kinds DROP id",
        "CREATE TABLE kinds (id integer); INSERT INTO kinds VALUES (1); DROP TABLE kinds",
        "CREATE INDEX CONCURRENTLY extra ON notes (likes)",
        "DROP INDEX CONCURRENTLY IF EXISTS extra; CREATE INDEX CONCURRENTLY extra ON notes (likes)",
        "CREATE OR REPLACE FUNCTION p12_count_view_2(a integer) RETURNS integer LANGUAGE sql AS 'SELECT 2'",
        "CREATE VIEW oldest AS SELECT id FROM notes",
        (
            "ALTER TABLE notes ADD kind text; "
            "UPDATE notes SET kind = 'plain' WHERE id IN (SELECT id FROM notes WHERE kind IS NULL LIMIT 10)"
        ),
        "COMMENT ON TABLE notes IS 'short notes'",
        "GRANT SELECT ON notes TO readers",
        "CREATE TYPE kind AS ENUM ('plain')",
        "SET LOCAL lock_timeout = '1s'",
        "-- DROP TABLE notes\n/* DROP TABLE notes */",
        "UPDATE alembic_version SET version_num = '0002'",
    ],
)
def test_what_only_adds_is_not(sql: str, schema: Schema) -> None:
    assert not refusals(sql, schema)


def test_a_refusal_says_what_why_and_what_instead(schema: Schema) -> None:
    (refused,) = refusals("ALTER TABLE notes ADD x numeric NOT NULL", schema)

    assert str(refused) == (
        "ALTER TABLE notes ADD COLUMN x numeric NOT NULL: column x must be given, and the release before "
        "does not know it. Instead: a DEFAULT, or let it be NULL."
    )


@given(st.text())
def test_no_text_passes_that_postgres_would_not_read(text: str) -> None:
    """Whatever is no SQL is refused, and none of it is an error of the judge's."""
    for refused in refusals(text, Schema()):
        assert str(refused)
