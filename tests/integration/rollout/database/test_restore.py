"""A restore over the live database, stage by stage, with readers all the while."""

import io
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from checks.backup import age, properties
from rollout.cli import host as program
from rollout.database import backup_list, comments, restore_copy, swap
from rollout.errors import Refused, RolloutError
from tests.integration.rollout.database.kept import KeptSite
from tests.integration.rollout.database.readers import Readers
from tests.running import CHECKOUT, UNPRIVILEGED, wait_for

Host = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def host(site: KeptSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    """Run ``p12 host production``, as a playbook does; return its status and answer."""
    monkeypatch.setenv("P12_ROOT", str(site.target.directory.parent))

    def run(*words: str, told: str = "") -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(told))
        capsys.readouterr()
        status = program.main(["production", *words])
        return status, json.loads(capsys.readouterr().out)

    return run


NUMBERS = itertools.count(100)


@pytest.fixture
def number() -> int:
    """The number of a restore that was begun after all others."""
    return next(NUMBERS) * 2


@pytest.fixture(scope="module")
def backup(site: KeptSite) -> str:
    """A verified backup of one note, and one more note and a view after it."""
    site.run("INSERT INTO notes (text) VALUES ('before')")
    made = _back_up(site)
    site.run(
        "INSERT INTO notes (text, timestamp) VALUES ('after', now() AT TIME ZONE 'UTC' + interval '9 s')"
    )
    site.run("INSERT INTO view_log (note_id, fingerprint, day, created_at)"
             " VALUES (1, 'x', '2026-01-01', now() AT TIME ZONE 'UTC' + interval '9 s')")  # fmt: skip
    return made


def test_what_would_be_lost_is_counted_in_the_live_database(site: KeptSite, backup: str) -> None:
    lost = swap.losses(site.target, backup)

    assert (lost["notes"], lost["views"]) == (1, 1)
    assert "1 notes and 1 views newer than that will be lost" in lost["say"]


def test_an_unknown_and_an_unverified_backup_are_refused_by_name(site: KeptSite, backup: str) -> None:
    kept = site.target.directory / "backups"
    (kept / "20200101T000000Z-production-none.dump").write_bytes(b"PGDMP")
    try:
        with pytest.raises(Refused, match="There is no backup nonsense") as unknown:
            restore_copy.copy(site.target, "nonsense", 1)
        with pytest.raises(Refused, match=r"Z-production-none is not verified: it has no manifest"):
            restore_copy.copy(site.target, "20200101T000000Z-production-none", 1)
        listed = restore_copy.listed(site.target)
    finally:
        (kept / "20200101T000000Z-production-none.dump").unlink()

    assert backup in unknown.value.hint
    assert "20200101T000000Z-production-none  not verified" in listed["say"]
    assert [each["id"] for each in listed["backups"]] == [backup]


def test_a_backup_beside_the_live_database_belongs_to_the_service_and_can_go_again(
    site: KeptSite, backup: str
) -> None:
    done = restore_copy.into(site.target, backup, "beside_it")

    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert site.cluster.run(owners, "beside_it") == [("paste12",)]
    assert "public.notes" in done["say"]
    assert "equal" in done["say"]
    typed = shlex.split(done["say"].partition("on its host: ")[2].splitlines()[0])
    asked = [*typed, "-Atc", "SELECT current_database()"]
    assert subprocess.run(asked, check=True, text=True, capture_output=True).stdout == "beside_it\n"
    assert "beside_it" in restore_copy.listed(site.target)["databases"]
    restore_copy.drop(site.target, "beside_it")
    with pytest.raises(Refused, match="paste12 is no database that a restore left"):
        restore_copy.drop(site.target, "paste12")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dbname=paste12", r"'dbname=paste12' is no name for a database\. Accepted: up to 63 of a-z"),
        ("postgresql:///paste12", "is no name for a database"),
        ("Copy", "is no name for a database"),
        ("x" * 64, "is no name for a database"),
        ("paste12", "paste12 is no name for a database beside paste12"),
        ("restored_rehearsal", "restored_rehearsal is no name for a database beside paste12"),
        ("p12_copy_x", "p12_copy_x is no name for a database beside paste12"),
    ],
)
def test_a_restore_beside_the_live_database_never_reaches_it_whatever_name_is_given(
    site: KeptSite, backup: str, name: str, words: str
) -> None:
    before = texts(site)

    with pytest.raises(RolloutError, match=words):
        restore_copy.into(site.target, backup, name)

    assert texts(site) == before


