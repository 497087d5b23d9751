"""A restore over a target's database, as its balancer sees it: begun, read-only, ended or given up.

What has become of the databases themselves is asked on the database host; see ``copies``.
"""

import time
from typing import Any

from rollout.errors import Refused
from rollout.steps import read_only
from rollout.steps.rules import refuse_while_restoring, turn_back_hint
from rollout.target.state import Restoration, State
from rollout.target.steering import Steering
from rollout.target.target import FULL_SHARE
from rollout.text import command_hint


def confirm(steering: Steering, backup: str, name: str) -> None:
    """Require the target's name, typed by whoever replaces its database."""
    target = steering.target.name
    steering.target.refuse_elsewhere()
    again = f"{command_hint('restore', target)} --backup {backup or 'ID'} --over --confirm {target}"
    require_typed(target, name, again)


def require_typed(target: str, typed: str, again: str) -> None:
    """Refuse a restore over a target's database without its name; ``again`` is what to type."""
    if typed != target:
        raise Refused(
            f"This replaces the database of {target}, and {typed!r} is not its name. Nothing was changed.",
            again,
        )


def begin(steering: Steering, backup: str, token: int) -> dict[str, Any]:
    """Open a restore, or find the one that is open, and make the target read-only for it.

    :raises Refused: another one is under way, or a release is going up.
    :raises Unproven: an instance that serves still takes writes.
    """
    with steering.change(token) as owner:
        state = steering.state()
        _refuse(steering.target.name, state, backup)
        # What would refuse to be read-only is asked before a restore is open, which would stay open.
        read_only.refuse(steering.target.name, state)
        if state.restoration is None or state.restoration.ended:
            before = read_only.is_on(steering, state)
            steering.journal.append(owner, "restore.begun", backup=backup, was_read_only=before)
    switched = read_only.switch(steering, on=True, token=token)
    with steering.change(token) as owner:
        if not _open(steering).read_only_at:
            steering.journal.append(owner, "restore.read_only", proven=switched["proven"])
    state = steering.state()
    serving = state.serving
    return {
        "changed": True,
        "restoration": _open(steering).id,
        "backed_up": _is_backed_up(state),
        "slot": serving,
        "release": state.slots[serving].release if serving else "none",
        "say": switched["say"],
    }


def show_restore(steering: Steering) -> dict[str, Any]:
    """Return which restore is under way, of which backup.

    :raises Refused: none is.
    """
    restoration = _open(steering)
    return {"restoration": restoration.id, "backup": restoration.backup}


def end(steering: Steering, token: int, replaced: str = "") -> dict[str, Any]:
    """Take writes again, unless the target was read-only before, and close the restore.

    Without ``replaced``, the name of the database that was live before, it is given up: the database host has
    said that the live one is the same as ever, and that it stays so.

    :raises Refused: none is open.
    """
    restoration = _open(steering)
    said = "still read-only, as before"
    if not restoration.was_read_only:
        said = read_only.switch(steering, on=False, token=token)["say"].partition(": ")[2]
    with steering.change(token) as owner:
        outcome = "done" if replaced else "given up"
        steering.journal.append(owner, "restore.ended", outcome=outcome, replaced=replaced)
    seconds = time.time() - restoration.begun_at
    words = (
        f"{restoration.backup} is live after {seconds:.0f} s; what it replaced is kept as {replaced}, "
        f"until: ./p12 restore --drop {replaced}"
        if replaced
        else f"the restore of {restoration.backup} was given up; the live database was not touched"
    )
    return {"changed": True, "outcome": outcome, "say": f"{steering.target.name}: {words}; {said}"}


def _is_backed_up(state: State) -> bool:
    """Whether a backup was begun after the last write: one that was only recorded since has not all of it."""
    since = state.restoration.read_only_at if state.restoration else 0.0
    return bool(since and state.backup and state.backup.get("started_at", 0.0) > since)


def _open(steering: Steering) -> Restoration:
    restoration = steering.state().restoration
    if restoration is None or restoration.ended:
        raise Refused(f"{steering.target.name}: no restore is under way.", "./p12 restore")
    return restoration


def _refuse(target: str, state: State, backup: str) -> None:
    restoration, rollout = state.restoration, state.rollout
    if restoration and restoration.backup != backup:
        refuse_while_restoring(target, state)
    if rollout and rollout.share < FULL_SHARE and not state.is_replaceable:
        raise Refused(
            f"{rollout.release} is going up, at {rollout.share} %.",
            turn_back_hint(state, "Turn it back first: "),
        )
