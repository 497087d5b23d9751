"""``p12 host TARGET lock``: take the target's lock, give it back, show it, and break it."""

import time
from dataclasses import asdict
from typing import Any

from rollout.errors import Refused, RolloutError
from rollout.target.steering import Steering


def show(steering: Steering) -> dict[str, Any]:
    """Say who has the lock."""
    holder = steering.lock.holder()
    words = f"locked by {holder.describe()}" if holder.holds(time.time()) else "the lock is free"
    return asdict(holder) | {"say": f"{steering.target.name}: {words}"}


def take(steering: Steering, owner: str, session: str, dead: str, tentative: bool = False) -> dict[str, Any]:
    """Take it for a session, from the ``dead`` one if that has it, or tell who has it.

    :raises Refused: somebody else holds it, and the attempt is not ``tentative``.
    """
    before = steering.lock.holder()
    try:
        taken = steering.lock.take(owner, session, dead)
        if taken.token != before.token:
            loser = asdict(before) if before.owner else None
            steering.journal.append(owner, "lock.taken", session=session, token=taken.token, taken_from=loser)
        return asdict(taken) | {"held": True}
    except Refused:
        if not tentative:
            raise
        return asdict(steering.lock.holder()) | {"held": False}


def drop(steering: Steering, token: int) -> dict[str, Any]:
    """Give it back; nothing changes where it had already passed to somebody else."""
    return {"changed": steering.lock.drop(token)}


def end(steering: Steering, session: str) -> dict[str, Any]:
    """Give back what a session that has ended still had, and say what is true without it."""
    changed = steering.lock.drop(None, session)
    holder = steering.lock.holder()
    words = "the lock is given back" if changed else "the lock is free"
    if holder.holds(time.time()):
        words = f"locked by {holder.describe()}"
    return {"changed": changed, "say": f"{steering.target.name}: {_serving(steering)}; {words}"}


def _serving(steering: Steering) -> str:
    try:
        shares = steering.balancer.shares()
        slots = steering.state().slots
    except RolloutError as error:
        return str(error).rstrip(".")
    serving = [f"{slots[s].release} serves {share} %" for s, share in shares.items() if share and s in slots]
    return ", ".join(serving) or "nothing is live yet"


def break_(steering: Steering, owner: str, why: str) -> dict[str, Any]:
    """Take it away from whoever has it, and journal that with the reason."""
    broken = steering.lock.holder()
    token = steering.lock.fence(f"lock break: to {owner}")
    steering.journal.append(owner, "lock.broken", broken=asdict(broken), why=why)
    return {"changed": True, "token": token, "say": f"{steering.target.name}: the lock is free"}