def test_a_copy_that_somebody_else_made_is_not_dropped_for_having_the_same_name(
    site: KeptSite, backup: str
) -> None:
    restore_copy.into(site.target, backup, "taken")

    with pytest.raises(RolloutError, match="Database taken is there already"):
        restore_copy.into(site.target, backup, "taken")
    with (
        comments.restore_lock(site.server, "under_way"),
        pytest.raises(Refused, match="restored by somebody else"),
    ):
        restore_copy.into(site.target, backup, "under_way")

    assert texts(site, "taken") == ["before"]
    restore_copy.drop(site.target, "taken")


def test_a_killed_restore_beside_the_live_database_is_listed_and_can_be_run_again_or_dropped(
    site: KeptSite, backup: str
) -> None:
    into = f"restore_copy.into(target, {backup!r}, 'killed')"
    _killed(site, into, "checks.backup.verify.fill", after=True)
    assert re.search(
        "killed .* unfinished, beside the live database", restore_copy.listed(site.target)["say"]
    )

    assert restore_copy.into(site.target, backup, "killed")["changed"]
    restore_copy.drop(site.target, "killed")
    _killed(site, into, "checks.backup.verify.fill", after=False)
    restore_copy.drop(site.target, "killed")

    assert "killed" not in restore_copy.listed(site.target)["databases"]
    _killed(site, f"restore_copy.rehearse(target, {backup!r})", "checks.backup.verify.fill", after=True)
    assert restore_copy.rehearse(site.target, backup)["changed"]


@pytest.mark.parametrize("stage", ["losses", "into", "copy --restoration=99999"])
def test_too_little_space_at_the_live_database_is_seen_before_anything_is_restored(
    site: KeptSite, backup: str, host: Host, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    size = backup_list.require_verified(site.target.directory / "backups", backup).manifest.database_bytes
    monkeypatch.setattr(restore_copy, "free_bytes", lambda _: int(1.3 * size + backup_list.MARGIN_BYTES) - 1)

    status, answer = host("restore", *stage.split(), f"--backup={backup}")

    assert status == 1
    assert re.search(r"data has \d+ MB free; restoring .* needs \d+ MB", answer["error"])
    assert "restore --drop NAME" in answer["hint"]
    assert restore_copy.listed(site.target)["databases"] == {}


def test_writers_are_named_while_the_database_should_stand_still(
    site: KeptSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(swap, "QUIET_DEADLINE_SECONDS", 0.6)
    assert "stand still" in swap.await_quiet(site.target)["say"]

    writer = psycopg2.connect(site.cluster.url("paste12") + "?application_name=stray")
    try:
        writer.cursor().execute("UPDATE notes SET likes = likes")
        with pytest.raises(Refused, match=r"something still writes.*stray"):
            swap.await_quiet(site.target)
    finally:
        writer.close()


def test_a_restore_killed_in_each_phase_is_done_by_running_it_again_and_readers_never_fail(
    site: KeptSite, backup: str
) -> None:
    with Readers(site.slot.urls).reading() as readers:
        for after in (False, True):
            _killed(
                site, f"restore_copy.copy(target, {backup!r}, 7)", "checks.backup.verify.fill", after=after
            )
            assert comments.mark_of(site.server, comments.copy_name(backup)) == {"unfinished": backup}
        copy = restore_copy.copy(site.target, backup, 7)
        assert copy["changed"]
        assert not restore_copy.copy(site.target, backup, 7).get("changed")

        swapping = f"swap.swap(target, {backup!r}, 7)"
        _killed(site, swapping, "rollout.database.swap._exchange", after=False)
        assert texts(site) == ["before", "after"]
        killed_at = time.monotonic()
        _killed(site, swapping, "rollout.database.swap._exchange", after=True)
        assert texts(site) == ["before"]
        done = swap.swap(site.target, backup, 7)
        wait_for(lambda: readers.served(killed_at), "readers being served from what was restored")

    assert not done.get("changed")
    assert restore_copy.copy(site.target, backup, 7)["swapped"]
    assert texts(site, done["replaced"]) == ["before", "after"]
    assert readers.failed() == []
    assert readers.longest() < site.target.settings["pause_seconds"]
    restore_copy.drop(site.target, done["replaced"])


def test_a_copy_that_the_service_cannot_read_is_not_swapped(site: KeptSite, backup: str) -> None:
    restore_copy.copy(site.target, backup, 8)
    site.cluster.run("ALTER TABLE notes RENAME TO notas", comments.copy_name(backup))

    with pytest.raises(RolloutError, match="cannot be served from"):
        swap.swap(site.target, backup, 8)

    assert texts(site) == ["before"]
    restore_copy.drop(site.target, comments.copy_name(backup))


@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        ("REVOKE INSERT ON notes FROM paste12", "permission denied for table notes"),
        ("SELECT setval('notes_id_seq', 1, false)", r"duplicate key|A new note got id 1, and \d+ is there"),
        ("ALTER TABLE view_log RENAME TO views", 'relation "view_log" does not exist'),
    ],
)
def test_a_copy_that_the_service_cannot_write_to_is_not_swapped_in_and_trying_leaves_nothing(
    site: KeptSite, backup: str, number: int, spoiled: str, words: str
) -> None:
    restore_copy.copy(site.target, backup, number)
    name = comments.copy_name(backup)
    swap.smoke(site.target, name)
    assert site.cluster.run("SELECT count(*) FROM notes WHERE text = 'smoke'", name) == [(0,)]
    site.cluster.run(spoiled, name)

    with pytest.raises(Refused, match=rf"cannot be served from: .*({words})"):
        swap.swap(site.target, backup, number)

    restore_copy.give_up(site.target, backup, number)


