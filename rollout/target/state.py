"""What is true of a target, and how it is written down."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

# Verdicts of a window for which the guard turns traffic back.
TURNED_BACK = ("failed", "held")
# Verdicts that a person may replace by a decision, where the release still has its traffic.
UNDECIDED = ("unknown", "held")


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

    ``baseline`` is what the slot beside the release came to: in a step once it is closed, in the long window
    from the start, as the steps had shown it. ``claim`` says what the window can see.
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

    ``first_window`` is the place of its first window among all that there were; ``steps`` are its own, where
    the site's are not what it takes.
    """

    release: str
    slot: str
    from_slot: str | None
    from_release: str | None
    begun_at: float
    share: int = 0
    ended: str = ""
    first_window: int = 0
    steps: list[int] = field(default_factory=list)
    ended_at: float = 0.0


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
    """Everything the journal says of a target.

    ``flags`` is what each slot was last wanted to have, with its ``generation``; ``unknown`` are events of
    which this kit knows nothing; ``rollback`` is one that was begun and is not finished;
    ``damaged`` is the journal before this one, where that could not be read; ``withdrawal`` is the newest
    release that was turned back for harm that may be somebody else's, until it is known whose it was, and
    ``withdrawn`` how likely each release's harm was somebody else's, each time it went away;
    ``troubled`` says of a release that was good what was found since; ``paused`` who holds up the release
    that is under way, since when and why; ``approvals`` are who has signed which certificate.
    """

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
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    damaged: str = ""
    rollback: Mapping[str, Any] | None = None
    withdrawal: Mapping[str, Any] | None = None
    withdrawn: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    troubled: Mapping[str, Any] | None = None
    paused: Mapping[str, Any] | None = None
    approvals: tuple[Mapping[str, Any], ...] = ()

    @property
    def open_window(self) -> Window | None:
        return next((window for window in reversed(self.windows) if not window.verdict), None)

    @property
    def serving(self) -> str | None:
        """The slot with the larger share, ``None`` when nothing was ever put live."""
        live = {slot: share for slot, share in self.shares.items() if share > 0}
        return max(live, key=lambda slot: live[slot]) if live else None

    @property
    def startable(self) -> dict[str, str]:
        """What serves, as its artifact is named; empty where it has none, as today's service."""
        held = self.slots.get(self.serving or "")
        return {"release": held.release, "sha256": held.sha256} if held and held.sha256 else {}

    @property
    def can_turn_back(self) -> bool:
        """Whether what served before the newest rollout is still where it was."""
        rollout = self.rollout
        before = self.slots.get(rollout.from_slot or "") if rollout else None
        return bool(rollout and before and before.proven and before.release == rollout.from_release)

    @property
    def failed_window(self) -> Window | None:
        """A window for which the rollout in progress can only be turned back."""
        rollout = self.rollout
        windows = self.windows_of(rollout.release) if rollout and not rollout.ended else ()
        against = TURNED_BACK if rollout and rollout.from_slot else ("failed",)
        return next((window for window in windows if window.verdict in against), None)

    @property
    def is_replaceable(self) -> bool:
        """Whether another release may take the place of the newest one, which nothing need wait for."""
        rollout = self.rollout
        if rollout is None or rollout.ended:
            return True
        return not rollout.from_slot and (self.failed_window is not None or not rollout.share)

    def windows_of(self, release: str) -> tuple[Window, ...]:
        """The windows of the newest rollout of ``release``."""
        first = self.rollout.first_window if self.rollout and self.rollout.release == release else 0
        return tuple(window for window in self.windows[first:] if window.release == release)


def known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``values`` that a dataclass has; a newer kit may write more."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def state_of(document: Mapping[str, Any]) -> State:
    """Return the state that ``asdict`` made a document of; what is missing is as in a new one."""
    given = known(State, document)
    for name in ("good", "verdicts", "unknown", "approvals"):
        given[name] = tuple(given.get(name, ()))
    given["slots"] = {slot: Slot(**known(Slot, held)) for slot, held in given.get("slots", {}).items()}
    given["windows"] = tuple(Window(**known(Window, each)) for each in given.get("windows", ()))
    for name, kind in (("rollout", Rollout), ("restoration", Restoration)):
        given[name] = kind(**known(kind, given[name])) if given.get(name) else None
    kept = (given.get("rehearsal") or {}).get("kept")
    if kept:
        inner = state_of(kept)
        given["rehearsal"] = {**given["rehearsal"], "kept": {name: getattr(inner, name) for name in kept}}
    return State(**given)
