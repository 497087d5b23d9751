"""What is true of a target, folded from its journal. Pure: entries in, one value out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rollout.target.journal import Entry
from rollout.target.wanted_flags import READ_ONLY


@dataclass(frozen=True)
class Slot:
    """What a slot holds. ``known`` are the flags its release knows, with their defaults."""

    release: str
    commit: str = ""
    sha256: str = ""
    known: Mapping[str, str] = field(default_factory=dict)
    proven: bool = False


@dataclass(frozen=True)
class Window:
    """A watched stretch of time at one share; ``verdict`` is empty while it is open.

    ``baseline`` is what the slot beside the release came to: in a step once it is closed, in a window
    without such a slot from the start. ``claim`` says what the window can see.
    """

    id: str
    kind: str
    release: str
    slot: str
    control: str | None
    share: int
    opened_at: float
    limits: Mapping[str, Any]
    verdict: str = ""
    summary: str = ""
    baseline: Mapping[str, Any] | None = None
    claim: str = ""
    why: str = ""


@dataclass(frozen=True)
class Rollout:
    """The newest rollout of a target; ``ended`` is empty, ``finished`` or ``rolled back``.

    ``first_window`` is the place of its first window among all that there were.
    """

    release: str
    slot: str
    from_slot: str | None
    from_release: str | None
    begun_at: float
    share: int = 0
    ended: str = ""
    first_window: int = 0


@dataclass(frozen=True)
class Restoration:
    """A restore over the database; ``id`` is its journal entry, ``ended`` empty, ``done`` or ``given up``.

    ``read_only_at`` is since when it is proven that nothing is written, 0 while it is not.
    """

    id: int
    backup: str
    begun_at: float
    was_read_only: bool = False
    read_only_at: float = 0.0
    replaced: str = ""
    ended: str = ""


@dataclass(frozen=True)
class State:
    """Everything the journal says of a target."""

    slots: Mapping[str, Slot] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)
    rollout: Rollout | None = None
    windows: tuple[Window, ...] = ()
    good: tuple[str, ...] = ()
    quarantined: Mapping[str, str] = field(default_factory=dict)
    backup: Mapping[str, Any] | None = None
    way_back: Mapping[str, Any] | None = None
    certificate: Mapping[str, Any] | None = None
    verdicts: tuple[Mapping[str, Any], ...] = ()
    restoration: Restoration | None = None
    rehearsal: Mapping[str, Any] | None = None

    @property
    def open_window(self) -> Window | None:
        return next((window for window in reversed(self.windows) if not window.verdict), None)

    @property
    def serving(self) -> str | None:
        """The slot with the larger share, ``None`` when nothing was ever put live."""
        live = {slot: share for slot, share in self.shares.items() if share > 0}
        return max(live, key=lambda slot: live[slot]) if live else None

    def windows_of(self, release: str) -> tuple[Window, ...]:
        """The windows of the newest rollout of ``release``."""
        first = self.rollout.first_window if self.rollout and self.rollout.release == release else 0
        return tuple(window for window in self.windows[first:] if window.release == release)


BEGUN = ("release", "slot", "from_slot", "from_release")


def fold(entries: Iterable[Entry]) -> State:
    """Return the state that a journal's entries add up to."""
    state = State()
    for entry in entries:
        state = _after(state, entry)
    return state


def _after(state: State, entry: Entry) -> State:
    handler = HANDLERS.get(entry.event)
    return handler(state, entry) if handler else state


def _claimed(state: State, entry: Entry) -> State:
    before = state.slots.get(entry.data["slot"])
    # Until the newcomer is proven, what its predecessor knew says best to what its flags can be lowered.
    slot = Slot(entry.data["release"], known=before.known if before else {})
    return replace(_rehearsal_over(state), slots={**state.slots, entry.data["slot"]: slot})


def _proven(state: State, entry: Entry) -> State:
    data = entry.data
    slot = Slot(data["release"], data["commit"], data["sha256"], data["known"], proven=True)
    return replace(state, slots={**state.slots, data["slot"]: slot})


def _begun(state: State, entry: Entry) -> State:
    share = state.shares.get(entry.data["slot"], 0)
    begun = Rollout(
        begun_at=entry.at,
        share=share,
        first_window=len(state.windows),
        **{name: entry.data[name] for name in BEGUN},
    )
    released = {release: why for release, why in state.quarantined.items() if release != begun.release}
    return replace(_rehearsal_over(state), rollout=begun, quarantined=released)


def _opened(state: State, entry: Entry) -> State:
    return replace(state, windows=(*state.windows, Window(opened_at=entry.at, **entry.data)))


def _finished(state: State, entry: Entry) -> State:
    release = entry.data["release"]
    ended = replace(state.rollout, ended="finished") if state.rollout else None
    return replace(state, rollout=ended, good=(*(r for r in state.good if r != release), release))


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


def _rolled_back(state: State, entry: Entry) -> State:
    data = entry.data
    rollout = state.rollout
    if rollout is None or rollout.release != data["release"]:
        return state
    good = tuple(release for release in state.good if release != data["release"])
    quarantined = {**state.quarantined, data["release"]: data["why"]}
    return replace(
        state, rollout=replace(rollout, ended="rolled back", share=0), good=good, quarantined=quarantined
    )


def _restore_begun(state: State, entry: Entry) -> State:
    data = entry.data
    return replace(state, restoration=Restoration(entry.seq, data["backup"], entry.at, data["was_read_only"]))


def _restore_read_only(state: State, entry: Entry) -> State:
    if state.restoration is None or state.restoration.ended:
        return state
    return replace(state, restoration=replace(state.restoration, read_only_at=entry.at))


def _flags_wanted(state: State, entry: Entry) -> State:
    """Take writes for possible again as soon as a slot need not refuse them."""
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
    names = ("rollout", "good", "quarantined", "rehearsal")
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


HANDLERS: Mapping[str, Callable[[State, Entry], State]] = {
    "slot.claimed": _claimed,
    "slot.proven": _proven,
    "rollout.begun": _begun,
    "traffic.shifted": _shifted,
    "window.opened": _opened,
    "window.closed": _closed,
    "window.decided": _closed,
    "rolled_back": _rolled_back,
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
}
