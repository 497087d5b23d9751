"""Rehearse the way back where nobody is hurt: a rollback and flags off, measured, and undone."""

import time
from collections.abc import Mapping
from typing import Any

from rollout.errors import Refused
from rollout.steps.rollback import flags_off, prove_serving, roll_back, rollback_route
from rollout.steps.rules import go_on_hint, is_admitting
from rollout.target.state import State
from rollout.target.steering import Steering
from rollout.target.target import Target

DAY_SECONDS = 86_400


def rehearse(steering: Steering, token: int, times: Mapping[str, float]) -> dict[str, Any]:
    """Roll back for real, lower the flags, prove both, and put everything back as it was; journal the times.

    ``times`` are seconds that were measured before, by name. A rehearsal that was killed in the middle is
    undone first. Rolling back breaks the lock, so it is taken again for the same session.

    :raises Refused: production, or a release is going up.
    """
    release = serving(steering)
    undo(steering, token)
    measured, left_out = {name: round(seconds, 3) for name, seconds in times.items()}, ""
    try:
        rollback_route(steering.state())
    except Refused as error:
        left_out = str(error)
    else:
        token, more = _there_and_back(steering, token)
        measured |= more
    with steering.change(token) as owner:
        steering.journal.append(owner, "rehearsed", release=release, seconds=measured, left_out=left_out)
    steering.lock.drop(token)
    listed = ", ".join(f"{name.replace('_', ' ')} {seconds:.2f} s" for name, seconds in measured.items())
    words = f"; rollback left out: {left_out}" if left_out else "; it serves what it served before"
    return {
        "changed": True,
        "seconds": measured,
        "left_out": left_out,
        "say": f"{steering.target.name}: rehearsed: {listed}{words}",
    }


def show_release(steering: Steering, has_identity: bool) -> dict[str, Any]:
    """Say with which release to rehearse, before anything is done for it.

    :raises Refused: there is none, or its backup could not be restored for want of the private key.
    """
    refuse_unopened(steering.target, has_identity)
    return {"release": serving(steering)}


def age(steering: Steering) -> dict[str, Any]:
    """Warn where the last rehearsal is too long ago."""
    days = steering.target.settings["rehearsal_valid_days"]
    said = complaint(steering.state(), days, time.time())
    return {"valid": not said} | ({"say": f"{steering.target.name}: warning: {said}"} if said else {})


def serving(steering: Steering) -> str:
    """Return the release to rehearse with.

    :raises Refused: production, nothing was released yet, or a release is going up.
    """
    name, state = steering.target.name, steering.state()
    if is_admitting(steering):
        raise Refused(f"{name} is not for rehearsals.", "./p12 rehearse")
    if state.rollout and not state.rollout.ended:
        going = state.rollout.release
        raise Refused(f"{going} is going up in {name}.", go_on_hint(state, going))
    if not state.serving:
        raise Refused(f"{name} serves nothing yet.", "./p12 deploy")
    return state.slots[state.serving].release


def refuse_unopened(target: Target, has_identity: bool) -> None:
    """Refuse to make a backup for a rehearsal that could not be restored for want of its private key."""
    recipients = target.settings["backup"]["age_recipients"]
    if recipients and not has_identity:
        raise Refused(
            f"Backups of {target.name} are encrypted to {', '.join(recipients)}.",
            "Give the private key: --identity FILE",
        )


def _there_and_back(steering: Steering, token: int) -> tuple[int, dict[str, float]]:
    state, holder = steering.state(), steering.lock.holder()
    with steering.change(token) as owner:
        wanted = {slot: dict(each.flags) for slot, each in steering.flags.all().items() if each.generation}
        steering.journal.append(owner, "rehearsal.begun", shares=dict(state.shares), flags=wanted)
    back = roll_back(steering, owner, "rehearsal")
    off = flags_off(steering, owner, slot=back["slot"])
    token = steering.lock.take(holder.owner, holder.session).token
    started = time.monotonic()
    undo(steering, token)
    undone = round(time.monotonic() - started, 3)
    return token, {"rollback": back["seconds"], "flags_off": off["seconds"], "undone": undone}


def undo(steering: Steering, token: int) -> None:
    """Give traffic and flags back to what had them when an open rehearsal began."""
    state = steering.state()
    begun = state.rehearsal
    if begun is None or "kept" not in begun:
        return
    with steering.change(token) as owner:
        for slot, values in begun["flags"].items():
            wanted = steering.flags.of(slot)
            if dict(wanted.flags) != values:
                wanted = steering.want_flags(slot, values, owner)
            steering.push_flags(wanted, owner)
        if not steering.balancer.holds(begun["shares"]):
            steering.balancer.shift(begun["shares"])
            release = begun["kept"]["rollout"].release
            steering.journal.append(owner, "traffic.shifted", shares=begun["shares"], release=release)
        steering.journal.append(owner, "rehearsal.undone")
    state = steering.state()
    if state.serving:
        prove_serving(steering, state.serving, state.slots[state.serving].release)


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
