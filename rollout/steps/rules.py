"""What must hold before a rollout may go on: certificate, backup, no quarantine, no step skipped."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rollout.errors import Failed, Refused
from rollout.target import certificate
from rollout.target.state import UNDECIDED, Rollout, State
from rollout.target.steering import Steering
from rollout.target.target import FULL_SHARE, TODAY, TODAYS_SERVICE
from rollout.text import RELEASE_ANOTHER, one_line, restore_words, rollback_words, withdrawal_words

DECIDE = "./p12 decide --pass --why '…', or: ./p12 decide --fail --why '…'"


def refuse_quarantined(state: State, release: str, why: str) -> None:
    """Refuse a release that was rolled back, unless somebody gives a reason."""
    reason = state.quarantined.get(release)
    if reason and not why:
        raise Refused(
            f"{release} was rolled back ({one_line(reason)}) and is quarantined.",
            f"To release it all the same: ./p12 release --branch {release} --why '…'",
        )


def turn_back_hint(state: State, before: str, otherwise: str = "") -> str:
    """Name the rollback after ``before``, unless there is nothing to go back to."""
    return f"{before}./p12 rollback" if state.can_turn_back else otherwise


def no_way_back_hint(state: State) -> str:
    """What can be done about the newest release where no rollback can."""
    lower = "Lower its flags: ./p12 rollback --flags-only; "
    if state.rollout and not state.is_replaceable:
        return f"{lower}go on with it: ./p12 release --branch {state.rollout.release}"
    return f"{lower}replace it: {RELEASE_ANOTHER}"


def go_on_hint(state: State, release: str) -> str:
    """How to end a rollout that is in the way: going on, if it can still become good, or turning it back."""
    if state.failed_window:
        return turn_back_hint(state, "Its window failed; turn it back: ", no_way_back_hint(state))
    rollout, windows = state.rollout, state.windows_of(release)
    if rollout and windows and windows[-1].verdict in UNDECIDED and windows[-1].share == rollout.share:
        return f"Its window is undecided: {DECIDE}"
    return f"Go on with it: ./p12 release --branch {release}" + turn_back_hint(state, "; or turn it back: ")


def refuse_half_turned_back(state: State) -> None:
    """Refuse to go on with anything while a rollback was begun and is not finished."""
    if state.rollback:
        raise Refused(f"{rollback_words(state.rollback)}.", "Finish it: ./p12 rollback")


def refuse_while_withdrawn(state: State) -> None:
    """Refuse to begin while it is watched whose the harm was that a release was turned back for."""
    if state.withdrawal:
        again = "It says so within a minute or two: ./p12 status; then the same command again"
        raise Refused(f"{withdrawal_words(state.withdrawal)}.", again)


def refuse_while_restoring(target: str, state: State) -> None:
    """Refuse to begin anything while the database is about to be another one."""
    restoration = state.restoration
    if restoration and not restoration.ended:
        words = restore_words(target, restoration.backup)
        raise Refused(f"{target}: a restore {words.partition('. ')[0]}.", words.partition(". ")[2])


def refuse_unadmitted(steering: Steering, state: State, release: str, sha256: str, why: str) -> None:
    """Refuse a release before it changes anything here, unless all that it rests on is there.

    That is a certificate of these bytes, a fresh verified backup, and the proof that what serves runs on what
    the release makes of the database. What could not be tried is let through with a reason; what was shown to
    break is not.
    """
    certified_flags(steering, state, release, sha256)
    complaint = backup_complaint(steering, state)
    if complaint:
        raise Refused(complaint, "Back up: ./p12 backup")
    refuse_untried_today(steering.target.name, state, why)
    proof = way_back_of(state, release, sha256)
    complaint = way_back_complaint(steering, state, release, sha256)
    if complaint and proof and proof["verdict"] == "failed":
        raise Failed(complaint, "The release before must run on what its migrations leave: mend them.")
    if complaint and not why:
        raise Refused(
            complaint,
            f"Try it on a copy: ./p12 release --branch {release} does, with its backup; "
            "or go on with --why '…'",
        )


def refuse_untried_today(target: str, state: State, why: str) -> None:
    """Refuse the first release beside today's service without a reason: nobody can try that one on a copy."""
    if state.serving == TODAY and not why:
        raise Refused(
            f"{target}: {TODAYS_SERVICE} is not the kit's to start, so nobody tried it on a copy of what the "
            "migrations leave.",
            "See what it would meet: ./p12 adopt --check; then the same command with --why '…'",
        )


