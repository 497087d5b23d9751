"""A rollout's moves on one target, each with the rule that must hold before it.

Every move first asks what is already true, so repeating one changes nothing, and refuses to run ahead of its
evidence, whoever asks.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rollout.errors import Refused, Unproven
from rollout.files import write_json
from rollout.steps import house_rules, read_only
from rollout.steps.rollback import prove_serving
from rollout.steps.rules import (
    backup_complaint,
    certificate_complaint,
    go_on_hint,
    is_admitting,
    last_share,
    refuse_half_turned_back,
    refuse_quarantined,
    refuse_skipped_steps,
    refuse_unadmitted,
    refuse_while_restoring,
    refuse_while_withdrawn,
    steps_of,
    turn_back_hint,
    way_back_complaint,
)
from rollout.steps.window import exposed_steps
from rollout.steps.window_wait import stand_still
from rollout.target import certificate
from rollout.target.state import Rollout, State
from rollout.target.steering import Steering
from rollout.target.target import FULL_SHARE, SLOTS, TODAY, artifact_name, other
from rollout.text import RELEASE_ANOTHER, command_hint, count_text
from rollout.waiting import attempts

# For so long HAProxy may take to see that a slot is up.
UP_SECONDS = 10.0


def plan(steering: Steering, release: str, sha256: str = "") -> dict[str, Any]:
    """Say what is already true of a release on this target, and what is left to do. Changes nothing."""
    state = steering.state()
    slot = slot_for(state, release)
    held = state.slots.get(slot)
    rollout = state.rollout if state.rollout and state.rollout.release == release else None
    if rollout and rollout.ended == "rolled back":
        rollout = None  # what it passed then is no evidence for the next try
    passed = {w.share for w in state.windows_of(release) if w.kind == "step" and w.verdict == "passed"}
    finished = bool(rollout and rollout.ended == "finished")
    if finished and steering.balancer.shares().get(slot) != FULL_SHARE:
        raise Refused(
            f"{release} is finished in the journal, and HAProxy gives {slot} "
            f"{steering.balancer.shares().get(slot, 0)} % of the requests.",
            "The guard mends it within a minute: ./p12 status" + turn_back_hint(state, "; or turn it back: "),
        )
    before = rollout.from_slot if rollout else _before(state, slot)
    last = last_share(steering, before)
    steps = steps_of(steering, rollout) if rollout else exposed_steps(steering.target)
    left = [s for s in steps if s < last and not (rollout and s in passed)]
    installed = bool(held and held.proven and held.release == release and held.sha256 == sha256)
    answer = {
        "release": release,
        "slot": slot,
        "installed": installed,
        "proven": installed and rollout is not None,
        "finished": finished,
        "share": state.shares.get(slot, 0) if held and held.release == release else 0,
        "steps": left if before is not None and not finished and is_admitting(steering) else [],
        "last": last,
        "quarantined": state.quarantined.get(release),
        "certified": not certificate_complaint(steering, state, release, sha256),
    }
    return answer | {"say": _plan_words(steering, answer)}


def serving(
    steering: Steering, new: Mapping[str, Any], reuse: bool = False, token: int | None = None
) -> dict[str, Any]:
    """Say which release a backup would be of, ``none`` before the first, and whether one is to be made.

    ``new`` is the release that is to come, if one is: its way back is proven with the backup, of what
    ``releases`` names. With ``reuse`` the last backup is enough, if a rollout would begin on it. The lock of
    ``token`` is held as long as a backup may take: it is made on another host, which cannot renew it.
    """
    state = steering.state()
    held = state.slots.get(state.serving or "")
    coming = {name: new[name] for name in ("release", "sha256")} if new else {}
    old = state.startable if coming else {}
    complaint = backup_complaint(steering, state)
    if coming and not complaint:
        complaint = way_back_complaint(steering, state, **coming)
    is_due = not reuse or bool(complaint)
    if is_due and token is not None:
        steering.renew(token, 3600 * steering.target.settings["backup"]["longest_hours"])
    return {
        "release": held.release if held else "none",
        "backup_due": is_due,
        "artifact": artifact_name(**old) if old else "",
        "releases": {
            "new": coming,
            "old": old,
        },
    }


def _ended_words(steering: Steering, release: str) -> str:
    """What a finished rollout came to: where nothing is watched, it is live and no more is known."""
    return f"{release} is {'good' if is_admitting(steering) else 'live'}"


def _plan_words(steering: Steering, answer: Mapping[str, Any]) -> str:
    target = steering.target.name
    if answer["finished"]:
        return f"{target}: {_ended_words(steering, answer['release'])} already"
    steps = ", ".join(str(step) for step in dict.fromkeys((*answer["steps"], answer["last"], FULL_SHARE)))
    return f"{target}: {answer['release']} goes to {answer['slot']}, then {steps} %"


def slot_for(state: State, release: str) -> str:
    """Return the slot that holds ``release``, or the idle one where it belongs.

    :raises Refused: another rollout is under way.
    """
    rollout = state.rollout
    refuse_half_turned_back(state)
    refuse_while_withdrawn(state)
    if rollout and rollout.release != release and not state.is_replaceable:
        raise Refused(
            f"The rollout of {rollout.release} is at {rollout.share} %, begun "
            f"{time.strftime('%H:%M:%S', time.localtime(rollout.begun_at))}.",
            go_on_hint(state, rollout.release),
        )
    if rollout and not rollout.ended and rollout.release == release:
        return rollout.slot
    serving = state.serving
    if serving and state.slots[serving].release == release:
        return serving
    return other(serving) if serving else SLOTS[0]


def claim(steering: Steering, release: str, sha256: str, token: int, why: str) -> dict[str, Any]:
    """Reserve the idle slot for a release, before a byte is written there or to the database.

    :raises Refused: what the release must rest on is not there, or the slot is not free.
    """
    with steering.change(token) as owner:
        state = steering.state()
        slot = slot_for(state, release)
        refuse_quarantined(state, release, why)
        refuse_while_restoring(steering.target.name, state)
        if is_admitting(steering):
            refuse_unadmitted(steering, state, release, sha256, why)
            house_rules.refuse(steering, state, release, owner, why)
        if state.shares.get(slot):
            is_up = state.rollout is not None and not state.rollout.ended
            watch = f"Watch it as it is: ./p12 monitor --branch {release}"
            raise Refused(
                f"{slot} serves {state.shares[slot]} % of the requests, from other bytes of {release}; "
                "refusing to install into it.",
                turn_back_hint(state, "Turn it back: ", watch) if is_up else RELEASE_ANOTHER,
            )
        steering.journal.append(owner, "slot.claimed", slot=slot, release=release)
        return {"changed": True, "slot": slot}


def admit(steering: Steering, shown: Mapping[str, Any], token: int) -> dict[str, Any]:
    """Keep the certificate that staging showed as what this rollout rests on.

    :raises Refused: it has none, or that does not hold here.
    """
    release, paper = shown["release"], shown.get("certificate")
    if not paper:
        raise Refused(
            f"Staging has no certificate of {release}: {shown.get('reason')}.",
            f"./p12 verify --branch {release}",
        )
    with steering.change(token) as owner:
        key = certificate.trusted_key(steering.target)
        certificate.check(paper, key, release, shown["sha256"], time.time())
        steering.journal.append(owner, "certificate.accepted", certificate=dict(paper))
        write_json(steering.target.steering / "certificate.json", dict(paper))
    return {"changed": True, "say": f"{steering.target.name}: certificate of {release} accepted"}


def begin(
    steering: Steering, release: str, token: int, why: str, steps: Sequence[int] = ()
) -> dict[str, Any]:
    """Open the rollout of a proven release: from here on, rollback knows the way.

    ``steps`` are kept as its own where the site says how many visitors may be exposed.

    :raises Refused: no certificate, no verified backup, not proven, quarantined without ``why``, or a restore
        is under way.
    """
    with steering.change(token) as owner:
        state = steering.state()
        refuse_while_restoring(steering.target.name, state)
        slot = slot_for(state, release)
        rollout = state.rollout
        if rollout and rollout.release == release and rollout.ended != "rolled back":
            return {"changed": False, "slot": slot}
        refuse_quarantined(state, release, why)
        held = state.slots.get(slot)
        if held is None or not held.proven or held.release != release:
            raise Refused(f"{release} is not proven in {slot}.", f"./p12 promote --branch {release}")
        broken: dict[str, str] = {}
        if is_admitting(steering):
            refuse_unadmitted(steering, state, release, held.sha256, why)
            broken = house_rules.refuse(steering, state, release, owner, why)
        source = _before(state, slot)
        steering.journal.append(
            owner,
            "rollout.begun",
            release=release,
            slot=slot,
            from_slot=source,
            from_release=state.slots[source].release if source else None,
            why=why,
            **broken,
            **({"steps": list(steps)} if steering.target.settings.get("exposure_visitors") else {}),
        )
        return {"changed": True, "slot": slot}


def shift(steering: Steering, release: str, share: int | None, token: int) -> dict[str, Any]:
    """Put ``share`` % of new requests on the rollout's slot, and prove who serves.

    Without a share that is the last one to be watched; what has more of them keeps it. While the release is
    paused nothing moves, and whoever asked is to ask again.

    :raises Refused: an earlier step has no passed window, an instance is not up in HAProxy, or the target is
        read-only.
    """
    with steering.change(token):
        state = steering.state()
        if read_only.is_on(steering, state):
            raise Refused(
                f"{steering.target.name} is read-only, and a window would count every 503 as an error.",
                f"{command_hint('maintenance off', steering.target.name)}, then the same command again",
            )
        rollout = _running(state, release)
        if share is None:
            share = max(last_share(steering, rollout.from_slot), rollout.share)
        _refuse_share(steering, state, rollout, share)
        if steering.balancer.holds(_shares(rollout, share)):
            return {"changed": False, "say": f"{steering.target.name}: {share} % already on {release}"}
    said = _move(steering, rollout, share, token)
    return {"changed": True, "say": said} if said else stand_still(steering, token)


def _move(steering: Steering, rollout: Rollout, share: int, token: int) -> str:
    """Give a release's slot a share of new requests, prove who serves, and say it; "" while it is paused."""
    await_up(steering, rollout.slot)  # between changes, so that a rollback never waits for it
    with steering.change(token) as owner:
        state, shares = steering.state(), _shares(rollout, share)
        if state.paused:
            return ""
        steering.balancer.shift(shares)
        steering.journal.append(owner, "traffic.shifted", shares=shares, release=rollout.release)
    proven, dead = prove_serving(steering, rollout.slot, rollout.release)
    if dead:
        raise Unproven(
            f"{steering.target.name}: {', '.join(dead)} stopped answering after the shift to {share} %.",
            turn_back_hint(state, "", "See who: ./p12 status; start them: ./p12 provision"),
        )
    where = f"{share} % on {rollout.release} ({rollout.slot})"
    return f"{steering.target.name}: {where}, {count_text(len(proven), 'instance')}"


