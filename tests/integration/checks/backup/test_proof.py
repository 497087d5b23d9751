"""The proof is put to the test: whatever is wrong with an archive, it is refused."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from checks.backup import age, properties, smoke, verify
from checks.backup.archive import Archive
from checks.backup.make import BackupPlan, Dumped, Files, dump
from checks.backup.manifest import Manifest, sha256
from checks.base.errors import CannotMeasure
from checks.base.postgres import connected
from checks.base.postgres_tools import Tools, environment
from tests.integration.checks.backup.backups import ROWS
from tests.integration.checks.conftest import SCHEMA
from tests.integration.checks.servers import BIN, ROOT, Cluster

TOOLS = Tools(BIN, seconds=30)
MANY = """
INSERT INTO view_log (note_id, fingerprint, day)
SELECT i % 500 + 1, md5(i::text), '2030-01-02' FROM generate_series(1, 10000) AS i
"""
FLIPS = 200


@dataclass(frozen=True)
class Made:
    """A dump of the database ``proven``, and what that held."""

    archive: Path
    dumped: Dumped


@pytest.fixture(scope="module")
def made(scratch: Path, postgres: Cluster) -> Iterator[Made]:
    postgres.run("CREATE DATABASE proven")
    postgres.run(SCHEMA + ROWS + MANY, "proven")
    place = scratch / "archives"
    place.mkdir()
    yield made_of(postgres, "proven", place)
    shutil.rmtree(place)


def made_of(postgres: Cluster, name: str, place: Path, key: age.Key | None = None) -> Made:
    plan = BackupPlan(postgres.url(name), place, TOOLS, "production", "abc")
    files = Files(place / f"{name}.dump", place / f"{name}.globals.sql")
    if key:
        files = replace(files, recipients=(key.recipient,), identity=key.identity)
    with connected(plan.url) as connection:
        return Made(files.archive, dump(plan, files, connection))


@pytest.fixture
def proven(postgres: Cluster) -> Iterator[Callable[[Archive, Dumped], bool]]:
    """Says whether an archive is taken for what was dumped; an archive that cannot be read is not."""

    def is_proven(archive: Archive, dumped: Dumped) -> bool:
        postgres.run("DROP DATABASE IF EXISTS restored")
        url = postgres.url("postgres")
        try:
            with connected(url) as connection:
                source = properties.read(connection, "proven")
            return verify.is_proven(
                verify.examine(TOOLS, archive, dumped.contents, dumped.smoke, source, url)
            )
        except CannotMeasure:
            return False

    yield is_proven
    postgres.run("DROP DATABASE IF EXISTS restored")


Proven = Callable[[Archive, Dumped], bool]


def test_an_archive_as_it_was_dumped_is_proven(made: Made, proven: Proven) -> None:
    assert made.dumped.smoke["notes"] == 20
    assert proven(Archive(made.archive), made.dumped)


def test_what_the_service_asks_fits_the_tables_that_its_migrations_make(postgres: Cluster) -> None:
    postgres.run("CREATE DATABASE migrated")
    migrating = [sys.executable, "-m", "app.migrate", "upgrade"]
    variables = {"PATH": os.environ["PATH"], "DATABASE_URL": postgres.url("migrated")}
    subprocess.run(migrating, cwd=ROOT, env=variables, check=True, capture_output=True)

    with connected(postgres.url("migrated")) as connection:
        assert smoke.read(connection)["notes"] == 0
        assert smoke.write(connection) == ""
    assert postgres.run("SELECT count(*) FROM notes", "migrated") == [(0,)]
    postgres.run("DROP TABLE view_log", "migrated")
    with connected(postgres.url("migrated")) as connection:
        assert "view_log" in smoke.write(connection)


COPIES = {
    "a row changed": "UPDATE notes SET views = views + 1 WHERE id = 7",
    "a row added": "INSERT INTO view_log (note_id, fingerprint, day) VALUES (1, 'another', '2030-01-01')",
    "a row lost": "DELETE FROM view_log WHERE fingerprint = 'visitor 7'",
    "a table missing": "DROP TABLE view_queue",
    "a constraint missing": "ALTER TABLE notes DROP CONSTRAINT notes_pkey",
    "a sequence behind": "SELECT setval('notes_id_seq', 3)",
    "another database": "DROP TABLE view_log, view_queue, notes; CREATE TABLE notes (id int)",
}


@pytest.mark.parametrize("change", COPIES)
def test_an_archive_of_anything_else_is_refused(
    made: Made, postgres: Cluster, proven: Proven, change: str, tmp_path: Path
) -> None:
    postgres.run("DROP DATABASE IF EXISTS other")
    postgres.run("CREATE DATABASE other TEMPLATE proven")
    postgres.run(COPIES[change], "other")
    other = tmp_path / "other.dump"
    TOOLS.run("pg_dump", ["-Fc", "-Z1", "-f", other], environment(postgres.url("other")))

    assert not proven(Archive(other), made.dumped)


def test_an_old_dump_is_refused_for_what_was_written_since(
    made: Made, postgres: Cluster, proven: Proven, tmp_path: Path
) -> None:
    postgres.run("DROP DATABASE IF EXISTS other")
    postgres.run("CREATE DATABASE other TEMPLATE proven")
    postgres.run("INSERT INTO notes (text) VALUES ('since then')", "other")

    assert not proven(Archive(made.archive), made_of(postgres, "other", tmp_path).dumped)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_archive_is_refused(made: Made, proven: Proven, tmp_path: Path, share: float) -> None:
    cut = tmp_path / "cut.dump"
    cut.write_bytes(made.archive.read_bytes()[: int(made.archive.stat().st_size * share)])

    assert not proven(Archive(cut), made.dumped)


@pytest.fixture(scope="module")
def flipped(made: Made, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The archive many times over, each time with another bit of it wrong."""
    whole, chance = made.archive.read_bytes(), random.Random(12)
    place = tmp_path_factory.mktemp("flipped")
    paths = [place / f"{offset}.dump" for offset in chance.sample(range(len(whole)), FLIPS)]
    for path in paths:
        changed = bytearray(whole)
        changed[int(path.stem)] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
    return paths


