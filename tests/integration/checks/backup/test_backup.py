"""A backup is one only after it was restored and found equal; anything less leaves nothing behind."""

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from checks.backup import catalog, digest, make, verify
from checks.backup.digest import Contents
from checks.base import postgres_tools
from checks.base.errors import CannotMeasure
from checks.base.postgres import connected
from checks.base.postgres_tools import Tools
from checks.base.report import Verdict
from tests.integration.checks.backup.backups import backup, command, environment, files, name_of
from tests.integration.checks.conftest import SCHEMA
from tests.integration.checks.servers import BIN, UNPRIVILEGED, Cluster, wait_for


@pytest.fixture
def under_way() -> Iterator[Any]:
    """Starts backups; those still running at the end are stopped."""
    started: list[subprocess.Popen[bytes]] = []

    def start(out: Path, url: str) -> "subprocess.Popen[bytes]":
        quiet = subprocess.DEVNULL
        started.append(
            subprocess.Popen(command(out), env=environment(url), cwd="/", stdout=quiet, stderr=quiet)
        )
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait()


def test_writes_during_the_dump_do_not_disturb_the_proof(out: Path, postgres: Cluster, notes: str) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            postgres.run(
                "INSERT INTO notes (text) VALUES ('meanwhile'); UPDATE notes SET views = views + 1",
                name_of(notes),
            )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        status, report, _ = backup(out, notes)
    finally:
        stop.set()
        writer.join()

    assert status == 0, report


def test_a_database_without_notes_has_nothing_to_lose(out: Path, postgres: Cluster, empty: str) -> None:
    status, report, _ = backup(out, empty)

    assert (status, report["nothing_to_lose"], report["archive"]) == (0, True, None)
    assert files(out) == {f"{report['id']}.manifest.json"}
    assert backup(out, "", "--verify", report["id"])[0] == 0
    assert backup(out, postgres.url("postgres"), "--restore", report["id"], "--database", "nothing")[0] == 2


def test_tables_without_a_row_are_nothing_to_lose_and_foreign_ones_are_named(
    out: Path, postgres: Cluster, empty: str
) -> None:
    postgres.run(SCHEMA + "DELETE FROM alembic_version", "empty")
    postgres.run(
        "CREATE MATERIALIZED VIEW m AS SELECT * FROM notes; CREATE EXTENSION file_fdw;"
        "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;"
        "CREATE FOREIGN TABLE afar (line text) SERVER files OPTIONS (filename '/etc/passwd')",
        "empty",
    )

    status, report, _ = backup(out, empty)

    assert (status, report["nothing_to_lose"]) == (0, True)
    assert "public.afar" in report["findings"][0]["hint"]


HELD = {
    "under another name": "ALTER TABLE notes RENAME TO notizen",
    "in another schema": "CREATE SCHEMA shop; ALTER TABLE notes SET SCHEMA shop",
    "in a partition": "DELETE FROM notes; CREATE TABLE parts (i int) PARTITION BY RANGE (i);"
    "CREATE TABLE part PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (1)",
    "in a materialized view": "DELETE FROM notes; CREATE MATERIALIZED VIEW held AS SELECT 1 AS one",
    "in a large object": "DELETE FROM notes; SELECT lo_from_bytea(0, 'something')",
    "of the migrations": "DELETE FROM notes; INSERT INTO alembic_version VALUES ('0002')",
}


@pytest.mark.parametrize("how", HELD)
def test_whatever_holds_a_row_is_dumped_whatever_the_environment_says(
    out: Path, postgres: Cluster, empty: str, how: str
) -> None:
    rows = "DELETE FROM alembic_version; INSERT INTO notes (text) VALUES ('mine');"
    postgres.run(f"{SCHEMA}; {rows}", "empty")
    postgres.run(HELD[how], "empty")

    status, report, said = backup(out, empty, PGOPTIONS="-c search_path=nowhere")

    assert (status, report["nothing_to_lose"]) == (0, False), said


def test_where_it_connects_and_how_is_said_by_the_dsn_alone(out: Path, notes: str) -> None:
    confused = {"PGSSLMODE": "require", "PGSERVICE": "nowhere", "PGHOSTADDR": "192.0.2.1", "LC_ALL": "xx_XX"}
    wrong = {
        "PGTZ": "Mars/Phobos",
        "PGCLIENTENCODING": "nothing",
        "PGTARGETSESSIONATTRS": "standby",
        "LANG": "x",
    }

    status, report, said = backup(out, notes, **confused, **wrong)

    assert (status, report["nothing_to_lose"]) == (0, False), said