def _shares(rollout: Rollout, share: int) -> dict[str, int]:
    return {rollout.slot: share, rollout.from_slot or other(rollout.slot): FULL_SHARE - share}


def finish(steering: Steering, release: str, token: int) -> dict[str, Any]:
    """Give a release what was held back, and mark it good; the slot before it stays warm.

    :raises Refused: it does not have all other traffic, or its monitor window has not passed.
    """
    with steering.change(token):
        state = steering.state()
        rollout = _finishing(steering, state, release)
        is_due = not rollout.ended and not steering.balancer.holds(_shares(rollout, FULL_SHARE))
    said = [_move(steering, rollout, FULL_SHARE, token)] if is_due else []
    if "" in said or steering.state().paused:
        return stand_still(steering, token)
    with steering.change(token) as owner:
        state = steering.state()
        rollout = _finishing(steering, state, release)
        keep = [r for r in state.good if r != release][-steering.target.settings["keep_releases"] :]
        held = {held.release for slot, held in state.slots.items() if slot != TODAY}
        keep = [*dict.fromkeys([*keep, *sorted(held), release])]
        if rollout.ended:
            return {
                "changed": False,
                "keep": keep,
                "say": f"{steering.target.name}: {_ended_words(steering, release)} already",
            }
        steering.journal.append(owner, "finished", release=release, slot=rollout.slot)
    return {
        "changed": True,
        "keep": keep,
        "say": [*said, f"{steering.target.name}: {_ended_words(steering, release)}"],
    }


