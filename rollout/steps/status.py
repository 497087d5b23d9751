"""What is true of a target right now, read from HAProxy, the instances and the journal."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rollout.errors import RolloutError
from rollout.files import read_json
from rollout.steps.rules import is_admitting
from rollout.steps.status_text import status_text, summary_text, troubled_hint
from rollout.target import front_certificate, wanted_flags
from rollout.target.instances import Reply
from rollout.target.journal import BrokenJournal
from rollout.target.site_processes import has_supervisord, of_site
from rollout.target.state import Slot, State
from rollout.target.steering import Steering
from rollout.target.target import TODAYS_SERVICE


def report(steering: Steering) -> dict[str, Any]:
    """Return the whole picture, and say it."""
    answer = status(steering)
    return {**answer, "say": status_text(answer)} | (_outage(answer) if is_admitting(steering) else {})


def _outage(answer: Mapping[str, Any]) -> dict[str, str]:
    """What keeps production from serving, as an error for whoever only looks at the exit status."""
    name, live = answer["target"], answer["live"]
    if answer["balancer_error"]:
        return {"error": f"{name} cannot be seen to serve.", "hint": "./p12 provision"}
    if not live["slot"]:
        return {"error": f"{name} serves nothing.", "hint": "./p12 release"}
    if not any(each["up"] for each in answer["instances"] if each["slot"] == live["slot"]):
        return {"error": f"{name} serves nothing: {live['slot']} is down.", "hint": "./p12 provision"}
    if troubled := answer["troubled"]:
        return {
            "error": f"{name}: {troubled['release']} was good, and is not any more: {troubled['summary']}.",
            "hint": troubled_hint(answer),
        }
    if said := front_certificate.alarm(answer["front"]):
        return {"error": f"{name}: {said}.", "hint": "Renew it: docs/how-to/front-door.md"}
    return {}


def summary(steering: Steering) -> dict[str, Any]:
    """Say the picture in a line."""
    return {"say": summary_text(status(steering))}


def status(steering: Steering) -> dict[str, Any]:
    """Return the whole picture as JSON values. What does not answer is named, never left out."""
    state, journal_error = _state(steering)
    target = steering.target
    try:
        shares: dict[str, int] | None = steering.balancer.shares()
        servers = steering.balancer.servers()
        trouble = ""
    except RolloutError as error:
        shares, servers, trouble = None, {}, str(error)
    answers = wanted_flags.fetch(target.instances)
    holder = steering.lock.holder()
    beat = read_json(target.steering / "guard.json")
    serving = max(shares, key=lambda slot: shares[slot]) if shares and any(shares.values()) else None
    held = state.slots.get(serving) if serving else None
    return {
        "target": target.name,
        "address": target.settings["front"],
        "live": {"slot": serving, "release": held.release if held else None},
        "shares": shares,
        "balancer_error": trouble,
        "front": front_certificate.seen(target, steering.balancer),
        "journal_error": journal_error,
        "slots": {slot: _slot(steering, slot, state.slots.get(slot)) for slot in target.slots},
        "instances": [
            {
                "name": i.name,
                "slot": i.slot,
                "up": servers[i.name].up if i.name in servers else None,
                **_told(answers.get(i.name)),
            }
            for i in target.servers
        ],
        "rollout": asdict(state.rollout) if state.rollout else None,
        "rollback": dict(state.rollback) if state.rollback else None,
        "troubled": dict(state.troubled) if state.troubled else None,
        "can_turn_back": state.can_turn_back,
        "paused": dict(state.paused) if state.paused else None,
        "withdrawal": dict(state.withdrawal) if state.withdrawal else None,
        "lock": asdict(holder) if holder.holds(time.time()) else None,
        "window": asdict(state.open_window) if state.open_window else None,
        "verdicts": list(state.verdicts),
        "backup": dict(state.backup) if state.backup else None,
        "restoration": asdict(state.restoration) if state.restoration else None,
        "rehearsal": state.rehearsal["at"] if state.rehearsal and "at" in state.rehearsal else None,
        "quarantined": dict(state.quarantined),
        "purge_after_days": _purge_after_days(steering, state, answers),
        "guard": beat,
        "orphans": orphans(steering),
        "visitors": _visitors(steering),
    }


def _told(answer: Reply | None) -> dict[str, Any]:
    """What an instance says of itself; today's service is asked nothing."""
    if answer is None:
        return {"release": TODAYS_SERVICE, "generation": None, "error": None}
    found = answer.document
    return {
        "release": answer.release or None,
        "generation": found.get("generation"),
        "error": answer.error or found.get("error"),
    }


def _state(steering: Steering) -> tuple[State, str]:
    """Return the state, and what is wrong with the journal it is from; empty where nothing is."""
    try:
        state = steering.state()
    except BrokenJournal as error:
        return steering.journal.readable_state(), f"{error} {error.hint}"
    wrong = f"was damaged and is kept as {state.damaged}: what could be read is here" if state.damaged else ""
    if state.unknown:
        wrong += f"{wrong and '; '}holds what this kit does not know: {', '.join(state.unknown)}"
    return state, wrong


def _purge_after_days(
    steering: Steering, state: State, answers: Mapping[str, Reply]
) -> dict[str, list[int | None]]:
    """After how many days each slot's worker deletes notes for good, as its instances tell; None is never.

    A slot whose release or instances do not tell is left out.
    """
    found: dict[str, set[int | None]] = {}
    for instance in steering.target.instances:
        document = answers[instance.name].document
        if instance.slot in state.slots and "purge_after_days" in document:
            found.setdefault(instance.slot, set()).add(document["purge_after_days"])
    return {slot: sorted(days, key=lambda each: each or 0) for slot, days in found.items()}


def orphans(steering: Steering) -> int:
    """Count a local site's processes that live on without the supervisord that would start them again."""
    root = steering.target.directory.parent
    if steering.target.settings.get("process_manager") != "supervisord" or has_supervisord(root):
        return 0
    return len(of_site(root))


def _slot(steering: Steering, slot: str, held: Slot | None) -> dict[str, Any] | None:
    if held is None:
        return None
    wanted = steering.flags.of(slot)
    return {
        "release": held.release,
        "proven": held.proven,
        "generation": wanted.generation,
        "flags": {**held.known, **wanted.flags},
        "raised": wanted_flags.raised(wanted.flags, held.known),
    }


def _visitors(steering: Steering) -> dict[str, Any] | None:
    seen = read_json(steering.target.directory / "visitors" / "visitors.json")
    if not seen:
        return None
    names = ("requests", "failed", "failed_by", "read_only", "unknown_outcomes", "updated", "latency_ms")
    return {name: seen.get(name) for name in names}