def way_back_complaint(steering: Steering, state: State, release: str, sha256: str) -> str:
    """Say why it is not proven that what serves runs on what a release makes of the data, if it is not."""
    serving = state.slots.get(state.serving or "")
    nothing_there = state.backup is not None and state.backup.get("nothing_to_lose")
    if (serving and serving.release == release) or (not serving and nothing_there):
        return ""
    proof = way_back_of(state, release, sha256)
    if proof is None:
        beside = f" beside {serving.release}" if serving else ""
        return f"{release} was not tried{beside} on a copy of {steering.target.name}."
    return "" if proof["verdict"] == "passed" else f"{steering.target.name}: {proof['summary']}"


def way_back_of(state: State, release: str, sha256: str) -> Mapping[str, Any] | None:
    """Return the last proof of a way back, if it is from this release to what serves now."""
    pair = {"new": {"release": release, "sha256": sha256}, "old": state.startable}
    proof = state.way_back
    return proof if proof and {name: proof[name] for name in pair} == pair else None


def is_admitting(steering: Steering) -> bool:
    """Whether this target takes only what staging certified, in watched steps: production does."""
    return bool(steering.target.settings["admission"])


def last_share(steering: Steering, from_slot: str | None) -> int:
    """The share that is watched last: the holdback stays on the old slot, so that there is a control.

    Nothing is held back where nothing is watched, nothing served before, or nobody old is up to serve.
    """
    if from_slot is None or not is_admitting(steering):
        return FULL_SHARE
    servers = steering.balancer.servers()
    if not any(servers[i.name].up for i in steering.target.instances_of(from_slot)):
        return FULL_SHARE
    return FULL_SHARE - int(steering.target.settings["holdback_percent"])


def certified_flags(steering: Steering, state: State, release: str, sha256: str) -> Mapping[str, str]:
    """Return the flags that the accepted certificate of these bytes names.

    :raises Refused: there is none, or it does not hold any more.
    """
    complaint = certificate_complaint(steering, state, release, sha256)
    if complaint or state.certificate is None:
        raise Refused(complaint, f"Prove it in staging: ./p12 verify --branch {release}")
    return dict(state.certificate["flags"])


def certificate_complaint(steering: Steering, state: State, release: str, sha256: str) -> str:
    """Say what is wrong with the certificate that was accepted, empty when nothing is."""
    if state.certificate is None:
        return f"{steering.target.name} has no certificate of {release}."
    paper = {name: value for name, value in state.certificate.items() if name != "at"}
    try:
        certificate.check(paper, certificate.trusted_key(steering.target), release, sha256, time.time())
    except Refused as error:
        return str(error)
    return ""


def backup_complaint(steering: Steering, state: State) -> str:
    """Say what is wrong with the last verified backup, empty when nothing is."""
    minutes = steering.target.settings["backup_valid_minutes"]
    if state.backup is None:
        return f"{steering.target.name} has no verified backup."
    age = (time.time() - state.backup["at"]) / 60
    if not 0 <= age <= minutes:
        return f"The last verified backup is {age:.0f} min old (limit {minutes} min)."
    if state.backup.get("nothing_to_lose") and any(state.shares.values()):
        return "The last backup was taken before there was anything to lose."
    return ""


def steps_of(steering: Steering, rollout: Rollout | None) -> Sequence[int]:
    """The steps that a rollout takes: its own, or the site's."""
    return (rollout.steps if rollout else ()) or steering.target.settings["steps"]


def refuse_skipped_steps(steering: Steering, state: State, share: int) -> None:
    """Refuse a share while an earlier step has no passed window."""
    rollout = state.rollout
    if rollout is None or rollout.from_slot is None or not is_admitting(steering):
        return
    passed = {w.share for w in state.windows_of(rollout.release) if w.verdict == "passed"}
    before = [step for step in steps_of(steering, rollout) if step < share and step not in passed]
    if before:
        raise Refused(
            f"The step of {before[0]} % has no passed window, so {rollout.release} does not get {share} %.",
            f"See the window's verdict: ./p12 status; continue: ./p12 promote --branch {rollout.release}",
        )
