"""What is kept of what was built: the newest of each kind, and nothing that a build is at."""

import os
import time
from pathlib import Path

import pytest

from rollout.build import cache
from rollout.files import write_json

DAYS_AGO = time.time() - 3 * 24 * 3600


def made(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("built")
    os.utime(path, (DAYS_AGO + number, DAYS_AGO + number))
    return path


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A cache with five of each kind, numbered from the oldest."""
    for number in range(5):
        for ending in (".tar.gz", ".cdx.json", ".intoto.json"):
            made(tmp_path / "artifacts" / f"{number:012x}-{'a' * 12}{ending}", number)
        record = tmp_path / "artifacts" / f"{number:012x}-3.11-x86_64{cache.RECORD}"
        write_json(record, {"path": f"/elsewhere/{number:012x}-{'a' * 12}.tar.gz"})
        made_at = DAYS_AGO + number
        os.utime(record, (made_at, made_at))
        for kind in ("service", "kit"):
            made(tmp_path / f"dependencies-{kind}-{number}.tar.gz", number)
            made(tmp_path / f"dependencies-{kind}-{number}.tar.sha256", number)
        made(tmp_path / f"kit-{number}.tar.gz", number)
    return tmp_path


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.is_file()}


def test_the_newest_of_each_kind_are_kept_with_all_that_belongs_to_them(full: Path) -> None:
    cache.prune(full, 2)

    assert names(full) == {
        f"{name}-{number}{ending}"
        for number in (3, 4)
        for name, ending in (
            ("dependencies-service", ".tar.gz"),
            ("dependencies-service", ".tar.sha256"),
            ("dependencies-kit", ".tar.gz"),
            ("dependencies-kit", ".tar.sha256"),
            ("kit", ".tar.gz"),
        )
    }
    assert {name[:12] for name in names(full / "artifacts")} == {f"{number:012x}" for number in (3, 4)}
    assert len(names(full / "artifacts")) == 8


@pytest.mark.parametrize("keep", [0, 5, 99])
def test_nothing_within_the_bound_is_removed(full: Path, keep: int) -> None:
    before = names(full) | names(full / "artifacts")

    assert cache.prune(full, keep) == []

    assert names(full) | names(full / "artifacts") == before


def test_what_a_build_left_unfinished_goes_after_a_day(full: Path) -> None:
    left, young = full / ".building-old", full / ".building-young"
    for directory in (left, young):
        (directory / "lib").mkdir(parents=True)
    draft = made(full / "artifacts" / f".{0:012x}.4711", 0)
    os.utime(left, (DAYS_AGO, DAYS_AGO))

    cache.prune(full, 5)

    assert not left.exists()
    assert not draft.exists()
    assert young.exists()


def test_what_a_build_is_still_at_stays_however_old_it_is(full: Path) -> None:
    with cache.scratch(full) as directory:
        os.utime(directory, (DAYS_AGO, DAYS_AGO))

        cache.prune(full, 5)

        assert directory.exists()


def test_what_the_kit_did_not_make_is_left_alone(full: Path) -> None:
    others = [made(full / name, 0) for name in ("notes.tar.gz", ".hidden", "artifacts/.keep", "kit.lock")]

    cache.prune(full, 1)

    assert all(path.exists() for path in others)


def test_what_takes_room_is_named_with_its_bound(full: Path) -> None:
    said = cache.show(full, 7)

    assert said.startswith(f"built on this machine, in {full}: ")
    rows = {line.split()[3]: line for line in said.splitlines()[1:]}
    assert rows.keys() == {"artifacts", "dependencies-service", "dependencies-kit", "kit"}
    assert rows["artifacts"].split()[2] == "20"
    assert all(row.endswith("p12_keep_built: 7") for row in rows.values())
