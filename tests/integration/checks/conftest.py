"""Fixtures of the checks' tests: one cluster a run, empty tables and one front door a test."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.checks.backup.backups import ROWS, backup, name_of
from tests.integration.checks.burst.bursts import burst
from tests.integration.checks.frontdoor import FrontDoor
from tests.integration.checks.servers import BIN, UNPRIVILEGED, Cluster, cluster


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A short path that an unprivileged server may use: a socket's name has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="p12c", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(scratch: Path) -> Iterator[Cluster]:
    if not (BIN / "initdb").exists():
        pytest.skip(f"no Postgres 15 in {BIN}: apt-get install postgresql-15")
    with cluster(scratch / "pg") as made:
        yield made


@pytest.fixture
def database(postgres: Cluster) -> str:
    """A DSN of a database with the service's tables, all of them empty."""
    if not postgres.run("SELECT datname FROM pg_database WHERE datname = 'notes'"):
        postgres.run("CREATE DATABASE notes")
    postgres.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public", "notes")
    postgres.run(SCHEMA, "notes")
    return postgres.url("notes")


@pytest.fixture
def front_door(database: str) -> Iterator[FrontDoor]:
    with FrontDoor(database) as door:
        yield door


@pytest.fixture(scope="session")
def fired(scratch: Path, postgres: Cluster) -> dict[str, Any]:
    """The samples of one healthy burst, as they are kept; change none of it."""
    postgres.run("CREATE DATABASE burst")
    postgres.run(SCHEMA, "burst")
    samples = scratch / "burst.json"
    with FrontDoor(postgres.url("burst")) as door:
        burst(door.url, postgres.url("burst"), "--samples", str(samples), "--instances", door.url)
    return dict(json.loads(samples.read_text()))


@pytest.fixture
def out(scratch: Path) -> Iterator[Path]:
    """A directory that the unprivileged user owns."""
    place = scratch / "backups"
    place.mkdir()
    if UNPRIVILEGED:
        shutil.chown(place, "nobody", "nogroup")
    yield place
    shutil.rmtree(place)


@pytest.fixture
def notes(postgres: Cluster, database: str) -> str:
    postgres.run(ROWS, name_of(database))
    return database


@pytest.fixture
def empty(postgres: Cluster) -> str:
    postgres.run("DROP DATABASE IF EXISTS empty")
    postgres.run("CREATE DATABASE empty")
    return postgres.url("empty")


@pytest.fixture(scope="session")
def made_once(scratch: Path, postgres: Cluster) -> tuple[Path, dict[str, Any]]:
    """One backup, to be copied, and its report."""
    postgres.run("CREATE DATABASE kept")
    postgres.run(SCHEMA + ROWS, "kept")
    place = scratch / "made"
    place.mkdir()
    if UNPRIVILEGED:
        shutil.chown(place, "nobody", "nogroup")
    status, report, said = backup(place, postgres.url("kept"))
    assert status == 0, said
    return place, report


@pytest.fixture
def kept(out: Path, made_once: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    """A backup in ``out``."""
    for path in made_once[0].iterdir():
        copied = Path(shutil.copy(path, out))
        if UNPRIVILEGED:
            shutil.chown(copied, "nobody", "nogroup")
    return made_once[1]


SCHEMA = """
CREATE TABLE notes (
    id serial PRIMARY KEY, text text NOT NULL, timestamp timestamp NOT NULL DEFAULT now(),
    expires_at timestamp, likes int NOT NULL DEFAULT 0, views int NOT NULL DEFAULT 0,
    reports int NOT NULL DEFAULT 0, author_fp varchar(64), deleted_at timestamp
);
CREATE TABLE view_log (
    note_id int NOT NULL, fingerprint varchar(128) NOT NULL, day text NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(), UNIQUE (note_id, fingerprint, day)
);
CREATE TABLE like_log (
    note_id int NOT NULL, fingerprint varchar(128) NOT NULL, created_at timestamp NOT NULL DEFAULT now(),
    UNIQUE (note_id, fingerprint)
);
CREATE TABLE report_log (
    note_id int NOT NULL, fingerprint varchar(128) NOT NULL, reason text,
    created_at timestamp NOT NULL DEFAULT now(), UNIQUE (note_id, fingerprint)
);
CREATE TABLE view_queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note_id int NOT NULL);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('0002');
"""
