"""The wanted flags of each slot, kept on the balancer and pushed, signed, to the instances.

The document that is signed, sent and written to the slot's flags file is one and the same:
``{"target", "slot", "generation", "flags"}`` in canonical JSON. One generation counter serves a target.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rollout.errors import Refused
from rollout.files import read_json, write_json
from rollout.target.instances import Reply, ask, ask_all
from rollout.target.target import SLOTS, Instance, Target

# A hung instance costs this once; the guard pushes again until it answers.
PUSH_TIMEOUT_SECONDS = 0.5
# A state of the target, for maintenance or a restore: no release raises it, and none takes it away.
READ_ONLY = "P12_READ_ONLY"
# Each slot's generation and flags.
Remembered = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Wanted:
    """What the instances of one slot should have: flag names to ``0``, ``1`` or a percentage."""

    slot: str
    generation: int = 0
    flags: Mapping[str, str] = field(default_factory=dict)

    def document(self, target: str) -> bytes:
        body = {"target": target, "slot": self.slot, "generation": self.generation, "flags": dict(self.flags)}
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


class WantedFlags:
    """The wanted flags of a target's slots. Callers hold the target's mutex while they change them."""

    def __init__(self, target: Target, remembered: Callable[[], Remembered] = dict) -> None:
        self.target = target
        self.remembered = remembered
        self.path = target.steering / "flags.json"

    def of(self, slot: str) -> Wanted:
        stored = self._stored()["slots"].get(slot)
        return Wanted(slot, stored["generation"], stored["flags"]) if stored else Wanted(slot)

    def all(self) -> dict[str, Wanted]:
        return {slot: self.of(slot) for slot in SLOTS}

    def at_generation(self, generation: int) -> Wanted:
        """Return what a generation held.

        :raises Refused: no such generation was kept.
        """
        for kept in reversed(self._stored()["history"]):
            if kept["generation"] == generation:
                return Wanted(**kept)
        known = [str(kept["generation"]) for kept in self._stored()["history"]]
        raise Refused(
            f"Flag generation {generation} is not kept. Accepted: {', '.join(known) or 'none yet'}.",
            "See them: ./p12 flags",
        )

    def put(self, slot: str, flags: Mapping[str, str]) -> Wanted:
        """Want ``flags`` in ``slot`` under a new, higher generation."""
        stored = self._stored()
        generation = stored["generation"] + 1
        stored["generation"] = generation
        stored["slots"][slot] = {"generation": generation, "flags": dict(flags)}
        entry = {"slot": slot, "generation": generation, "flags": dict(flags)}
        stored["history"] = [*stored["history"], entry][-200:]
        write_json(self.path, stored)
        return Wanted(slot, generation, dict(flags))

    def raise_counter(self, generation: int) -> None:
        """Never hand out a generation that an instance has already seen."""
        stored = self._stored()
        if generation > stored["generation"]:
            write_json(self.path, stored | {"generation": generation})

    def _stored(self) -> dict[str, Any]:
        """What is on file; where that is lost or damaged, what the journal remembers."""
        with suppress(ValueError):
            if stored := read_json(self.path):
                return dict(stored)
        slots = {slot: dict(wanted) for slot, wanted in self.remembered().items()}
        history = [{"slot": slot, **wanted} for slot, wanted in slots.items()]
        highest = max((wanted["generation"] for wanted in slots.values()), default=0)
        return {"generation": highest, "slots": slots, "history": history}


def signature(secret: str, document: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), document, hashlib.sha256).hexdigest()


def push(target: Target, wanted: Wanted, instances: Iterable[Instance]) -> dict[str, Reply]:
    """Send a slot's wanted flags to instances, in parallel; a dead one costs one time-out, not one each."""
    document = wanted.document(target.name)
    headers = {
        "X-P12-Signature": signature(target.secrets["flags"], document),
        "Content-Type": "application/json",
    }

    def put(instance: Instance) -> Reply:
        return ask(
            instance,
            "PUT",
            "/internal/flags",
            timeout_seconds=PUSH_TIMEOUT_SECONDS,
            body=document,
            headers=headers,
        )

    return ask_all(instances, put)


def fetch(instances: Iterable[Instance]) -> dict[str, Reply]:
    """Ask instances which flags they have, in parallel."""
    return ask_all(
        instances, lambda i: ask(i, "GET", "/internal/flags", timeout_seconds=PUSH_TIMEOUT_SECONDS)
    )


def lowered(
    flags: Mapping[str, str], defaults: Mapping[str, str], only: Iterable[str] = ()
) -> dict[str, str]:
    """Return ``flags`` with every raised one at its default, written explicitly; ``only`` limits which."""
    names = set(only) or set(flags)
    return {name: defaults.get(name, "0") if name in names else value for name, value in flags.items()}


def raised(flags: Mapping[str, str], defaults: Mapping[str, str]) -> list[str]:
    return sorted(name for name, value in flags.items() if value != defaults.get(name, "0"))


def to_lower(flags: Mapping[str, str], defaults: Mapping[str, str], only: Iterable[str] = ()) -> list[str]:
    """Return the raised flags among ``only``; without it all of them but ``READ_ONLY``."""
    wanted = set(only) or set(flags) - {READ_ONLY}
    return [name for name in raised(flags, defaults) if name in wanted]