def test_a_backup_is_proven_by_a_restore_and_its_manifest_says_what_it_holds(
    out: Path, postgres: Cluster, kept: dict[str, Any]
) -> None:
    manifest = json.loads((out / f"{kept['id']}.manifest.json").read_text())

    assert (kept["verdict"], kept["nothing_to_lose"]) == ("passed", False)
    assert {name: table["rows"] for name, table in manifest["tables"].items()} == {
        "public.alembic_version": 1,
        "public.like_log": 0,
        "public.notes": 500,
        "public.report_log": 0,
        "public.view_log": 5000,
        "public.view_queue": 0,
        "public.Odd name": 3,
    }
    assert manifest["sequences"]["public.notes_id_seq"] == 500
    assert (manifest["schema_revision"], manifest["release"][:12]) == ("0002", "0123456789ab")
    system = postgres.run("SELECT system_identifier::text FROM pg_control_system()")[0][0]
    assert manifest["system_identifier"] == system
    assert kept["size_bytes"] == (out / kept["archive"]).stat().st_size


def test_what_a_backup_leaves_is_private(made_once: tuple[Path, dict[str, Any]]) -> None:
    place, report = made_once

    assert files(place) == {f"{report['id']}.{kind}" for kind in ("dump", "globals.sql", "manifest.json")}
    assert {stat.S_IMODE((place / name).stat().st_mode) for name in files(place)} == {0o600}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_backup_is_restored_into_a_new_database_and_never_over_one(
    out: Path, postgres: Cluster, kept: dict[str, Any]
) -> None:
    notes = postgres.url("postgres")

    first, _, said = backup(out, notes, "--restore", kept["id"], "--database", "restored")
    again, _, refusal = backup(out, notes, "--restore", kept["id"], "--database", "restored")

    assert first == 0, said
    assert postgres.run("SELECT count(*), sum(views) FROM notes", "restored") == [(500, 125250)]
    assert again == 2
    assert "restored is there already" in refusal
    postgres.run("DROP DATABASE restored")


def cut_short(archive: Path) -> None:
    os.truncate(archive, archive.stat().st_size - 100)


def flip_a_byte(archive: Path) -> None:
    with archive.open("r+b") as file:
        file.seek(archive.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0xFF]))


@pytest.mark.parametrize("damage", [cut_short, flip_a_byte])
def test_a_damaged_archive_is_refused_everywhere(
    out: Path, postgres: Cluster, kept: dict[str, Any], damage: Any
) -> None:
    damage(out / kept["archive"])

    verified, _, _ = backup(out, "", "--verify", kept["id"])
    url = postgres.url("postgres")
    restored, _, _ = backup(out, url, "--restore", kept["id"], "--database", "damaged")

    assert verified in (3, 4)
    assert restored in (3, 4)
    assert not postgres.run("SELECT datname FROM pg_database WHERE datname = 'damaged'")


def test_only_whole_backups_are_listed(out: Path, kept: dict[str, Any]) -> None:
    (out / "half.dump.partial").write_bytes(b"half")
    (out / "half.manifest.json.partial").write_text("{}")
    (out / "torn.manifest.json").write_text('{"id": "torn"')
    (out / "stray.dump").write_bytes(b"stray")

    def listed() -> list[str]:
        done = subprocess.run(
            command(out, "--list"), env=environment(""), cwd="/", capture_output=True, text=True, check=True
        )
        return [manifest["id"] for manifest in json.loads(done.stdout)]

    assert listed() == [kept["id"]]
    cut_short(out / kept["archive"])
    assert listed() == []


