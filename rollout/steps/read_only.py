"""Maintenance mode: every slot of a target answers writes with 503 ``read_only`` while reads go on."""

from collections.abc import Mapping
from typing import Any

from rollout.errors import Refused, Unproven
from rollout.steps.rollback import PROOF_SECONDS, prove_serving, unproven_words
from rollout.steps.rules import refuse_while_restoring, turn_back_hint
from rollout.target import wanted_flags
from rollout.target.state import Slot, State
from rollout.target.steering import Steering
from rollout.target.target import Instance
from rollout.target.wanted_flags import READ_ONLY
from rollout.waiting import attempts


def by_hand(steering: Steering, *, on: bool, token: int) -> dict[str, Any]:
    """Do as an engineer asks, who may not take writes again in the middle of a restore; see ``switch``.

    :raises Refused: nothing serves, or a restore is under way, and writes would be lost with the database
        it replaces.
    """
    state = steering.state()
    if not state.serving:
        raise Refused(f"{steering.target.name} serves nothing yet, so nobody can write.", "./p12 release")
    if not on:
        refuse_while_restoring(steering.target.name, state)
    return switch(steering, on=on, token=token)


def switch(steering: Steering, *, on: bool, token: int) -> dict[str, Any]:
    """Want the flag in both slots, and prove that every instance has it. Repeating changes nothing.

    Instances and workers of a slot read the same file. An instance that does not answer and gets no traffic
    is named; the guard gives it its flags when it is back.

    :raises Refused: a window is open, which would judge the 503s, or what serves does not know the flag.
    :raises Unproven: an instance answers without it.
    """
    with steering.change(token) as owner:
        state = steering.state()
        if on:
            refuse(steering.target.name, state)
        slots = {slot: held for slot, held in state.slots.items() if READ_ONLY in held.known}
        changed = [slot for slot, held in slots.items() if _want(steering, slot, held, on, owner)]
    proven, away = _prove(steering, state, slots)
    said = "writes get 503 read_only, reads go on" if on else "writes are taken again"
    return {
        "changed": bool(changed),
        "read_only": on,
        "proven": proven,
        "away": sorted(away),
        "say": f"{steering.target.name}: {said}; proven at {len(proven)} instances{unproven_words(away)}",
    }


def is_on(steering: Steering, state: State) -> bool:
    """Whether what serves is wanted to be read-only."""
    return bool(state.serving) and steering.flags.of(state.serving or "").flags.get(READ_ONLY) == "1"


def refuse(target: str, state: State) -> None:
    """Raise Refused where writes cannot be: a window would judge it, or what serves does not know how."""
    window = state.open_window
    if window is not None and state.rollout and not state.rollout.ended:
        raise Refused(
            f"{target}: a window of {window.release} is open, and it would count every 503 as an error.",
            turn_back_hint(state, "Let it close, or turn it back first: ", "Let it close: ./p12 status"),
        )
    for slot, share in state.shares.items():
        if share and READ_ONLY not in state.slots[slot].known:
            raise Refused(
                f"{target}: {state.slots[slot].release} in {slot} does not know {READ_ONLY}.",
                "Release one that does, and then the same command again.",
            )


def _want(steering: Steering, slot: str, held: Slot, on: bool, owner: str) -> bool:
    wanted = steering.flags.of(slot)
    value = "1" if on else "0"
    differs = wanted.flags.get(READ_ONLY, held.known[READ_ONLY]) != value
    if differs:
        wanted = steering.want_flags(slot, {**wanted.flags, READ_ONLY: value}, owner)
    if wanted.generation:
        steering.push_flags(wanted, owner)
    return differs


def _prove(steering: Steering, state: State, slots: Mapping[str, Slot]) -> tuple[list[str], dict[str, int]]:
    proven: list[str] = []
    away: dict[str, int] = {}
    for slot, held in slots.items():
        if state.shares.get(slot):
            mine, dead = prove_serving(steering, slot, held.release)
        else:
            mine, dead = _prove_idle(steering, slot)
        proven += mine
        away |= dead
    return sorted(proven), away


def _prove_idle(steering: Steering, slot: str) -> tuple[list[str], dict[str, int]]:
    """Show that every instance of a slot without traffic that answers has the slot's wanted flags."""
    wanted, instances = steering.flags.of(slot), steering.target.instances_of(slot)
    behind: list[Instance] = []
    for _ in attempts(PROOF_SECONDS):
        wanted_flags.push(steering.target, wanted, behind)
        answers = wanted_flags.fetch(instances)
        there = [i for i in instances if answers[i.name].status == 200]
        behind = [i for i in there if answers[i.name].document.get("generation") != wanted.generation]
        if not wanted.generation or not behind:
            return [i.name for i in there], {i.name: 0 for i in instances if i not in there}
    names = ", ".join(i.name for i in behind)
    raise Unproven(
        f"{steering.target.name}: {names} did not take the flags in {PROOF_SECONDS:g} s.", "./p12 status"
    )
