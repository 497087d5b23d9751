"""The append-only, hash-chained record of everything that changed a target.

One JSON object a line: ``seq``, ``at`` (Unix seconds), ``owner``, ``event``, ``data``, ``previous`` (hash of
the line before) and ``hash`` (SHA-256 over the rest, canonically encoded).
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


class Journal:
    """The journal in one file. Appending is atomic and durable before it returns."""

    def __init__(self, path: Path, clock: Any = time.time) -> None:
        self.path = path
        self.clock = clock

    def entries(self) -> list[Entry]:
        """Return every entry, the chain verified.

        A last line without its newline is an append that a crash cut short: it never took effect and is
        left out.

        :raises BrokenJournal: a line is not what was written.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        entries: list[Entry] = []
        for line in lines[:-1]:
            entries.append(self._verified(line, entries[-1] if entries else None))
        return entries

    def append(self, owner: str, event: str, **data: Any) -> Entry:
        """Add one entry and return it; on disk before this returns."""
        with file_lock(self.path.with_suffix(".lock")):
            entries = self.entries()
            self._cut_torn_line()
            entry = chained(entries[-1] if entries else None, self.clock(), owner, event, data)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(_encode(vars(entry)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if not entries:
                sync_directory(self.path.parent)
            return entry

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.truncate(self.path, whole)

    def _verified(self, line: bytes, before: Entry | None) -> Entry:
        try:
            entry = Entry(**json.loads(line))
            expected = chained(before, entry.at, entry.owner, entry.event, entry.data)
        except (ValueError, TypeError) as error:
            raise self._broken(before, f"it cannot be read: {error}") from error
        # Compared as bytes: the same value can be written in other ways.
        if line != _encode(vars(expected)):
            raise self._broken(before, "its hash does not follow from the entry before")
        return entry

    def _broken(self, before: Entry | None, reason: str) -> BrokenJournal:
        number = before.seq + 1 if before else 1
        return BrokenJournal(
            f"{self.path}: entry {number} was altered or damaged: {reason}.",
            f"Compare it with your copy of the journal; the last good entry is {number - 1}.",
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


def _encode(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
