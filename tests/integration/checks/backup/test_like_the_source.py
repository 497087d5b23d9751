"""The copy that proves a backup is like its source in everything, and whatever is missing in it is found."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from checks.backup import catalog, digest, properties, scratch_cluster, verify
from checks.backup.archive import Archive
from checks.backup.make import BackupPlan, Dumped, Files, dump
from checks.base.errors import CannotMeasure, Misused
from checks.base.postgres import connected, rows
from checks.base.postgres_tools import Tools
from tests.integration.checks.backup.backups import ROWS, backup
from tests.integration.checks.conftest import SCHEMA
from tests.integration.checks.servers import BIN, Cluster

CREATE = """
CREATE DATABASE rich TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de' LC_COLLATE 'C.UTF-8'
  LC_CTYPE 'C.UTF-8'
"""
ROLES = 'CREATE ROLE reader; CREATE ROLE "Odd role" SUPERUSER; GRANT reader TO "Odd role" WITH ADMIN OPTION'
RICH = """
CREATE SCHEMA shop;
CREATE TABLE shop.things (id serial, name text,
  low text COLLATE "C.utf8" GENERATED ALWAYS AS (lower(name COLLATE "C.utf8")) STORED);
INSERT INTO shop.things (name) VALUES ('ÄÖÜ'), ('Ñ');
CREATE INDEX by_name ON shop.things (lower(name));
ALTER TABLE shop.things OWNER TO "Odd role";
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON notes TO reader USING (id > 0);
GRANT SELECT ON notes TO reader WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO reader;
CREATE MATERIALIZED VIEW busy AS SELECT count(*) FROM notes;
CREATE MATERIALIZED VIEW later AS SELECT count(*) FROM notes WITH NO DATA;
COMMENT ON TABLE notes IS 'all of them';
CREATE STATISTICS together ON note_id, day FROM view_log;
CREATE PUBLICATION news FOR TABLE notes;
CREATE FUNCTION quiet() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION alone() RETURNS int LANGUAGE sql RETURN 1;
CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION quiet();
CREATE TRIGGER touching BEFORE UPDATE ON view_log FOR EACH ROW EXECUTE FUNCTION touched();
CREATE RULE nothing AS ON DELETE TO like_log DO INSTEAD NOTHING;
CREATE VIEW seen AS SELECT * FROM view_log;
CREATE SEQUENCE down INCREMENT -1; SELECT nextval('down'), nextval('down');
CREATE SEQUENCE set_only; SELECT setval('set_only', 4711, false);
CREATE EXTENSION postgres_fdw;
CREATE SERVER afar FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere');
CREATE USER MAPPING FOR reader SERVER afar OPTIONS (user 'r', password 'secret');
CREATE FOREIGN TABLE there (id int) SERVER afar;
SELECT lo_from_bytea(4242, 'large'), lo_from_bytea(4243, decode(repeat('00', 5000000), 'hex'));
GRANT SELECT ON LARGE OBJECT 4242 TO reader;
ALTER DATABASE rich SET statement_timeout = '1h';
ALTER DATABASE rich SET app.token = 'a secret';
ALTER DATABASE rich SET default_transaction_read_only = on;
ALTER ROLE nobody IN DATABASE rich SET search_path = public, shop;
ALTER ROLE reader IN DATABASE rich SET search_path = "$user", shop;
ALTER DATABASE rich CONNECTION LIMIT 50;
REVOKE CONNECT ON DATABASE rich FROM PUBLIC;
GRANT CONNECT ON DATABASE rich TO reader;
COMMENT ON DATABASE rich IS 'the shop';
"""
# The damaged copy is restored without what a line of the archive's own list matches.
LESS = """#!/bin/sh
for archive in "$@"; do :; done
"{program}" -l "$archive" | grep -vE '{what}' > {place}/list
exec "{program}" -L {place}/list "$@"
"""
KINDS = {
    "rows": " TABLE DATA public view_log ",
    "a large object": " BLOBS ",
    "a row's security": " ROW SECURITY ",
    "a policy": " POLICY ",
    "a privilege on a table": " ACL public TABLE notes ",
    "default privileges": " DEFAULT ACL ",
    "a comment": " COMMENT public TABLE notes ",
    "statistics": " STATISTICS ",
    "a published table": " PUBLICATION TABLE ",
    "a publication": " PUBLICATION ",
    "an event trigger": " EVENT TRIGGER ",
    "a trigger": " TRIGGER public view_log ",
    "a rule": " RULE ",
    "a function": " FUNCTION public alone",
    "a view": " VIEW public seen",
    "a filled materialized view": " MATERIALIZED VIEW DATA ",
    "an index": " INDEX ",
    "a sequence's position": " SEQUENCE SET public notes_id_seq ",
    "a falling sequence's position": " SEQUENCE SET public down ",
    "an unused sequence's position": " SEQUENCE SET public set_only ",
    "a user mapping": " USER MAPPING ",
    "a foreign table": " FOREIGN TABLE ",
}


@pytest.fixture(scope="module")
def rich(postgres: Cluster) -> Iterator[str]:
    for statement in (*ROLES.split("; "), CREATE):
        postgres.run(statement)
    postgres.run(SCHEMA + ROWS + RICH, "rich")
    yield postgres.url("rich")
    postgres.run("DROP DATABASE rich")


@pytest.fixture(scope="module")
def dumped(rich: str, scratch: Path) -> Iterator[tuple[Archive, Dumped]]:
    place = scratch / "rich"
    place.mkdir()
    plan = BackupPlan(rich, place, Tools(BIN), "production", "abc")
    with connected(rich) as connection:
        files = Files(place / "rich.dump", place / "rich.sql")
        yield Archive(files.archive), dump(plan, files, connection)
    shutil.rmtree(place)


def test_a_database_with_everything_is_proven_and_comes_back_with_it(
    out: Path, postgres: Cluster, rich: str
) -> None:
    status, report, said = backup(out, rich)
    assert status == 0, (said, [each for each in report["findings"] if each["verdict"] != "passed"])

    there = postgres.url("postgres")
    status, report, said = backup(out, there, "--restore", report["id"], "--database", "again")

    try:
        assert status == 0, (report, said)
        with connected(rich) as one, connected(postgres.url("again")) as two:
            assert catalog.read_objects(one) == catalog.read_objects(two)
            source, copy = (properties.read(one, name) for name in ("rich", "again"))
        assert copy.locale == source.locale
    finally:
        postgres.run("DROP DATABASE IF EXISTS again")


def test_what_is_kept_says_what_belongs_to_the_database(out: Path, rich: str) -> None:
    report = backup(out, rich)[1]

    noted = json.loads((out / f"{report['id']}.manifest.json").read_text())

    assert noted["tables"]["large objects"]["rows"] == 2
    assert {"reader", "Odd role", "nobody"} <= set(noted["roles"])
    assert noted["locale"]["ICU_LOCALE"] == "de"
    assert "a secret" not in json.dumps([noted, report])


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_a_copy_without_one_kind_of_thing_is_never_proven(
    dumped: tuple[Archive, Dumped], postgres: Cluster, tmp_path: Path, kind: str | None
) -> None:
    archive, held = dumped
    tools = Tools(without(KINDS[kind], tmp_path) if kind else BIN)
    url = postgres.url("postgres")
    with connected(url) as connection:
        source = properties.read(connection, "rich")

    try:
        found = verify.examine(tools, archive, held.contents, held.smoke, source, url)
    finally:
        postgres.run("DROP DATABASE IF EXISTS restored")

    assert verify.is_proven(found) is (kind is None), [str(finding) for finding in found]


def without(what: str, place: Path) -> Path:
    for program in BIN.iterdir():
        (place / program.name).symlink_to(program)
    damaging = place / "pg_restore"
    damaging.unlink()
    damaging.write_text(LESS.format(program=BIN / "pg_restore", what=what, place=place))
    damaging.chmod(0o755)
    return place


DUMPED_WITHOUT = ("--no-blobs", "--no-comments", "--no-privileges", "--no-publications")


@pytest.mark.parametrize("option", DUMPED_WITHOUT)
def test_a_dump_that_leaves_something_out_is_thrown_away(
    out: Path, rich: str, scratch: Path, option: str
) -> None:
    place = scratch / "programs"
    place.mkdir()
    without("^$", place)
    for name in ("pg_restore", "pg_dump"):
        (place / name).unlink()
    (place / "pg_restore").symlink_to(BIN / "pg_restore")
    (place / "pg_dump").write_text(f'#!/bin/sh\nexec "{BIN}/pg_dump" "$@" {option}\n')
    (place / "pg_dump").chmod(0o755)

    try:
        status, report, _ = backup(out, rich, "--bin-dir", str(place))
    finally:
        shutil.rmtree(place)

    assert status == 3, report
    assert not list(out.glob("*.dump"))


def test_rows_of_an_extension_are_what_its_users_put_there(postgres: Cluster, empty: str) -> None:
    postgres.run(
        "CREATE EXTENSION hstore; CREATE TABLE config (i int); CREATE TABLE own (i int);"
        "INSERT INTO config VALUES (1), (2); INSERT INTO own VALUES (1);"
        "ALTER EXTENSION hstore ADD TABLE config; ALTER EXTENSION hstore ADD TABLE own;"
        "UPDATE pg_extension SET extconfig = ARRAY['config'::regclass], extcondition = ARRAY['WHERE i > 1']"
        " WHERE extname = 'hstore'",
        "empty",
    )

    with connected(empty) as connection:
        assert digest.has_rows(connection)
        assert {name: table["rows"] for name, table in digest.read_tables(connection).items()} == {
            "public.config": 1
        }
        rows(connection, "DELETE FROM config WHERE i > 1")
        assert not digest.has_rows(connection)


def test_a_role_without_privileges_of_its_own_can_back_up_what_it_owns_and_restore_it_without_its_roles(
    out: Path, postgres: Cluster
) -> None:
    postgres.run("CREATE ROLE plain LOGIN; CREATE ROLE friend")
    postgres.run("CREATE DATABASE plains OWNER plain")
    with connected(postgres.url("plains", "plain")) as connection:
        rows(connection, SCHEMA + ROWS)
        rows(connection, "GRANT SELECT ON notes TO friend; SELECT lo_from_bytea(0, 'large')")

    status, report, said = backup(out, postgres.url("plains", "plain"))
    postgres.run("DROP DATABASE plains")
    postgres.run("DROP ROLE friend; DROP ROLE plain")
    restored = backup(
        out, postgres.url("postgres"), "--restore", report.get("id", ""), "--database", "plains"
    )

    assert (status, restored[0]) == (0, 0), (said, restored)
    assert postgres.run("SELECT count(*) FROM notes", "plains") == [(500,)]
    (missing,) = [each for each in restored[1]["findings"] if each["name"] == "roles_missing"]
    assert "friend, plain" in missing["hint"]
    postgres.run("DROP DATABASE plains")


def test_a_host_without_an_extension_of_the_database_says_which(postgres: Cluster) -> None:
    with pytest.raises(CannotMeasure, match=r"lacks what the database needs: extension postgis\. Install"):
        scratch_cluster.furnish(postgres.url("postgres"), "SELECT 1", ["plpgsql", "postgis"])


def test_a_host_without_the_locale_of_the_database_says_which(postgres: Cluster) -> None:
    locale = {"ENCODING": "UTF8", "LC_COLLATE": "xx_XX.utf8", "LC_CTYPE": "xx_XX.utf8"}

    with pytest.raises(Misused, match=r"lacks the database's locale, .*xx_XX"):
        verify.create(postgres.url("postgres"), "nowhere", locale)


def test_nothing_of_the_roles_of_a_source_but_roles_is_made(postgres: Cluster) -> None:
    text = (
        "\\restrict x\nCREATE ROLE made;\nCREATE ROLE by_whom;\n"
        "GRANT made TO by_whom WITH ADMIN OPTION GRANTED BY nobody_we_know;\n"
        "--\n-- Tablespaces\n--\n\nCREATE TABLESPACE fast OWNER made LOCATION '/somewhere';\n"
    )

    scratch_cluster.furnish(postgres.url("postgres"), text, [])

    assert postgres.run("SELECT rolname FROM pg_roles WHERE rolname IN ('made', 'by_whom') ORDER BY 1") == [
        ("by_whom",),
        ("made",),
    ]
    postgres.run("DROP ROLE by_whom; DROP ROLE made")


def test_a_service_whose_role_finds_its_tables_in_a_schema_of_its_own_is_asked_there_in_the_copy_too(
    out: Path, postgres: Cluster, empty: str
) -> None:
    postgres.run(f"CREATE SCHEMA app; SET search_path = app; {SCHEMA}{ROWS}", "empty")
    postgres.run("ALTER ROLE nobody IN DATABASE empty SET search_path = app")

    status, report, said = backup(out, empty)

    assert status == 0, (report, said)
    assert report["smoke"]["notes"] == 20
