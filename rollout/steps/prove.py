"""Show that a slot runs a release and has its flags, at every instance, before it gets any traffic."""

from collections.abc import Mapping, Sequence
from typing import Any

from rollout.errors import Refused, Unproven
from rollout.steps import read_only
from rollout.steps.rollout import slot_for
from rollout.steps.rules import certified_flags, is_admitting, refuse_while_restoring
from rollout.target import wanted_flags
from rollout.target.instances import Reply, ask, ask_all
from rollout.target.state import State
from rollout.target.steering import Steering
from rollout.target.target import Instance
from rollout.text import command_hint

READY_TIMEOUT_SECONDS = 3.0


def prove(
    steering: Steering,
    release: str,
    commit: str,
    sha256: str,
    token: int,
    flags: Mapping[str, str],
    committed_at: float = 0.0,
) -> dict[str, Any]:
    """Show that every instance of its slot runs the release and has its flags; only then may it get traffic.

    Which flags the accepted certificate says, and ``flags`` only where none is asked for. A release that is
    proven for the first time is shown to obey: they are turned off and on once. Those that it does not know
    are left out of its document. A target that is read-only is so in this slot too.

    :raises Refused: no certificate of these bytes, a restore is under way, or the target is read-only and the
        release cannot be.
    :raises Unproven: an instance is away, not ready, or runs something else; says which.
    """
    steering.renew(token)
    slot = slot_for(steering.state(), release)
    instances = steering.target.instances_of(slot)
    ready = _ready(steering.target.name, slot, instances, commit)
    known, seen = _reported(steering.target.name, instances)
    with steering.change(token) as owner:
        state = steering.state()
        refuse_while_restoring(steering.target.name, state)
        wanted = certified_flags(steering, state, release, sha256) if is_admitting(steering) else flags
        steering.flags.raise_counter(seen)
        held = state.slots.get(slot)
        stays = _read_only(steering, state, release, known)
        values = {name: value for name, value in wanted.items() if name in known} | stays
        have = steering.flags.of(slot)
        settled = have.flags == values and have.generation >= max(seen, 1)
        if not settled or held is None or not held.proven:
            _push(steering, steering.flags.put(slot, wanted_flags.lowered(values, known) | stays), instances)
            have = steering.want_flags(slot, values, owner)
        _push(steering, have, instances)
        shown: dict[str, Any] = {"release": release, "commit": commit, "sha256": sha256, "known": known}
        shown |= {"committed_at": committed_at} if committed_at else {}
        steering.journal.append(owner, "slot.proven", slot=slot, **shown)
    return {
        "changed": True,
        "slot": slot,
        "generation": have.generation,
        "flags": dict(have.flags),
        "schema": ready[instances[0].name].document["schema"]["revision"],
        "say": f"{steering.target.name}: {len(instances)} of {len(instances)} {slot} instances run "
        f"{release} with flag generation {have.generation}",
    }


def _ready(target: str, slot: str, instances: tuple[Instance, ...], commit: str) -> dict[str, Reply]:
    """Ask between changes: a hung instance takes seconds, and a rollback waits for none of them."""
    answers = ask_all(
        instances, lambda i: ask(i, "GET", "/internal/ready", timeout_seconds=READY_TIMEOUT_SECONDS)
    )
    complaints = {name: _not_ready(answer, commit) for name, answer in answers.items()}
    listed = "; ".join(f"{name} {said}" for name, said in sorted(complaints.items()) if said)
    if listed or not instances:
        raise Unproven(
            f"{target}: {slot} is not ready: {listed or 'it has no instance'}.",
            f"See every instance: ./p12 status; their logs: {command_hint('evidence', target)}",
        )
    return answers


def _reported(target: str, instances: tuple[Instance, ...]) -> tuple[dict[str, str], int]:
    """Return the flags that the release knows, and the highest generation that an instance has seen."""
    answers = wanted_flags.fetch(instances)
    _require_all(f"{target}: flags cannot be read", answers)
    documents = [answer.document for answer in answers.values()]
    return dict(documents[0]["known"]), max(document.get("generation") or 0 for document in documents)


def _read_only(steering: Steering, state: State, release: str, known: Mapping[str, str]) -> dict[str, str]:
    """The flag of a target that is read-only, which a release must not end by replacing what serves."""
    if not read_only.is_on(steering, state):
        return {}
    if wanted_flags.READ_ONLY not in known:
        raise Refused(
            f"{steering.target.name} is read-only, and {release} does not know {wanted_flags.READ_ONLY}.",
            f"Take writes again first: {command_hint('maintenance off', steering.target.name)}",
        )
    return {wanted_flags.READ_ONLY: "1"}


def _push(steering: Steering, wanted: wanted_flags.Wanted, instances: Sequence[Instance]) -> None:
    """Push flags to all instances of a slot and require that each has them in force."""
    answers = wanted_flags.push(steering.target, wanted, instances)
    _require_all(f"{steering.target.name}: flags were not taken", answers)
    for name, answer in answers.items():
        if answer.document.get("generation") != wanted.generation:
            raise Unproven(
                f"{steering.target.name}: {name} took flag generation {wanted.generation} and still has "
                f"{answer.document.get('generation')} in force: it would not obey a flag turned off.",
                "Its release reads no flags file, or another one; its log: ./p12 evidence",
            )


def _require_all(said: str, answers: Mapping[str, Reply]) -> None:
    bad = {name: answer for name, answer in answers.items() if answer.status != 200}
    if bad:
        listed = "; ".join(f"{n}: {a.status or a.error} {a.body.decode()[:120]}" for n, a in bad.items())
        raise Unproven(f"{said}: {listed}.", "See what each instance has: ./p12 flags")


def _not_ready(answer: Reply, commit: str) -> str:
    if not answer.status:
        return f"does not answer ({answer.error})"
    found = answer.document
    if found.get("commit") != commit:
        return f"runs {found.get('commit', 'an unknown commit')}, not {commit}"
    if answer.status != 200:
        return f"is not ready: {found.get('error') or found}"
    return ""