def test_an_id_of_a_note_that_is_lost_is_not_given_out_again(
    site: KeptSite, backup: str, number: int
) -> None:
    site.run("SELECT setval('notes_id_seq', 4711)")
    restore_copy.copy(site.target, backup, number)

    swapped = swap.swap(site.target, backup, number)

    assert site.cluster.run("SELECT nextval('notes_id_seq')", "paste12") == [(4712,)]
    restore_copy.drop(site.target, swapped["replaced"])


OF_ITS_OWN = """
ALTER DATABASE paste12 SET statement_timeout = '77s';
ALTER DATABASE paste12 SET search_path = public, "Odd one";
ALTER ROLE paste12 IN DATABASE paste12 SET work_mem = '7MB';
ALTER DATABASE paste12 CONNECTION LIMIT 77;
REVOKE CONNECT ON DATABASE paste12 FROM PUBLIC;
GRANT CONNECT ON DATABASE paste12 TO pg_monitor
"""


def test_what_belongs_to_the_live_database_belongs_to_what_is_restored_over_it(
    site: KeptSite, backup: str, number: int
) -> None:
    for statement in OF_ITS_OWN.strip().split(";"):
        site.cluster.run(statement)
    comment = "shobj_description((SELECT oid FROM pg_database WHERE datname = 'paste12'), 'pg_database')"
    noted = json.dumps(comments.mark_of(site.server, "paste12"))
    site.cluster.run(f"COMMENT ON DATABASE paste12 IS 'ours,\nsince 2019\n{noted}'")
    before = belonging(site)
    restore_copy.copy(site.target, backup, number)

    swapped = swap.swap(site.target, backup, number)

    assert replace(belonging(site), comment="") == replace(before, comment="")
    assert before.connection_limit == 77
    assert ("PUBLIC", "CONNECT", False) not in before.privileges
    assert ("", "search_path", 'public, "Odd one"') in before.settings
    assert site.cluster.run(f"SELECT {comment}")[0][0].startswith("ours,\nsince 2019\n")
    assert comments.mark_of(site.server, "paste12")["replaced"] == swapped["replaced"]
    restore_copy.drop(site.target, swapped["replaced"])


def belonging(site: KeptSite) -> properties.Properties:
    with site.server.cursor() as cursor:
        return properties.read(cursor.connection, "paste12")