def test_of_two_hundred_flipped_bytes_none_is_accepted(made: Made, flipped: list[Path]) -> None:
    size, digest = made.archive.stat().st_size, sha256(made.archive)

    def is_accepted(path: Path) -> bool:
        said = Manifest(
            path.stem, "production", "abc", False, 0, 0, "proven", "", "", "", "UTF8", None,
            archive=path.name, size_bytes=size, sha256=digest,
        )  # fmt: skip
        return verify.is_proven(verify.verify(path, said, TOOLS))

    assert [path for path in flipped if is_accepted(path)] == []


def test_a_flipped_byte_that_passes_without_its_digest_changes_no_row(
    made: Made, proven: Proven, flipped: list[Path]
) -> None:
    def is_readable(path: Path) -> bool:
        try:
            Archive(path).read_to_its_end(TOOLS)
        except CannotMeasure:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        readable = [path for path, said in zip(flipped, pool.map(is_readable, flipped), strict=True) if said]
    passing = [path for path in readable if proven(Archive(path), made.dumped)]

    assert len(readable) < FLIPS / 10
    assert [path for path in passing if rows_of(path) != rows_of(made.archive)] == []


def rows_of(archive: Path) -> list[str]:
    """The rows that an archive would bring back; the statements around them may be spelled differently."""
    done = subprocess.run(
        [BIN / "pg_restore", "--data-only", "-f", "-", archive], capture_output=True, text=True, check=True
    )
    return re.findall(r"(?ms)^COPY [^\n]* FROM stdin;\n(.*?)^\\\.$", done.stdout)


@pytest.fixture(scope="module")
def encrypted(postgres: Cluster, made: Made) -> tuple[Made, age.Key]:
    if not shutil.which("age"):
        pytest.skip("age is not installed: apt-get install age")
    key = age.new_key()
    place = made.archive.parent / "encrypted"
    place.mkdir()
    return made_of(postgres, "proven", place, key), key


def test_an_encrypted_archive_is_proven_by_what_it_decrypts_to(
    encrypted: tuple[Made, age.Key], made: Made, proven: Proven
) -> None:
    sealed, key = encrypted

    assert proven(Archive(sealed.archive, key.identity), made.dumped)
    assert b"visitor" not in sealed.archive.read_bytes()
    assert not proven(Archive(sealed.archive, age.new_key().identity), made.dumped)
    assert not proven(Archive(sealed.archive), made.dumped)


def test_an_encrypted_archive_with_one_byte_flipped_is_never_read(
    encrypted: tuple[Made, age.Key], tmp_path: Path
) -> None:
    sealed, key = encrypted
    whole, chance = sealed.archive.read_bytes(), random.Random(12)
    flipped = tmp_path / "flipped.dump.age"

    for offset in [len(whole) - 1, *chance.sample(range(len(whole)), 30)]:
        changed = bytearray(whole)
        changed[offset] ^= 1 << chance.randrange(8)
        flipped.write_bytes(changed)
        with pytest.raises(CannotMeasure, match=r"age failed"):
            Archive(flipped, key.identity).read_to_its_end(TOOLS)

    os.truncate(flipped, len(whole) - 1)
    with pytest.raises(CannotMeasure, match=r"age failed"):
        Archive(flipped, key.identity).read_to_its_end(TOOLS)