MUTATIONS = {
    "a row less": "DELETE FROM notes WHERE id = 7",
    "a row twice": "INSERT INTO view_queue (note_id) SELECT note_id FROM view_queue",
    "a value": "UPDATE notes SET views = views + 1 WHERE id = 7",
    "two rows swapped values": "UPDATE notes SET views = 503 - views WHERE id IN (251, 252)",
    "a table less": "DROP TABLE view_log",
    "an index less": "ALTER TABLE view_log DROP CONSTRAINT view_log_note_id_fingerprint_day_key",
    "a sequence behind": "SELECT setval('notes_id_seq', 3)",
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_copy_that_differs_in_anything_is_found(postgres: Cluster, notes: str, mutation: str) -> None:
    postgres.run("INSERT INTO view_queue (note_id) VALUES (1)", name_of(notes))
    before = read(notes)

    postgres.run(MUTATIONS[mutation], name_of(notes))

    assert not verify.is_proven(digest.same(before, read(notes)))
    assert verify.is_proven(digest.same(before, before))


def read(url: str) -> Contents:
    with connected(url) as connection:
        dumped = Tools(BIN).run("pg_dump", verify.SCHEMA_ONLY, postgres_tools.environment(url))
        tables, sequences = digest.read_tables(connection), digest.read_sequences(connection)
        objects = catalog.read_objects(connection)
        return Contents(tables, sequences, digest.schema_sha256(dumped), objects)


def test_a_copy_of_nothing_is_no_proof() -> None:
    verdicts = {finding.verdict for finding in digest.same(Contents({}, {}), Contents({}, {}))}

    assert verdicts != {Verdict.PASSED}


def test_a_full_disk_is_explained_and_leaves_earlier_backups_alone(
    out: Path, notes: str, kept: dict[str, Any]
) -> None:
    before = files(out)
    limited = ["prlimit", "--fsize=20000", *command(out)]

    done = subprocess.run(
        limited, env=environment(notes), cwd="/", capture_output=True, text=True, check=False
    )

    report = json.loads(done.stdout)
    assert done.returncode == 4
    assert "earlier backups are untouched" in report["summary"]
    assert files(out) == before
    assert backup(out, "", "--verify", kept["id"])[0] == 0


@pytest.mark.skipif(not UNPRIVILEGED, reason="needs root, to be refused as root")
def test_root_is_refused_and_told_what_to_do(out: Path, notes: str) -> None:
    done = subprocess.run(
        command(out)[len(UNPRIVILEGED) :], env=environment(notes), capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "setpriv" in done.stderr


def test_backups_of_one_directory_wait_for_each_other_but_not_for_ever(
    out: Path, empty: str, under_way: Any
) -> None:
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if UNPRIVILEGED:
            shutil.chown(out / ".lock", "nobody", "nogroup")

        impatient, report, _ = backup(out, empty, "--queue-seconds", "0")
        patient = under_way(out, empty)
        wait_for(
            lambda: str(out / ".lock") in [f.path for f in psutil.Process(patient.pid).open_files()],
            "it waits",
        )
        assert files(out) == set()

    assert impatient == 4
    assert "Another backup has been running" in report["summary"]
    assert patient.wait(20) == 0


def test_a_stopped_backup_takes_everything_of_its_own_with_it(out: Path, notes: str, under_way: Any) -> None:
    process = under_way(out, notes)
    server = wait_for(lambda: scratch_server(out), "a scratch cluster")

    process.send_signal(signal.SIGTERM)
    process.wait()

    assert files(out) == set()
    wait_for(lambda: not server.is_running(), "the scratch server's end")


STOPPED_WHILE_THE_SERVER_STARTS = """
import subprocess, sys, time
from pathlib import Path
from checks.backup import cli

class Popen(subprocess.Popen):
    def __init__(self, command, **more):
        super().__init__(command, **more)
        if str(command[0]).endswith("/postgres"):
            state = Path(command[2], "postmaster.pid")
            while not state.exists() or "ready" not in state.read_text():
                time.sleep(0.01)
            sys.exit(143)

subprocess.Popen = Popen
cli.main(sys.argv[1:])
"""


def test_a_backup_stopped_before_it_knows_its_server_still_ends_it(out: Path, notes: str) -> None:
    given = command(out)
    at = given.index("backup")
    stopped = [*given[: at - 2], "-c", STOPPED_WHILE_THE_SERVER_STARTS, *given[at + 1 :]]

    done = subprocess.run(stopped, env=environment(notes), cwd="/", timeout=60, check=False)

    assert done.returncode == 143
    assert files(out) == set()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(out) in " ".join(p.info["cmdline"] or [])]


def scratch_server(out: Path) -> psutil.Process | None:
    for pid_file in out.glob(".scratch-*/data/postmaster.pid"):
        pid = int(pid_file.read_text().split()[0])
        # While initdb is at work the number is negative: no server yet.
        return psutil.Process(pid) if pid > 0 else None
    return None


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("postgresql://nobody:hidden@127.0.0.1:1/notes", 4, "Check DATABASE_URL"),
        ("hidden", 2, "not a DSN"),
        ("", 2, "DATABASE_URL is not exported"),
    ],
)
def test_a_database_that_cannot_be_reached_is_no_backup(out: Path, url: str, status: int, words: str) -> None:
    done = subprocess.run(
        command(out), env=environment(url), cwd="/", capture_output=True, text=True, check=False
    )

    assert done.returncode == status
    assert words in done.stdout + done.stderr
    assert "hidden" not in done.stdout + done.stderr
    assert files(out) <= set()


def test_too_little_space_is_seen_before_the_dump(
    notes: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from checks.base.postgres_tools import Tools

    monkeypatch.setattr(os, "geteuid", lambda: 1)
    plan = make.BackupPlan(notes, out, Tools(BIN), "production", "abc", free_bytes=lambda _: 1024**2)

    with pytest.raises(CannotMeasure, match="1 MB free; dump and proof may need"):
        make.backup(plan)

    assert files(out) == set()
