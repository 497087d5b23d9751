"""Files that survive a crash, locks that do not, and tarballs that nobody trusts."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rollout.errors import Refused
from rollout.waiting import attempts

if TYPE_CHECKING:
    import tarfile


def write_bytes(path: Path, content: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replace ``path`` by ``content`` so that a reader, or a crash, sees all of it or none.

    What is not ``durable`` may be lost with the power, and does not wait for the disk.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    if durable:
        sync_directory(path.parent)


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    write_bytes(path, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n", mode)


def read_json(path: Path) -> Any:
    """Return the parsed file, or ``None`` where there is none."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def content_sha256(path: Path) -> str:
    """Return the SHA-256 of what a gzip file holds: two compressors give other bytes for the same content.

    It is what ``gzip -dc FILE | sha256sum`` shows.

    :raises OSError: the file cannot be read, or was cut short or damaged.
    """
    import gzip  # only here: a rollback need not wait for it
    import hashlib
    import zlib

    try:
        with gzip.open(path) as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (EOFError, zlib.error) as error:
        raise OSError(f"{path} is damaged: {error}") from error


@contextmanager
def file_lock(path: Path, wait_seconds: float = 5.0) -> Iterator[None]:
    """Hold an exclusive file lock; the kernel drops it when its holder dies.

    :raises Refused: somebody else holds it for longer than ``wait_seconds``.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not any(_is_locked(descriptor) for _ in attempts(wait_seconds, pause=0.01)):
            raise Refused(
                f"{path} has been locked for {wait_seconds:g} s by another p12 (pid {_holder(descriptor)}).",
                "Wait for it, or end it; then the same command again",
            )
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Lock the file, and say whether that was possible."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    """Return the pid that the kernel lists for a locked file; see proc(5), /proc/locks."""
    inode = f":{os.fstat(descriptor).st_ino}"
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return next((row[4] for row in rows if row[1] == "FLOCK" and row[5].endswith(inode)), "unknown")


def unpack(archive: "tarfile.TarFile", directory: Path) -> None:
    """Extract a tarball without trusting it; Python before 3.11.4 has no extraction filters.

    :raises tarfile.TarError: a member is a link, a device, or would land outside; nothing was extracted.
    """
    import tarfile  # only here: a rollback need not wait for it

    members = archive.getmembers()
    for member in members:
        path = PurePosixPath(member.name)
        if not (member.isreg() or member.isdir()) or path.is_absolute() or ".." in path.parts:
            raise tarfile.TarError(f"{member.name} is not a plain file below the destination")
        member.mode = 0o755 if member.isdir() else 0o644
        member.uid = member.gid = 0
        member.uname = member.gname = ""
    directory.mkdir(parents=True, exist_ok=True)
    archive.extractall(directory, members)  # noqa: S202
