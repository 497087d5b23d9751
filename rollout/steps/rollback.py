"""The rollback ladder's first two rungs: traffic back, then flags off. One call on the balancer.

It needs HAProxy and the instances that serve afterwards, and nothing else: no database, no Redis, no staging,
no build machine. Whoever holds the target's lock is fenced off first, so a release that is still running
cannot undo it.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rollout.errors import Refused, Unproven
from rollout.steps.rules import no_way_back_hint, refuse_while_restoring
from rollout.target import wanted_flags
from rollout.target.instances import Reply
from rollout.target.journal import BrokenJournal
from rollout.target.state import State
from rollout.target.steering import Steering
from rollout.target.target import FULL_SHARE, TODAY, other
from rollout.text import command_hint, count_text
from rollout.waiting import attempts

PROOF_SECONDS = 5.0


@dataclass(frozen=True)
class RollbackRoute:
    """Where traffic leaves, and where it goes."""

    leave: str
    to: str
    release: str
    back_to: str


def rollback_route(state: State) -> RollbackRoute:
    """Read from the journal what is live and what was live before it. Never a guess by age or name.

    :raises Refused: there is nothing before it.
    """
    rollout = state.rollout
    if rollout is None:
        raise Refused("Nothing was ever released here, so there is nothing to roll back.", "./p12 release")
    leave, to = rollout.slot, rollout.from_slot
    before = state.slots.get(to) if to else None
    if to is None or to == leave or before is None:
        raise Refused(
            f"Nothing served before {rollout.release} took over: there is nothing before it to go back to.",
            no_way_back_hint(state),
        )
    if before.release != rollout.from_release or not before.proven:
        raise Refused(
            f"{to} no longer holds {rollout.from_release}, which served before; it has {before.release}.",
            f"{rollout.release} still serves. {no_way_back_hint(state)}",
        )
    return RollbackRoute(leave, to, rollout.release, before.release)


def by_hand(steering: Steering, owner: str, why: str, flags_only: bool) -> dict[str, Any]:
    """Turn back as an engineer asks, or only lower the flags."""
    if flags_only:
        return flags_off(steering, owner)
    return roll_back(steering, owner, why or "rolled back by hand")


def roll_back(
    steering: Steering, owner: str, why: str, closing: Mapping[str, Any] | None = None, held: str = ""
) -> dict[str, Any]:
    """Turn traffic back, lower what the release raised, prove it, journal it. Safe to repeat.

    ``closing`` is the verdict of an open window that failed: in the journal before anything moves. ``held``
    is the window whose harm may be somebody else's: the release is not quarantined for it.

    :raises Refused: nothing to go back to, or nobody there to serve.
    :raises Unproven: traffic moved but a serving instance could not be shown right; says which.
    """
    started = time.monotonic()
    unwritten: list[str] = []
    damage: list[str] = []
    lowered: list[str] = []
    unproven: dict[str, int] = {}
    with steering.change():
        state = steering.state_in_need(owner, damage)
        if closing and state.open_window and state.open_window.id == closing["id"]:
            with ignore_full_disk(unwritten):
                steering.journal.append(owner, "window.closed", **closing)
        route = rollback_route(state)
        shares = {route.to: FULL_SHARE, route.leave: 0}
        again = state.rollout is not None and state.rollout.ended == "rolled back"
        moved = not steering.balancer.holds(shares)
        if moved:
            _require_somebody(steering, route)
        due = moved or not again or state.rollback is not None
        held = (state.rollback or {}).get("held", "") or held
        # Journaled before it is done: should this be killed now, the guard finishes it instead of undoing it.
        with ignore_full_disk(unwritten):
            if due and state.rollback is None:
                _journal_intent(steering, route, owner, why, held)
            if due:
                steering.lock.fence(f"rollback: to {owner}")
                steering.journal.append(owner, "traffic.shifted", shares=shares, release=route.back_to)
        if moved:
            with ignore_full_disk(unwritten):
                steering.balancer.shift(shares)
        with ignore_full_disk(unwritten):
            # Another release may be on its way into the slot that was left: its flags are its own.
            if due or state.slots[route.leave].release == route.release:
                lowered, unproven = lower_flags(steering, state, route.leave, owner)
            if due:
                ways = {"release": route.release, "to": route.back_to, "slot": route.to}
                steering.journal.append(owner, "rolled_back", **ways, why=why, held=held)
    proven, dead = prove_serving(steering, route.to, route.back_to)
    if unwritten:
        raise Unproven(
            f"{steering.target.name}: {route.back_to} ({route.to}) serves everything, but the rollback could "
            f"not be written down: {unwritten[0]}.",
            f"Free some space, then ./p12 rollback again: df -h {steering.target.steering}",
        )
    words = f"{'already' if again and not moved else 'back'} on {route.back_to} ({route.to})"
    off = f"; {', '.join(lowered)} off in {route.leave}" if lowered else ""
    return {
        "changed": due or bool(lowered),
        "release": route.back_to,
        "left": route.release,
        "lowered": lowered,
        **_proof(steering, route.to, words, (proven, off + damage_words(damage)), unproven | dead, started),
    }


def _journal_intent(steering: Steering, route: RollbackRoute, owner: str, why: str, held: str) -> None:
    """Say what is begun, by whom, and who loses the lock to it."""
    holder = steering.lock.holder()
    loser = asdict(holder) if holder.holds(time.time()) else None
    ways = {"slot": route.leave, "to": route.back_to, "to_slot": route.to}
    said = {"why": why, "held": held, "taken_from": loser}
    steering.journal.append(owner, "rollback.begun", release=route.release, **ways, **said)


@contextmanager
def ignore_full_disk(unwritten: list[str]) -> Iterator[None]:
    """Go on where something cannot be written, and note why: visitors come before records."""
    try:
        yield
    except (OSError, BrokenJournal) as error:
        unwritten.append(str(error))


def flags_off(steering: Steering, owner: str, only: tuple[str, ...] = (), slot: str = "") -> dict[str, Any]:
    """Lower every flag that the newest release raised, or only those named; prove it. Safe to repeat.

    A target that is read-only stays so, unless ``P12_READ_ONLY`` is named.

    :raises Refused: it is named while a restore rests on it, or one of ``only`` is not a flag.
    """
    started = time.monotonic()
    damage: list[str] = []
    with steering.change():
        state = steering.state_in_need(owner, damage)
        if wanted_flags.READ_ONLY in only:
            refuse_while_restoring(steering.target.name, state)
        slot = slot or _slot_to_lower(steering, state, only)
        lowered, unproven = lower_flags(steering, state, slot, owner, only)
    serving = state.serving == slot
    release = state.slots[slot].release if slot in state.slots else ""
    proven, dead = prove_serving(steering, slot, release) if serving else ([], {})
    words = f"{', '.join(lowered) + ' off' if lowered else 'no flag was raised'} in {slot}"
    return {
        "changed": bool(lowered),
        "lowered": lowered,
        **_proof(steering, slot, words, (proven, damage_words(damage)), unproven | dead, started),
    }


def _proof(
    steering: Steering,
    slot: str,
    words: str,
    shown: tuple[list[str], str],
    unproven: Mapping[str, int],
    started: float,
) -> dict[str, Any]:
    """The part of an answer that says where a change is proven, and where not."""
    (proven, off), seconds = shown, round(time.monotonic() - started, 3)
    return {
        "slot": slot,
        "proven": proven,
        "unreached": sorted(unproven),
        "seconds": seconds,
        "say": f"{steering.target.name}: {words}, proven at {count_text(len(proven), 'instance')} "
        f"in {seconds:.2f} s{off}"
        f"{unproven_words(unproven)}{_read_only_words(steering, slot)}",
    }


def lower_flags(
    steering: Steering, state: State, slot: str, owner: str, only: tuple[str, ...] = ()
) -> tuple[list[str], dict[str, int]]:
    """Want and push the defaults in a slot; return what was lowered, and the status of who refused."""
    held = state.slots.get(slot)
    defaults = held.known if held else {}
    wanted = steering.flags.of(slot)
    unknown = [name for name in only if name not in {**defaults, **wanted.flags}]
    if unknown:
        raise Refused(
            f"{', '.join(unknown)} is not a flag of {slot}. Accepted: {', '.join(sorted(defaults))}.",
            f"See them: {command_hint('flags', steering.target.name)}",
        )
    names = wanted_flags.to_lower(wanted.flags, defaults, only)
    if names:
        wanted = steering.want_flags(slot, wanted_flags.lowered(wanted.flags, defaults, names), owner)
    answers = steering.push_flags(wanted, owner) if wanted.generation else {}
    return names, {name: answer.status for name, answer in answers.items() if answer.status != 200}


def prove_serving(steering: Steering, slot: str, release: str) -> tuple[list[str], dict[str, int]]:
    """Show that every instance which serves runs ``release`` with its slot's wanted flags.

    An instance that HAProxy does not count as up does not serve: it is returned with status 0, not waited
    for. One that is behind with its flags is pushed to until it has them. Of today's service HAProxy's checks
    are all that can be known.
    """
    wanted, instances = steering.flags.of(slot), steering.target.instances_of(slot)
    wrong: dict[str, str] = {}
    for _ in attempts(PROOF_SECONDS):
        if wanted.generation and wrong:
            wanted_flags.push(steering.target, wanted, [i for i in instances if i.name in wrong])
        servers = steering.balancer.servers()
        up = [i for i in instances if servers[i.name].up]
        answers = {} if slot == TODAY else wanted_flags.fetch(up)
        complaints = {name: _complaint(a, release, wanted.generation) for name, a in answers.items()}
        wrong = {name: complaint for name, complaint in sorted(complaints.items()) if complaint}
        if up and not wrong:
            return sorted(i.name for i in up), {i.name: 0 for i in instances if i not in up}
    listed = "; ".join(f"{name} {complaint}" for name, complaint in wrong.items())
    raise Unproven(
        f"{steering.target.name}: {slot} serves but is not proven after {PROOF_SECONDS:g} s: "
        f"{listed or 'no instance is up'}.",
        "See every instance: ./p12 status",
    )


def _complaint(answer: Reply, release: str, generation: int) -> str:
    if answer.status != 200:
        return f"answers {answer.status or answer.error}"
    if answer.release != release:
        return f"runs {answer.release or 'an unknown release'}, not {release}"
    if generation and answer.document.get("generation") != generation:
        return f"has flag generation {answer.document.get('generation')}, not {generation}"
    return ""


def _require_somebody(steering: Steering, route: RollbackRoute) -> None:
    servers = steering.balancer.servers()
    if not any(servers[i.name].up for i in steering.target.instances_of(route.to)):
        raise Refused(
            f"No instance of {route.to} ({route.back_to}) is up, so nobody would serve what is turned there.",
            "Start them: ./p12 provision; or lower the flags alone: ./p12 rollback --flags-only",
        )


def _slot_to_lower(steering: Steering, state: State, only: tuple[str, ...]) -> str:
    """The newest release's slot when it has something raised, else the one that serves."""
    candidates = [state.rollout.slot] if state.rollout else []
    candidates += [slot for slot in (state.serving,) if slot]
    candidates += [other(slot) for slot in candidates[:1]]
    for slot in candidates:
        held = state.slots.get(slot)
        if wanted_flags.to_lower(steering.flags.of(slot).flags, held.known if held else {}, only):
            return slot
    if not candidates:
        raise Refused("Nothing was ever released here, so no flag can be raised.", "./p12 release")
    return state.serving or candidates[0]


def damage_words(damage: list[str]) -> str:
    return f"; {' '.join(damage)}" if damage else ""


def _read_only_words(steering: Steering, slot: str) -> str:
    is_on = steering.flags.of(slot).flags.get(wanted_flags.READ_ONLY) == "1"
    return (
        f"; still read-only, until: {command_hint('maintenance off', steering.target.name)}" if is_on else ""
    )


def unproven_words(statuses: Mapping[str, int]) -> str:
    """Say which instances a change is not proven at, by their status; 0 is no answer at all."""
    said = ""
    for status in sorted(set(statuses.values())):
        names = ", ".join(sorted(name for name in statuses if statuses[name] == status))
        refused = f"refused the flags ({status}): {names}, see ./p12 flags"
        said += f"; {refused if status else f'did not answer and will be healed by the guard: {names}'}"
    return said
