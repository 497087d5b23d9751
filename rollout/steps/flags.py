"""``p12 host TARGET flags``: list, set and turn off the wanted flags, and prove that instances have them."""

import time
from collections.abc import Mapping
from typing import Any

from rollout.errors import Refused
from rollout.steps.rollback import flags_off, prove_serving, unproven_words
from rollout.steps.rules import refuse_while_restoring
from rollout.target import wanted_flags
from rollout.target.steering import Steering
from rollout.target.target import SLOTS
from rollout.text import count_text


def listed(steering: Steering) -> dict[str, Any]:
    """Return each slot's wanted flags and what every instance says it has."""
    state = steering.state()
    answers = wanted_flags.fetch(steering.target.instances)
    slots = {}
    for slot in SLOTS:
        held, wanted = state.slots.get(slot), steering.flags.of(slot)
        slots[slot] = {
            "release": held.release if held else None,
            "share": state.shares.get(slot, 0),
            "generation": wanted.generation,
            "flags": {**(held.known if held else {}), **wanted.flags},
            "raised": wanted_flags.raised(wanted.flags, held.known if held else {}),
            "instances": {
                i.name: answers[i.name].document.get("generation", answers[i.name].error)
                for i in steering.target.instances_of(slot)
            },
        }
    answer = {"target": steering.target.name, "slots": slots}
    return answer | {"say": flags_text(answer)}


def flags_text(answer: Mapping[str, Any]) -> str:
    """Return each slot's flags, raised ones marked, and which instances have them."""
    lines = []
    for slot, held in answer["slots"].items():
        if not held["release"]:
            continue
        lines.append(
            f"{answer['target']} {slot} {held['share']} %  {held['release']}  generation {held['generation']}"
        )
        for name, value in sorted(held["flags"].items()):
            lines.append(f"  {name:<28} {value}{'  raised' if name in held['raised'] else ''}")
        for name, generation in held["instances"].items():
            lines.append(f"  {name:<28} has {generation}")
    return "\n".join(lines) or f"{answer['target']}: no release yet: ./p12 release"


def set_flags(
    steering: Steering, owner: str, pairs: list[str], slot: str, token: int | None = None
) -> dict[str, Any]:
    """Want ``NAME=VALUE`` pairs in a slot, by default the one that serves; the instances judge the values.

    Without ``token`` the target's lock must be free.

    :raises Refused: somebody else holds the target's lock, a restore rests on a flag, or an instance refuses
        a name or value; then nothing changed.
    """
    started = time.monotonic()
    changes = dict(_pair(pair) for pair in pairs)
    if not changes:
        raise Refused("No flag was named.", "./p12 flags set P12_ENABLE_ADVISORY_LOCKS=1")
    with steering.change(token):
        state = steering.state()
        if token is None:
            _refuse_locked(steering)
        slot = slot or state.serving or ""
        held = state.slots.get(slot)
        if held is None:
            raise Refused("No slot serves yet.", "./p12 release")
        _refuse_unknown(changes, held.known)
        if changes.get(wanted_flags.READ_ONLY, "1") != "1":
            refuse_while_restoring(steering.target.name, state)
        before = steering.flags.of(slot)
        wanted = steering.flags.put(slot, {**before.flags, **changes})
        answers = steering.push_flags(wanted, owner)
        wanted = steering.flags.of(slot)
        refused = next((a for a in answers.values() if a.status == 422), None)
        if refused is not None:
            steering.flags.put(slot, before.flags)
            said = refused.document
            name = str(said.get("name", "")).partition("=")[0]
            raise Refused(
                f"{name}={changes.get(name, '')} is not a flag value.",
                str(said.get("accepted", "Use 0 or 1.")),
            )
        steering.journal.append(
            owner, "flags.wanted", slot=slot, generation=wanted.generation, flags=dict(wanted.flags)
        )
    proven: list[str] = []
    dead: dict[str, int] = {}
    if state.serving == slot:
        proven, dead = prove_serving(steering, slot, held.release)
    seconds = time.monotonic() - started
    return {
        "changed": True,
        "generation": wanted.generation,
        "unreached": sorted(dead),
        "say": f"{steering.target.name}: {', '.join(pairs)} in {slot}, "
        f"proven at {count_text(len(proven), 'instance')} in {seconds:.2f} s{unproven_words(dead)}",
    }


def off(
    steering: Steering, owner: str, names: list[str], slot: str, generation: int | None
) -> dict[str, Any]:
    """Lower flags and say what undoes it, or go back to what a generation held."""
    if generation is not None:
        return return_to(steering, owner, generation)
    before = {slot: steering.flags.of(slot).flags for slot in SLOTS}
    answer = flags_off(steering, owner, tuple(names), slot)
    if not answer["lowered"]:
        return answer
    pairs = [f"{name}={before[answer['slot']][name]}" for name in answer["lowered"]]
    where = f" --slot {answer['slot']}"
    return answer | {"say": [answer["say"], f"on again with: ./p12 flags set {' '.join(pairs)}{where}"]}


def on(
    steering: Steering, owner: str, names: list[str], slot: str = "", token: int | None = None
) -> dict[str, Any]:
    """Raise flags to 1, as ``set_flags`` does."""
    if valued := next((name for name in names if "=" in name), ""):
        raise Refused(f"{valued} has a value.", f"./p12 flags set {valued}")
    return set_flags(steering, owner, [f"{name}=1" for name in names], slot, token)


def return_to(steering: Steering, owner: str, generation: int) -> dict[str, Any]:
    """Want what an earlier generation held, under a new and higher one; a read-only target stays so."""
    with steering.change():
        old = steering.flags.at_generation(generation)
        now = steering.flags.of(old.slot).flags
        stays = {name: value for name, value in now.items() if name == wanted_flags.READ_ONLY}
        wanted = steering.want_flags(old.slot, {**old.flags, **stays}, owner)
        steering.push_flags(wanted, owner)
        wanted = steering.flags.of(old.slot)
    state = steering.state()
    if state.serving == old.slot:
        prove_serving(steering, old.slot, state.slots[old.slot].release)
    return {
        "changed": True,
        "generation": wanted.generation,
        "say": f"{steering.target.name}: flags of generation {generation} are back in {old.slot}",
    }


def _refuse_locked(steering: Steering) -> None:
    holder = steering.lock.holder()
    if holder.holds(time.time()):
        raise Refused(
            f"The target is locked by {holder.describe()}.", "Flags may always be lowered: ./p12 flags off"
        )


def _pair(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals or not value:
        raise Refused(f"{pair} is not NAME=VALUE.", "./p12 flags set P12_ENABLE_ADVISORY_LOCKS=1")
    return name, value


def _refuse_unknown(changes: Mapping[str, str], known: Mapping[str, str]) -> None:
    for name in changes:
        if name not in known:
            raise Refused(
                f"{name} is not a flag. Accepted: {', '.join(sorted(known))}.", "See them: ./p12 flags"
            )
