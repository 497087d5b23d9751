"""Fold a target's journal into what is true of it. Pure: entries in, one value out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from rollout.target.journal import BrokenJournal, Entry
from rollout.target.state import Restoration, Rollout, Slot, State, Window, known, state_of
from rollout.target.wanted_flags import READ_ONLY

# What a later release may be compared with or go back to; older ones are in the journal alone.
GOOD_KEPT, APPROVALS_KEPT = 50, 50
# These verdicts are asked for before a rollout begins; any other is of the one before.
BEFORE_A_ROLLOUT = ("backup", "way back")
BEGUN = ("release", "slot", "from_slot", "from_release")


def fold(entries: Iterable[Entry], state: State | None = None) -> State:
    """Return the state that a journal's entries add up to, on from ``state``.

    An event that this kit does not know changes nothing, and is named.

    :raises BrokenJournal: an entry lacks what its event is to say.
    """
    state = state or State()
    for entry in entries:
        try:
            state = _after(state, entry)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BrokenJournal(
                f"Entry {entry.seq} of the journal, {entry.event}, cannot be understood: {error!r}.",
                "Bring the newest kit: ./p12 provision",
            ) from error
    return state


def _after(state: State, entry: Entry) -> State:
    handler = HANDLERS.get(entry.event)
    if handler:
        return handler(state, entry)
    if entry.event in NOTED or entry.event in state.unknown:
        return state
    return replace(state, unknown=(*state.unknown, entry.event))


def _claimed(state: State, entry: Entry) -> State:
    before = state.slots.get(entry.data["slot"])
    # Until the newcomer is proven, what its predecessor knew says best to what its flags can be lowered.
    slot = Slot(entry.data["release"], known=before.known if before else {})
    return replace(_rehearsal_over(state), slots={**state.slots, entry.data["slot"]: slot})


def _proven(state: State, entry: Entry) -> State:
    data = entry.data
    slot = Slot(data["release"], data["commit"], data["sha256"], data["known"], proven=True)
    return replace(state, slots={**state.slots, data["slot"]: slot})


def _adopted(state: State, entry: Entry) -> State:
    slot = Slot(entry.data["release"], proven=True)
    return replace(state, slots={**state.slots, entry.data["slot"]: slot})


def _left(state: State, entry: Entry) -> State:
    """What served there is no way back any more."""
    slots = {slot: held for slot, held in state.slots.items() if slot != entry.data["slot"]}
    return replace(state, slots=slots)


def _begun(state: State, entry: Entry) -> State:
    share = state.shares.get(entry.data["slot"], 0)
    unfinished = tuple(window for window in state.windows if not window.verdict)
    begun = Rollout(
        begun_at=entry.at,
        share=share,
        first_window=len(unfinished),
        steps=list(entry.data.get("steps") or ()),
        **{name: entry.data[name] for name in BEGUN},
    )
    released = {release: why for release, why in state.quarantined.items() if release != begun.release}
    state = _rehearsal_over(state)
    kept = tuple(row for row in state.verdicts if row["check"] in BEFORE_A_ROLLOUT)
    return replace(
        state,
        verdicts=kept,
        rollout=begun,
        windows=unfinished,
        quarantined=released,
        rollback=None,
        withdrawal=None,
        troubled=None,
    )


def _opened(state: State, entry: Entry) -> State:
    return replace(state, windows=(*state.windows, Window(opened_at=entry.at, **known(Window, entry.data))))


def _finished(state: State, entry: Entry) -> State:
    release = entry.data["release"]
    ended = replace(state.rollout, ended="finished", ended_at=entry.at) if state.rollout else None
    good = (*(each for each in state.good if each != release), release)[-GOOD_KEPT:]
    return replace(state, rollout=ended, good=good, damaged="", paused=None)


def _backed_up(state: State, entry: Entry) -> State:
    backup = {**entry.data, "at": entry.at}
    return _judged(replace(state, backup=backup), entry, "backup", entry.data["summary"])


def _way_back_judged(state: State, entry: Entry) -> State:
    verdict, summary = entry.data["verdict"], entry.data["summary"]
    return _judged(replace(state, way_back=dict(entry.data)), entry, "way back", summary, verdict)


def _certified(state: State, entry: Entry) -> State:
    return replace(state, certificate={**entry.data["certificate"], "at": entry.at})


def _checked(state: State, entry: Entry) -> State:
    return _judged(state, entry, entry.data["check"], entry.data["summary"], entry.data["verdict"])


def _approved(state: State, entry: Entry) -> State:
    said = {name: entry.data[name] for name in ("by", "key", "release", "certificate")}
    return replace(state, approvals=(*state.approvals, said)[-APPROVALS_KEPT:])


def _paused(state: State, entry: Entry) -> State:
    return replace(state, paused={"owner": entry.owner, "why": entry.data["why"], "at": entry.at})


def _resumed(state: State, _: Entry) -> State:
    return replace(state, paused=None)


def _shifted(state: State, entry: Entry) -> State:
    shares = entry.data["shares"]
    rollout = state.rollout
    if rollout and not rollout.ended:
        rollout = replace(rollout, share=shares.get(rollout.slot, 0))
    return replace(state, shares=dict(shares), rollout=rollout)


def _closed(state: State, entry: Entry) -> State:
    verdict, summary = entry.data["verdict"], entry.data["summary"]
    baseline = entry.data.get("baseline")
    windows = tuple(
        replace(w, verdict=verdict, summary=summary, baseline=baseline or w.baseline)
        if w.id == entry.data["id"]
        else w
        for w in state.windows
    )
    closed = next((w for w in windows if w.id == entry.data["id"]), None)
    name = f"window at {closed.share} %" if closed and closed.kind == "step" else "monitor"
    return _judged(replace(state, windows=windows), entry, name, summary, verdict)


def _rollback_begun(state: State, entry: Entry) -> State:
    return replace(state, rollback={**entry.data, "owner": entry.owner, "at": entry.at})


def _rolled_back(state: State, entry: Entry) -> State:
    data = entry.data
    state = replace(state, rollback=None, paused=None)
    rollout = state.rollout
    if rollout is None or rollout.release != data["release"]:
        return state
    good = tuple(release for release in state.good if release != data["release"])
    state = replace(state, troubled=None, rollout=replace(rollout, ended="rolled back", share=0), good=good)
    if window := data.get("held"):
        return replace(state, withdrawal={"release": data["release"], "window": window, "at": entry.at})
    return replace(state, quarantined={**state.quarantined, data["release"]: data["why"]})


def _troubled(state: State, entry: Entry) -> State:
    rollout = state.rollout
    if rollout is None or rollout.release != entry.data["release"]:
        return state
    summary = entry.data["summary"]
    return replace(state, troubled={"release": rollout.release, "summary": summary, "at": entry.at})


def _withdrawal_judged(state: State, entry: Entry) -> State:
    """Quarantine a release whose harm went away with it; another may go on when the harm is over."""
    data = entry.data
    state = _judged(replace(state, withdrawal=None), entry, "withdrawal", data["summary"], data["verdict"])
    if (chance := data.get("chance", 1.0)) < 1:
        chances = (*state.withdrawn.get(data["release"], ()), chance)
        state = replace(state, withdrawn={**state.withdrawn, data["release"]: chances})
    if data["verdict"] != "failed":
        return state
    return replace(state, quarantined={**state.quarantined, data["release"]: data["summary"]})


def _restore_begun(state: State, entry: Entry) -> State:
    data = entry.data
    return replace(state, restoration=Restoration(entry.seq, data["backup"], entry.at, data["was_read_only"]))


def _restore_read_only(state: State, entry: Entry) -> State:
    if state.restoration is None or state.restoration.ended:
        return state
    return replace(state, restoration=replace(state.restoration, read_only_at=entry.at))


def _flags_wanted(state: State, entry: Entry) -> State:
    """Take writes for possible again as soon as a slot need not refuse them."""
    data = entry.data
    wanted = {"generation": data.get("generation", 0), "flags": dict(data["flags"])}
    state = replace(state, flags={**state.flags, data["slot"]: wanted})
    if state.restoration is None or state.restoration.ended or entry.data["flags"].get(READ_ONLY) == "1":
        return state
    return replace(state, restoration=replace(state.restoration, read_only_at=0.0))


def _restore_ended(state: State, entry: Entry) -> State:
    if state.restoration is None:
        return state
    ended = replace(state.restoration, ended=entry.data["outcome"], replaced=entry.data["replaced"])
    return replace(state, restoration=ended)


def _rehearsal_begun(state: State, entry: Entry) -> State:
    """Keep what a rollback takes away, for it is only rehearsed."""
    names = ("rollout", "good", "quarantined", "rehearsal", "rollback", "withdrawal", "withdrawn", "troubled")
    kept = {name: getattr(state, name) for name in names}
    return replace(state, rehearsal={**entry.data, "kept": kept})


def _rehearsal_over(state: State) -> State:
    """Forget an open rehearsal: what goes on now must not be undone for it."""
    kept = (state.rehearsal or {}).get("kept")
    return replace(state, rehearsal=kept["rehearsal"]) if kept else state


def _rehearsal_undone(state: State, _: Entry) -> State:
    kept = (state.rehearsal or {}).get("kept")
    return replace(state, **kept) if kept else state


def _rehearsed(state: State, entry: Entry) -> State:
    return replace(state, rehearsal={**entry.data, "at": entry.at})


def _judged(state: State, entry: Entry, check: str, summary: str, verdict: str = "passed") -> State:
    row = {"check": check, "verdict": verdict, "summary": summary, "at": entry.at}
    kept = tuple(v for v in state.verdicts if v["check"] != check)
    return replace(state, verdicts=(*kept, row)[-12:])


def _replaced(_: State, entry: Entry) -> State:
    """Go on from what could be read of a damaged journal."""
    return state_of({**entry.data["state"], "damaged": entry.data["damaged"]})


# Events that are there to be read by people, and change nothing of what is true.
NOTED = frozenset(
    {
        *("backups.pruned", "certificate.trusted", "front.expires", "front.renewed"),
        *("lock.broken", "lock.taken", "maintained", "traffic.healed"),
    }
)
HANDLERS: Mapping[str, Callable[[State, Entry], State]] = {
    "slot.claimed": _claimed,
    "slot.proven": _proven,
    "rollout.begun": _begun,
    "today.adopted": _adopted,
    "today.left": _left,
    "traffic.shifted": _shifted,
    "window.opened": _opened,
    "window.closed": _closed,
    "window.decided": _closed,
    "rollback.begun": _rollback_begun,
    "rolled_back": _rolled_back,
    "withdrawal.judged": _withdrawal_judged,
    "release.troubled": _troubled,
    "release.approved": _approved,
    "release.paused": _paused,
    "release.resumed": _resumed,
    "finished": _finished,
    "backup.verified": _backed_up,
    "way_back.judged": _way_back_judged,
    "certificate.written": _certified,
    "certificate.accepted": _certified,
    "check.judged": _checked,
    "restore.begun": _restore_begun,
    "restore.read_only": _restore_read_only,
    "restore.ended": _restore_ended,
    "flags.wanted": _flags_wanted,
    "rehearsal.begun": _rehearsal_begun,
    "rehearsal.undone": _rehearsal_undone,
    "rehearsed": _rehearsed,
    "journal.replaced": _replaced,
}
