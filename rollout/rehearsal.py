"""Rehearse the way back where nobody is hurt: a rollback and flags off, measured, and undone."""

import time
from typing import Any

from rollout import flags
from rollout.errors import Refused
from rollout.rollback import flags_off, prove_serving, roll_back, way_back
from rollout.state import State
from rollout.steering import Steering

DAY_SECONDS = 86_400


def rehearse(
    steering: Steering, owner: str, session: str, token: int, times: dict[str, Any]
) -> dict[str, Any]:
    """Roll back for real, lower the flags, prove both, and put everything back as it was; journal the times.

    ``times`` are seconds that were measured before, by name. A rehearsal that was killed in the middle is
    undone first. Rolling back breaks the lock, so it is taken again in the same ``session``.

    :raises Refused: production, or a release is going up.
    """
    if steering.target.settings["admission"]:
        raise Refused(f"{steering.target.name} is not for rehearsals.", "./p12 rehearse")
    with steering.change(token) as _:
        state = steering.state()
        if state.rollout and not state.rollout.ended:
            raise Refused(f"{state.rollout.release} is going up in {steering.target.name}.", "./p12 status")
    token = undo(steering, owner, session, token)
    measured, left_out = dict(times), ""
    try:
        way_back(steering.state())
    except Refused as error:
        left_out = str(error)
    else:
        token, more = _there_and_back(steering, owner, session, token)
        measured |= more
    with steering.change(token) as _:
        entry = steering.journal.append(owner, "rehearsed", seconds=measured, left_out=left_out)
    steering.lock.drop(token)
    listed = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in measured.items())
    words = f"; rollback left out: {left_out}" if left_out else "; it serves what it served before"
    return {
        "changed": True,
        "at": entry.at,
        "seconds": measured,
        "left_out": left_out,
        "say": f"{steering.target.name}: rehearsed: {listed}{words}",
    }


def _there_and_back(steering: Steering, owner: str, session: str, token: int) -> tuple[int, dict[str, Any]]:
    state = steering.state()
    with steering.change(token) as _:
        wanted = {slot: dict(each.flags) for slot, each in steering.flags.all().items() if each.generation}
        steering.journal.append(owner, "rehearsal.begun", shares=dict(state.shares), flags=wanted)
    back = roll_back(steering, owner, "rehearsal")
    off = flags_off(steering, owner, slot=back["slot"])
    token = steering.lock.take(owner, session).token
    started = time.monotonic()
    token = undo(steering, owner, session, token)
    again = round(time.monotonic() - started, 3)
    return token, {"rollback": back["seconds"], "flags_off": off["seconds"], "undone": again}


def undo(steering: Steering, owner: str, session: str, token: int) -> int:
    """Give traffic and flags back to what had them when an open rehearsal began; return a valid token."""
    state = steering.state()
    begun = state.rehearsal
    if begun is None or "shares" not in begun or not _is_same(state):
        return token
    token = steering.lock.take(owner, session).token
    with steering.change(token) as _:
        for slot, values in begun["flags"].items():
            wanted = steering.flags.of(slot)
            if dict(wanted.flags) != values:
                wanted = steering.flags.put(slot, values)
                entry = {"slot": slot, "generation": wanted.generation, "flags": values}
                steering.journal.append(owner, "flags.wanted", **entry)
            flags.push(steering.target, wanted, steering.target.instances_of(slot))
        if not steering.balancer.holds(begun["shares"]):
            steering.balancer.shift(begun["shares"])
            release = begun["kept"]["rollout"].release
            steering.journal.append(owner, "traffic.shifted", shares=begun["shares"], release=release)
    state = steering.state()
    if state.serving:
        prove_serving(steering, state.serving, state.slots[state.serving].release)
    return token


def complaint(state: State, valid_days: float, now: float) -> str:
    """Say that the last rehearsal is too long ago, empty when it is not."""
    said = "Type: ./p12 rehearse"
    last = state.rehearsal
    if last is None or "at" not in last:
        return f"the way back was never rehearsed. {said}"
    days = (now - last["at"]) / DAY_SECONDS
    if days > valid_days:
        return f"the way back was last rehearsed {days:.0f} days ago (limit {valid_days:g}). {said}"
    return f"the last rehearsal left out the rollback. {said}" if last["left_out"] else ""


def _is_same(state: State) -> bool:
    before = (state.rehearsal or {}).get("kept", {}).get("rollout")
    return bool(before and state.rollout and before.begun_at == state.rollout.begun_at)
