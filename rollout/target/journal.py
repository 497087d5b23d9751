"""The append-only, hash-chained record of everything that changed a target.

One JSON object a line: ``seq``, ``at`` (Unix seconds), ``owner``, ``event``, ``data``, ``previous`` (hash of
the line before) and ``hash`` (SHA-256 over the rest, canonically encoded).
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rollout.errors import RolloutError
from rollout.files import file_lock, sync_directory

GENESIS = "0" * 64


class BrokenJournal(RolloutError):
    """The journal was altered or damaged."""


@dataclass(frozen=True)
class Entry:
    """One line of the journal."""

    seq: int
    at: float
    owner: str
    event: str
    data: Mapping[str, Any] = field(default_factory=dict)
    previous: str = GENESIS
    hash: str = ""


@dataclass(frozen=True)
class Place:
    """Where an entry begins in the file, and what comes before it: enough to read on from there."""

    offset: int = 0
    seq: int = 0
    hash: str = GENESIS


class Journal:
    """The journal in one file. Appending is atomic and durable before it returns."""

    def __init__(self, path: Path, clock: Any = time.time) -> None:
        self.path = path
        self.clock = clock

    def entries(self) -> list[Entry]:
        """Return every entry, the whole chain verified.

        :raises BrokenJournal: a line is not what was written.
        """
        return [entry for _, entry in self.read(Place())]

    def read(self, place: Place) -> list[tuple[Place, Entry]]:
        """Return the entries from a place on, the chain verified from there, each with its own place.

        A last line without its newline is an append that a crash cut short: it never took effect and is
        left out.

        :raises BrokenJournal: a line is not what was written.
        """
        found = []
        for line in self._lines(place.offset):
            entry = self._verified(line, place)
            found.append((place, entry))
            place = Place(place.offset + len(line) + 1, entry.seq, entry.hash)
        return found

    def readable(self) -> list[Entry]:
        """Return what can be read of a damaged journal: every entry that has its own hash."""
        entries = []
        for line in self._lines(0):
            with suppress(ValueError):
                entries.append(_parsed(line))
        return entries

    def append(self, owner: str, event: str, **data: Any) -> Entry:
        """Add one entry and return it; on disk before this returns. Only the last line is read for it."""
        with file_lock(self.path.with_suffix(".lock")):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "r+b") as file:
                line, end = _last_line(file)
                last = self._own(line) if line else None
                entry = chained(last, self.clock(), owner, event, data)
                file.truncate(end)
                file.seek(end)
                file.write(encoded(entry))
                file.flush()
                os.fsync(file.fileno())
            if last is None:
                sync_directory(self.path.parent)
            return entry

    def _lines(self, offset: int) -> list[bytes]:
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                return file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return []

    def _own(self, line: bytes, seq: int | None = None) -> Entry:
        try:
            return _parsed(line)
        except ValueError as error:
            words = "its last entry" if seq is None else f"entry {seq}"
            raise self.broken(words, f"it cannot be read: {error}", seq) from error

    def _verified(self, line: bytes, place: Place) -> Entry:
        entry = self._own(line, place.seq + 1)
        if (entry.seq, entry.previous) != (place.seq + 1, place.hash):
            reason = "its hash does not follow from the entry before"
            raise self.broken(f"entry {place.seq + 1}", reason, place.seq + 1)
        return entry

    def broken(self, words: str, reason: str, seq: int | None = None) -> BrokenJournal:
        good = "" if seq is None else f"; the last good entry is {seq - 1}"
        return BrokenJournal(
            f"{self.path}: {words} was altered or damaged: {reason}.",
            f"Compare it with your copy of the journal{good}. ./p12 rollback and flags off work all the same",
        )


def chained(before: Entry | None, at: float, owner: str, event: str, data: Mapping[str, Any]) -> Entry:
    """Return the entry that follows ``before``, with its hash."""
    body: dict[str, Any] = {
        "seq": before.seq + 1 if before else 1,
        "at": at,
        "owner": owner,
        "event": event,
        "data": dict(data),
        "previous": before.hash if before else GENESIS,
    }
    return Entry(**body, hash=hashlib.sha256(_encode(body)).hexdigest())


def encoded(entry: Entry) -> bytes:
    """Return an entry's line."""
    return _encode(vars(entry)) + b"\n"


def _parsed(line: bytes) -> Entry:
    """Return a line's entry; what a newer kit says beside is covered by the hash and left out.

    :raises ValueError: it is not what was written.
    """
    try:
        body = json.loads(line)
        # Compared as bytes: the same value can be written in other ways.
        if _encode(body) != line:
            raise ValueError("it is written in another way")
        claimed = body.pop("hash")
        if claimed != hashlib.sha256(_encode(body)).hexdigest():
            raise ValueError("its hash is another")
        names = ("seq", "at", "owner", "event", "data", "previous")
        return Entry(**{name: body[name] for name in names}, hash=claimed)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{error!r}") from error


def _last_line(file: BinaryIO) -> tuple[bytes, int]:
    """Return the last whole line and where it ends; without one, nothing and 0."""
    size, back = file.seek(0, os.SEEK_END), 4096
    while True:
        start = max(0, size - back)
        file.seek(start)
        content = file.read(size - start)
        end = content.rfind(b"\n") + 1
        begin = content.rfind(b"\n", 0, max(0, end - 1)) + 1
        if begin or not start:
            return content[begin : end - 1] if end else b"", start + end
        back *= 8


def _encode(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