def test_a_copy_with_another_locale_than_the_live_database_is_not_swapped_in(
    site: KeptSite, backup: str, number: int
) -> None:
    restore_copy.copy(site.target, backup, number)
    name = comments.copy_name(backup)
    site.cluster.run(f"DROP DATABASE {name}")
    site.cluster.run(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'")
    with site.server.cursor() as cursor:
        comments.set_mark(cursor, name, {"backup": backup, "restoration": number})

    with pytest.raises(Refused, match=r"paste12 has what its copy .* has not: locale .* there .*'de'"):
        swap.swap(site.target, backup, number)

    restore_copy.give_up(site.target, backup, number)


def test_a_restore_that_was_given_up_is_never_swapped_in_by_whoever_wakes_up(
    site: KeptSite, backup: str, number: int
) -> None:
    restore_copy.copy(site.target, backup, number)

    answer = restore_copy.give_up(site.target, backup, number)

    assert answer["replaced"] == ""
    with pytest.raises(Refused, match="was given up"):
        swap.swap(site.target, backup, number)
    with pytest.raises(Refused, match="was given up"):
        restore_copy.copy(site.target, backup, number)
    assert comments.copy_name(backup) not in restore_copy.listed(site.target)["databases"]


def test_a_copy_of_another_restore_is_restored_again_and_not_swapped_in(
    site: KeptSite, backup: str, number: int
) -> None:
    restore_copy.copy(site.target, backup, number)
    site.cluster.run("UPDATE notes SET text = 'forged'", comments.copy_name(backup))

    with pytest.raises(Refused, match=r"not a finished copy .* for restore"):
        swap.swap(site.target, backup, number + 1)
    assert restore_copy.copy(site.target, backup, number + 1)["changed"]

    assert texts(site, comments.copy_name(backup)) == ["before"]
    restore_copy.give_up(site.target, backup, number + 1)


def test_giving_up_after_the_swap_says_that_the_backup_is_live(
    site: KeptSite, backup: str, number: int
) -> None:
    restore_copy.copy(site.target, backup, number)
    swapped = swap.swap(site.target, backup, number)

    answer = restore_copy.give_up(site.target, backup, number)

    assert answer["replaced"] == swapped["replaced"]
    assert "is live already" in answer["say"]
    restore_copy.drop(site.target, swapped["replaced"])


def test_nothing_is_swapped_while_something_writes(
    site: KeptSite, backup: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "QUIET_DEADLINE_SECONDS", 0.6)
    restore_copy.copy(site.target, backup, number)
    writer = psycopg2.connect(site.cluster.url("paste12") + "?application_name=stray")
    try:
        writer.cursor().execute("UPDATE notes SET likes = likes")
        with pytest.raises(Refused, match=r"something still writes.*stray"):
            swap.swap(site.target, backup, number)
    finally:
        writer.close()
    restore_copy.give_up(site.target, backup, number)


@pytest.fixture
def encrypted(site: KeptSite, backup: str) -> Iterator[tuple[str, age.Key]]:
    """A verified backup that only one private key opens; gone after the test."""
    key = age.new_key()
    made = _back_up(site, "--age-recipient", key.recipient)
    assert made != backup
    yield made, key
    for path in (site.target.directory / "backups").glob(f"{made}*"):
        path.unlink()


def test_an_encrypted_backup_comes_back_with_its_key_from_standard_input(
    site: KeptSite, encrypted: tuple[str, age.Key], host: Host
) -> None:
    made, key = encrypted

    status, answer = host(
        "restore", "into", f"--backup={made}", "--name=opened", "--identity", told=key.identity
    )

    assert status == 0, answer
    assert texts(site, "opened") == texts(site)
    assert key.identity not in json.dumps(answer)
    restore_copy.drop(site.target, "opened")


@pytest.mark.parametrize("action", ["losses", "into", "rehearse", "copy --restoration=99999"])
def test_an_encrypted_backup_without_its_key_is_refused_with_what_to_give(
    encrypted: tuple[str, age.Key], host: Host, action: str
) -> None:
    made, _ = encrypted

    words = ("restore", *action.split(), f"--backup={made}")
    without = host(*words)
    wrong = host(*words, "--identity", told=age.new_key().identity)

    assert [status for status, _ in (without, wrong)] == [1, 1]
    assert f"{made} is encrypted to age1" in without[1]["error"]
    assert "Give the private key: --identity FILE" in without[1]["error"]
    assert "cannot be opened with the key that was given: age failed" in wrong[1]["error"]


def texts(site: KeptSite, database: str = "paste12") -> list[object]:
    """The notes of these tests; others are visitors'."""
    found = site.cluster.run("SELECT text FROM notes WHERE text IN ('before', 'after') ORDER BY id", database)
    return [text for (text,) in found]


def _back_up(site: KeptSite, *more: str) -> str:
    kept = site.target.directory / "backups"
    if UNPRIVILEGED:
        subprocess.run(["chown", "-R", "nobody:nogroup", str(kept)], check=True)
    words = [sys.executable, "-P", "-m", "checks", "backup", "--out", kept, "--target", "production"]
    subprocess.run(
        [*UNPRIVILEGED, *map(str, words), "--release", "0123456789ab", "--bin-dir", _bin(site), *more],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "DATABASE_URL": site.cluster.url("paste12")},
        check=True,
        capture_output=True,
    )
    return backup_list.kept(kept)[-1].id


def _bin(site: KeptSite) -> str:
    return str(site.target.settings["postgres_bin"])


def _killed(site: KeptSite, doing: str, where: str, *, after: bool) -> None:
    """Run a stage in a program of its own, which kills itself before or after one of its functions."""
    module, _, name = where.rpartition(".")
    program = f"""
import importlib, os, signal
from pathlib import Path
from rollout.database import restore_copy, swap
from rollout.target.target import Target
module = importlib.import_module({module!r})
function = getattr(module, {name!r})
def fatal(*given, **named):
    if {after}:
        function(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, {name!r}, fatal)
target = Target.load("production", Path({str(site.target.directory.parent)!r}))
{doing}
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        cwd=CHECKOUT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, json.dumps([done.returncode, done.stderr[-800:]])
