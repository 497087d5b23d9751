"""The flags: which there are, what their values mean, and the document that carries them."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

ADVISORY_LOCKS = "P12_ENABLE_ADVISORY_LOCKS"
VIEW_QUEUE = "P12_ENABLE_VIEW_QUEUE"
LEGACY_VIEW = "P12_ENABLE_LEGACY_VIEW"
READ_ONLY = "P12_READ_ONLY"

SWITCH = re.compile(r"[01]")
PERCENTAGE = re.compile(r"[01]|(100|[1-9]?[0-9])%")
SWITCH_ACCEPTS = "Use 0 or 1."
PERCENTAGE_ACCEPTS = "Use 0, 1 or a percentage such as 25%."


class Arm(StrEnum):
    """The ways to count a view, of which flags choose one for each note."""

    INLINE = "inline"
    ADVISORY = "advisory"
    QUEUE = "queue"


@dataclass(frozen=True)
class Flag:
    """One switch: its default, whether a share of the notes can have it, and what it does."""

    default: str
    percentage: bool
    help: str

    @property
    def accepts(self) -> str:
        return PERCENTAGE_ACCEPTS if self.percentage else SWITCH_ACCEPTS


FLAGS: Mapping[str, Flag] = {
    ADVISORY_LOCKS: Flag("0", True, "take an advisory lock per note before counting"),
    VIEW_QUEUE: Flag("0", True, "log views at once, let the worker count them"),
    LEGACY_VIEW: Flag("1", False, "serve the alias /api/view"),
    READ_ONLY: Flag("0", False, "answer writes with 503 read_only"),
}


class RefusedDocumentError(ValueError):
    """A flag document that must not take effect: what is wrong, with what, and what is accepted."""

    def __init__(self, error: str, name: str, accepted: str) -> None:
        super().__init__(f"{error}: {name}. {accepted}")
        self.error = error
        self.name = name
        self.accepted = accepted


@dataclass(frozen=True)
class FlagDocument:
    """What one slot of one target shall have; a higher generation replaces a lower one."""

    target: str
    slot: str
    generation: int
    flags: Mapping[str, str]


@dataclass(frozen=True)
class FlagSet:
    """The flags in force: ``values`` holds every known flag, ``source`` where each came from.

    ``sha256`` is of the file's bytes and None without a file; ``generation`` is 0 then.
    """

    generation: int = 0
    sha256: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)

    def on(self, name: str, note_id: int | None = None) -> bool:
        """Say whether a flag is on, for one note where its value is a percentage."""
        value = self.values[name]
        if not value.endswith("%"):
            return value == "1"
        return note_id is not None and note_share(name, note_id) < int(value[:-1])

    def arm(self, note_id: int) -> Arm:
        """Say how a note's views are counted; a queued view needs no advisory lock."""
        if self.on(VIEW_QUEUE, note_id):
            return Arm.QUEUE
        return Arm.ADVISORY if self.on(ADVISORY_LOCKS, note_id) else Arm.INLINE


def note_share(name: str, note_id: int) -> int:
    """Place a note between 0 and 99, the same on every host.

    A flag at N % has the notes placed below N, so widening never takes a note away. The name is part
    of it, so that two flags at 10 % do not meet on the same notes.
    """
    digest = hashlib.blake2b(f"{name}:{note_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % 100


def check_flag(name: str, value: object) -> str:
    """Return what a flag accepts when the value is not accepted, else an empty string."""
    flag = FLAGS[name]
    pattern = PERCENTAGE if flag.percentage else SWITCH
    return "" if isinstance(value, str) and pattern.fullmatch(value) else flag.accepts


def effective_flags(
    document: FlagDocument | None, environment: Mapping[str, str], sha256: str | None = None
) -> FlagSet:
    """Lay the slot's document over the environment over the defaults."""
    layers = {"file": document.flags if document else {}, "environment": environment}
    values: dict[str, str] = {}
    source: dict[str, str] = {}
    for name, flag in FLAGS.items():
        origin = next((layer for layer, flags in layers.items() if name in flags), "default")
        values[name] = flag.default if origin == "default" else layers[origin][name]
        source[name] = origin
    return FlagSet(document.generation if document else 0, sha256, values, source)


def parse_document(body: bytes, target: str, slot: str) -> FlagDocument:
    """Read a flag document meant for this target and slot.

    :raises RefusedDocumentError: bad_document, wrong_target, wrong_slot, unknown_flag or bad_value.
    """
    found = _json_object(body)
    generation, flags = found["generation"], found["flags"]
    if isinstance(generation, bool) or not isinstance(generation, int) or not 0 < generation < 2**53:
        raise RefusedDocumentError("bad_document", "generation", "Use a whole number above 0.")
    if not isinstance(flags, dict):
        raise RefusedDocumentError("bad_document", "flags", "Use an object of flag names and values.")
    for name, mine in (("target", target), ("slot", slot)):
        if found[name] != mine:
            raise RefusedDocumentError(f"wrong_{name}", str(found[name]), f"This is {mine}.")
    for name, value in flags.items():
        if name not in FLAGS:
            raise RefusedDocumentError("unknown_flag", name, f"Known are {', '.join(FLAGS)}.")
        if accepted := check_flag(name, value):
            raise RefusedDocumentError("bad_value", f"{name}={value}", accepted)
    return FlagDocument(target, slot, generation, flags)


def _json_object(body: bytes) -> dict[str, Any]:
    accepted = "Use a JSON object with target, slot, generation and flags."
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedDocumentError("bad_document", "not JSON", accepted) from error
    if not isinstance(found, dict) or set(found) != {"target", "slot", "generation", "flags"}:
        raise RefusedDocumentError("bad_document", "wrong keys", accepted)
    return found