def _finishing(steering: Steering, state: State, release: str) -> Rollout:
    """Return the rollout that may have all traffic and be good, or is so already."""
    refuse_half_turned_back(state)
    rollout = state.rollout
    if rollout is None or rollout.release != release or rollout.ended == "rolled back":
        raise Refused(f"No rollout of {release} is in progress.", "./p12 status")
    if rollout.ended:
        return rollout
    watched = [w.share for w in state.windows_of(release) if w.kind == "monitor" and w.verdict == "passed"]
    enough = min(watched, default=last_share(steering, rollout.from_slot))
    if rollout.share < enough:
        raise Refused(
            f"{release} has {rollout.share} % of the traffic, not {enough} % yet.",
            f"./p12 promote --branch {release}",
        )
    if is_admitting(steering) and not watched:
        raise Refused(f"The monitor window of {release} has not passed.", f"./p12 monitor --branch {release}")
    return rollout


def _running(state: State, release: str) -> Rollout:
    refuse_half_turned_back(state)
    rollout = state.rollout
    if rollout is None or rollout.release != release or rollout.ended:
        raise Refused(f"No rollout of {release} is in progress.", "./p12 status")
    return rollout


def _refuse_share(steering: Steering, state: State, rollout: Rollout, share: int) -> None:
    """Refuse a share that the release may not have now."""
    release = rollout.release
    if rollout.from_slot is None and share != FULL_SHARE:
        raise Refused(
            f"Nothing serves beside {release}, so it gets all requests, not {share} %.",
            f"./p12 promote --branch {release}",
        )
    refuse_skipped_steps(steering, state, share)


def _before(state: State, slot: str) -> str | None:
    """The slot that serves before a release in ``slot`` does; none when that slot serves already."""
    return state.serving if state.serving != slot else None


def await_up(steering: Steering, slot: str, hint: str = "./p12 status") -> None:
    """Wait for HAProxy to see every server of a slot; those that stay away are named."""
    for _ in attempts(UP_SECONDS):
        servers = steering.balancer.servers()
        down = [i.name for i in steering.target.instances_of(slot) if not servers[i.name].up]
        if not down:
            return
    raise Refused(
        f"{steering.target.name}: HAProxy sees {', '.join(down)} down for {UP_SECONDS:g} s, "
        f"so {slot} gets no traffic.",
        hint,
    )
