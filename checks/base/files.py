"""Files that are whole or not there, and the locks that say who writes them."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from checks.base.waiting import wait_until

PARTIAL = ".partial"


def write_atomically(path: Path, text: str, mode: int = 0o644, is_durable: bool = False) -> None:
    """Replace a file so that a reader, or whoever comes after a crash, sees the old text or the new.

    ``is_durable`` waits for the disk: then the new text also outlives a power cut.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        publish(partial, path) if is_durable else partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def publish(partial: Path, path: Path) -> None:
    """Give a file that is whole its name, and make both outlive a power cut."""
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def file_lock(path: Path, seconds: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock, which ends with its process; raises BlockingIOError if it stays taken."""
    with path.open("a") as lock:
        if not wait_until(lambda: _is_taken(lock.fileno(), fcntl.LOCK_EX), seconds):
            raise BlockingIOError(f"{path} is locked")
        yield


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds a ``file_lock``."""
    try:
        with path.open() as lock:
            return not _is_taken(lock.fileno(), fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _is_taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
