"""Take over the Paste12 that serves today: the first release goes up beside it, and back to it."""

from typing import Any

from rollout.errors import Refused
from rollout.steps.rollback import prove_serving
from rollout.steps.rollout import await_up
from rollout.steps.rules import go_on_hint
from rollout.target.steering import Steering
from rollout.target.target import FULL_SHARE, TODAY, TODAYS_SERVICE
from rollout.text import count_text

NOT_UP = "Does it answer the path of p12_today_check? Start it, then the same command again"


def adopt(steering: Steering, token: int) -> dict[str, Any]:
    """Pass every request to today's service, from where releases can go on step by step. Safe to repeat.

    :raises Refused: no server of it is known or up, or a release serves already.
    """
    target = steering.target.name
    if not steering.target.instances_of(TODAY):
        raise Refused(
            f"{target} knows no server of {TODAYS_SERVICE}.",
            "Name them in the inventory, p12_today_servers: [ADDRESS:PORT, …], then: ./p12 provision",
        )
    await_up(steering, TODAY, NOT_UP)
    with steering.change(token) as owner:
        state, shares = steering.state(), {TODAY: FULL_SHARE}
        rollout = state.rollout
        if rollout and not rollout.ended:
            hint = go_on_hint(state, rollout.release)
            raise Refused(f"{target}: the rollout of {rollout.release} is at {rollout.share} %.", hint)
        if state.serving and state.serving != TODAY:
            held = state.slots[state.serving]
            raise Refused(
                f"{held.release} ({state.serving}) serves {target} already: there is nothing to take over.",
                "./p12 status",
            )
        is_due = TODAY not in state.slots or not steering.balancer.holds(state.shares or shares)
        if is_due:
            steering.journal.append(owner, "today.adopted", slot=TODAY, release=TODAYS_SERVICE)
            steering.journal.append(owner, "traffic.shifted", shares=shares, release=TODAYS_SERVICE)
            steering.balancer.shift(shares)
    up, _ = prove_serving(steering, TODAY, TODAYS_SERVICE)
    words = f"{TODAYS_SERVICE} has every request, at {count_text(len(up), 'server')}"
    return {"changed": is_due, "say": f"{target}: {words}", "proven": up}


def leave(steering: Steering, token: int) -> dict[str, Any]:
    """Give up the way back to today's service, once a release is good without it.

    :raises Refused: it still has requests, or a rollout that could go back to it is under way.
    """
    target = steering.target.name
    with steering.change(token) as owner:
        state = steering.state()
        if TODAY not in state.slots:
            return {"changed": False, "say": f"{target}: there is no way back to {TODAYS_SERVICE} already"}
        rollout = state.rollout
        is_open = rollout is None or rollout.ended != "finished"
        if steering.balancer.shares().get(TODAY) or is_open:
            raise Refused(
                f"{target}: {TODAYS_SERVICE} is what a rollback would go to, and no release is good yet.",
                "Release until one is good: ./p12 release",
            )
        steering.journal.append(owner, "today.left", slot=TODAY)
    return {
        "changed": True,
        "say": f"{target}: {TODAYS_SERVICE} is no way back any more; it may be stopped, and taken out of "
        "p12_today_servers",
    }
