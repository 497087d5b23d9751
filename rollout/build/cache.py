"""The cache of what was built on the engineer's machine: what of it is kept.

All in it can be built again from its commit, and hosts keep what a rollback needs themselves.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rollout.files import read_json
from rollout.room import table

RECORD = ".artifact.json"
KINDS = {
    "artifacts": f"artifacts/*{RECORD}",
    "dependencies-service": "dependencies-service-*.tar.gz",
    "dependencies-kit": "dependencies-kit-*.tar.gz",
    "kit": "kit-*.tar.gz",
}
UNFINISHED = (".building-*", "artifacts/.[0-9a-f]*.[0-9]*")
DAY_SECONDS = 24 * 3600.0


@contextmanager
def scratch(cache: Path) -> Iterator[Path]:
    """A directory beside the cache, so that a rename out of it never crosses file systems; locked."""
    cache.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(descriptor)
        shutil.rmtree(directory, ignore_errors=True)


def prune(cache: Path, keep: int) -> list[str]:
    """Keep the ``keep`` newest of each kind, and what a build that ended left unfinished for a day.

    Returns the names of what was removed; with ``keep`` 0 nothing is.
    """
    if not keep:
        return []
    gone = [path for kind in KINDS.values() for path in _newest_first(cache.glob(kind))[keep:]]
    old = time.time() - DAY_SECONDS
    gone += [
        p for each in UNFINISHED for p in cache.glob(each) if p.lstat().st_mtime < old and not _is_held(p)
    ]
    for path in gone:
        for part in _parts(path):
            with suppress(FileNotFoundError):
                part.unlink()
        shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in gone]


def show(cache: Path, keep: int) -> str:
    """Name what of the cache takes room, and the setting that bounds it."""
    things = {name: list(cache.glob(kind.replace(RECORD, ""))) for name, kind in KINDS.items()}
    things["unfinished"] = [path for each in UNFINISHED for path in cache.glob(each)]
    bounds = {name: f"p12_keep_built: {keep}" for name in KINDS} | {"unfinished": "a day"}
    return table(f"built on this machine, in {cache}", things, bounds)


def _newest_first(paths: Iterator[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)


def _parts(path: Path) -> list[Path]:
    """Return the files that go with what is removed, itself last."""
    if path.is_dir():
        return []
    if not path.name.endswith(RECORD):
        return [path.with_suffix(".sha256"), path]
    artifact = Path(read_json(path)["path"]).name.removesuffix(".tar.gz")
    return [*path.parent.glob(f"{artifact}.*"), path]


def _is_held(path: Path) -> bool:
    """Say whether a build that goes on uses a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
