"""What a target's journal adds up to, without all of it being read, and with parts of it damaged.

Two files lie beside the journal, each under a digest of itself. ``snapshot.json`` is the state at one entry:
only what follows it is read. ``way_back.json`` is what a rollback needs, whole after every change. Neither is
the truth where the journal can be read, so losing one costs time and nothing else.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rollout.files import write_bytes
from rollout.target import fold as folding
from rollout.target import state as states
from rollout.target.fold import fold
from rollout.target.journal import BrokenJournal, Entry, Journal, Place, chained, encoded
from rollout.target.state import State, state_of

# So many entries are read beside a snapshot before another is written.
TAIL = 32
ESSENTIAL = ("slots", "shares", "rollout", "restoration", "flags", "rollback")


@dataclass(frozen=True)
class Snapshot:
    """The state at an entry; ``place`` is where that entry begins, ``hash`` its own."""

    place: Place = field(default_factory=Place)
    hash: str = ""
    state: State = field(default_factory=State)

    @property
    def seq(self) -> int:
        return self.place.seq + 1 if self.hash else 0


class History(Journal):
    """A journal with its snapshot and its way back."""

    def __init__(self, path: Path, clock: Any = time.time) -> None:
        super().__init__(path, clock)
        self.snapshot_path = path.with_name("snapshot.json")
        self.way_back_path = path.with_name("way_back.json")
        self._seen: tuple[int, Snapshot] = (0, Snapshot())
        self._kept = 0

    def state(self) -> State:
        """Return what the journal adds up to.

        :raises BrokenJournal: what follows the snapshot is damaged, or ends before what was once there.
        """
        file, since = self._file(), self._seen[1]
        if file != self._seen[0]:
            since = self._snapshot()
            self._kept = since.seq
        # Before the journal is read: what somebody adds meanwhile is no entry that is missing.
        known = self._of_this_file(self.way_back_path, file).get("seq", 0)
        found = self.read(since.place)
        if since.hash and (not found or found[0][1].hash != since.hash):
            raise self.broken(f"entry {since.seq}", "a snapshot knows it, and it is not there", since.seq)
        state = fold((entry for _, entry in found[1 if since.hash else 0 :]), since.state)
        seen = Snapshot(found[-1][0], found[-1][1].hash, state) if found else Snapshot()
        if known > seen.seq and self._file() == file:
            raise self.broken(f"entry {known}", f"the last one is {seen.seq}", seen.seq + 1)
        self._seen = (file, seen)
        if seen.seq - self._kept >= TAIL:
            self._keep(seen)
        return state

    def append(self, owner: str, event: str, **data: Any) -> Entry:
        """Add one entry, and write the way back that is true with it."""
        entry = super().append(owner, event, **data)
        with suppress(OSError, BrokenJournal):
            self._keep_way_back(entry, self.state())
        return entry

    def readable_state(self) -> State:
        """Return what is known where the journal is damaged: what can be read of it, and the way back."""
        state = State()
        for entry in self.readable():
            with suppress(BrokenJournal):
                state = fold([entry], state)
        known = state_of(_read(self.way_back_path))
        if not known.slots:
            return state
        return replace(state, **{name: getattr(known, name) for name in ESSENTIAL})

    def replace_damaged(self, owner: str, reason: str) -> State:
        """Begin a new journal with what is still known; the damaged one stays beside it."""
        kept = self.path.with_name(time.strftime("journal.damaged-%Y%m%dT%H%M%S.jsonl", time.gmtime()))
        state = asdict(self.readable_state())
        first = chained(
            None,
            self.clock(),
            owner,
            "journal.replaced",
            {"damaged": str(kept), "why": reason, "state": state},
        )
        with suppress(FileExistsError, FileNotFoundError):
            os.link(self.path, kept)
        write_bytes(self.path, encoded(first))
        self._keep_way_back(first, self.state())
        return self.state()

    def _file(self) -> int:
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return 0

    def _snapshot(self) -> Snapshot:
        written = self._of_this_file(self.snapshot_path, self._file())
        if written.get("by") != _code():
            return Snapshot()
        return Snapshot(Place(**written["place"]), written["hash"], state_of(written["state"]))

    def _of_this_file(self, path: Path, file: int) -> dict[str, Any]:
        """Return what was written of this journal, nothing where it is of one that was replaced."""
        written = _read(path)
        return written if written.get("file") == file else {}

    def _keep(self, seen: Snapshot) -> None:
        with suppress(OSError):
            _write(self.snapshot_path, {"file": self._file(), "by": _code(), **asdict(seen)})
            self._kept = seen.seq

    def _keep_way_back(self, entry: Entry, state: State) -> None:
        whole = asdict(state)
        essential = {name: whole[name] for name in ESSENTIAL}
        _write(self.way_back_path, {"file": self._file(), "seq": entry.seq, "at": entry.at, **essential})


def _code() -> str:
    """Return a digest of what folds: a snapshot that another kit made is not gone on from."""
    digest = hashlib.sha256()
    for module in (folding, states):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def _write(path: Path, document: Mapping[str, Any]) -> None:
    body = json.dumps(document, separators=(",", ":")).encode()
    write_bytes(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body, durable=False)


def _read(path: Path) -> dict[str, Any]:
    """Return a document, empty where it is missing or damaged."""
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return {}
    document = json.loads(body)
    return document if isinstance(document, dict) else {}
