"""The slot's flags file: read when it changed, replaced as a whole by a signed document."""

import fcntl
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from app.flags import FlagDocument, FlagSet, RefusedDocumentError, effective_flags, parse_document

SIGNATURE_PREFIX = "sha256="

FileKey = tuple[int, int, int]


class StaleGenerationError(ValueError):
    """A document that is not newer than what is in force; carries the generation in force."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"generation {generation} is in force; use a higher one")
        self.generation = generation


@dataclass(frozen=True)
class _Loaded:
    """What one look at the file gave: the last good set, and what is wrong with the file now."""

    key: FileKey | None
    flags: FlagSet
    body: bytes | None
    error: str | None


def signature(secret: str, body: bytes) -> str:
    """Sign a flag document as the ``X-P12-Signature`` header wants it."""
    return SIGNATURE_PREFIX + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_signed(secret: str, body: bytes, given: str) -> bool:
    """Check a signature in constant time; without a secret nothing is signed."""
    return bool(secret) and hmac.compare_digest(signature(secret, body).encode(), given.encode())


class LiveFlags:
    """The flags in force in this process, never older than the file at the time of asking.

    A file that cannot be read or holds a bad document changes nothing: the last good set stays, and
    ``error`` says why. ``path`` may be empty, then the environment and the defaults rule for ever.
    """

    def __init__(self, path: str, target: str, slot: str, environment: Mapping[str, str]) -> None:
        self._path = Path(path) if path else None
        self._target = target
        self._slot = slot
        self._environment = environment
        self._reload = threading.Lock()
        self._loaded = _Loaded(None, effective_flags(None, environment), None, None)

    @property
    def error(self) -> str | None:
        """What is wrong with the file, or None."""
        return self._loaded.error

    @property
    def trusted(self) -> bool:
        """False when the file was bad from the start, so the slot's flags are not known."""
        return self._loaded.error is None or self._loaded.body is not None

    def current(self) -> FlagSet:
        """Return the flags in force; costs one ``stat`` when the file has not changed."""
        if self._path is None:
            return self._loaded.flags
        if self._key_on_disk() != self._loaded.key:
            with self._reload:
                if self._key_on_disk() != self._loaded.key:
                    self._loaded = self._load(self._path)
        return self._loaded.flags

    def replace(self, body: bytes) -> FlagSet:
        """Put a document in force by writing it to the file, whole or not at all.

        The same bytes at the same generation are accepted again, so a push can be repeated.

        :raises RefusedDocumentError: when the document is not for this slot or not valid.
        :raises StaleGenerationError: when it is not newer than what is in force.
        """
        document = parse_document(body, self._target, self._slot)
        if self._path is None:
            raise RefusedDocumentError(
                "bad_document", "P12_FLAGS_FILE", "This process was started without one."
            )
        with _exclusive(self._path.with_name(self._path.name + ".lock")):
            in_force = self.current()
            repeated = document.generation == in_force.generation and body == self._loaded.body
            if document.generation <= in_force.generation and not repeated:
                raise StaleGenerationError(in_force.generation)
            if not repeated or self._loaded.error is not None:
                _write_whole(self._path, body, document.generation)
        return self.current()

    def _key_on_disk(self) -> FileKey | None:
        try:
            return _key(os.stat(self._path)) if self._path else None  # noqa: PTH116 - half the cost of Path.stat
        except OSError:
            return None

    def _load(self, path: Path) -> _Loaded:
        before = self._loaded
        try:
            with path.open("rb") as file:
                key = _key(os.fstat(file.fileno()))
                body = file.read()
        except FileNotFoundError:
            return _Loaded(None, replace(before.flags, sha256=None), before.body, "flags file is missing")
        except OSError as error:
            return _Loaded(before.key, before.flags, before.body, f"flags file: {error.strerror}")
        try:
            document = parse_document(body, self._target, self._slot)
        except RefusedDocumentError as error:
            return _Loaded(key, before.flags, before.body, f"flags file: {error}")
        return _Loaded(key, self._effective(document, body), body, None)

    def _effective(self, document: FlagDocument, body: bytes) -> FlagSet:
        return effective_flags(document, self._environment, hashlib.sha256(body).hexdigest())


def _key(status: os.stat_result) -> FileKey:
    return status.st_mtime_ns, status.st_ino, status.st_size


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_whole(path: Path, body: bytes, generation: int) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - takes the descriptor opened with its mode
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        # Two writes can share a tick of the clock and an inode: the generation makes the time unique.
        modified_ns = int(time.time()) * 1_000_000_000 + generation % 1_000_000_000
        os.utime(temporary, ns=(modified_ns, modified_ns))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
