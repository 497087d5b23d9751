"""What a journal tells of each release, and the four DORA figures. Pure: entries in, values out.

Entries may begin anywhere, have gaps and hold events of a newer kit: what is not told is left out. A release
that went up twice has two stories. The figures: https://dora.dev/guides/dora-metrics-four-keys/
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rollout.target.journal import Entry

# How a story ended; "turned back" alone is a change that failed.
UNDER_WAY, GOOD, TURNED_BACK, HELD, LEFT = "under way", "good", "turned back", "held", "left unfinished"
DAY = 86400.0


@dataclass
class Stage:
    """A stretch or, with the same ``ended``, a moment of a release; ``ended`` is None while it goes on."""

    name: str
    began: float
    ended: float | None
    who: str
    verdict: str = ""
    summary: str = ""
    id: str = ""


@dataclass
class Story:
    """One way up of a release. ``seen_at`` is when what failed it began to reach visitors, or was found."""

    release: str
    began: float
    slot: str = ""
    commit: str = ""
    committed_at: float = 0.0
    why: str = ""
    outcome: str = UNDER_WAY
    ended: float | None = None
    good_at: float | None = None
    traffic_at: float | None = None
    seen_at: float | None = None
    restored_at: float | None = None
    stages: list[Stage] = field(default_factory=list)

    def waited(self, now: float) -> float:
        """For how many seconds nothing went on: nobody had decided, or had called the next stage."""
        end, reached, idle = self.ended or now, self.began, 0.0
        for stage in sorted(self.stages, key=lambda stage: stage.began):
            idle += max(min(stage.began, end) - reached, 0.0)
            reached = max(reached, now if stage.ended is None else stage.ended)
        return idle + max(end - reached, 0.0)

    def close(self, at: float) -> None:
        """End what goes on."""
        for stage in self.stages:
            stage.ended = at if stage.ended is None else stage.ended


class Told:
    """The stories so far."""

    def __init__(self) -> None:
        self.stories: list[Story] = []
        self._is_rehearsed = False
        self._backup: Entry | None = None

    def add(self, entry: Entry) -> None:
        """Go on with an entry."""
        if entry.event in ("rehearsal.begun", "rehearsal.undone", "slot.claimed", "rollout.begun"):
            self._is_rehearsed = entry.event == "rehearsal.begun"
        handler = HANDLERS.get(entry.event)
        if handler and not self._is_rehearsed:
            handler(self, entry, Data(entry.data if isinstance(entry.data, Mapping) else {}))
        self._backup = entry if entry.event == "backup.verified" else None

    def newest(self, release: str) -> Story | None:
        return next((story for story in reversed(self.stories) if story.release == release), None)

    def open(self, release: str, began: float) -> Story:
        """The story of a release that is on its way; what another one had begun is left."""
        story = self.newest(release)
        if story and story.ended is None:
            return story
        if not release:
            return Story("", began)
        for before in self.stories:
            if before.ended is None:
                before.close(began)
                before.outcome, before.ended = LEFT, began
        self.stories.append(Story(release, began))
        return self.stories[-1]

    def moment(self, entry: Entry, release: str, name: str, verdict: str = "", summary: str = "") -> None:
        if story := self.newest(release):
            story.stages.append(Stage(name, entry.at, entry.at, entry.owner, verdict, summary))

    def window(self, of: str) -> tuple[Story, Stage] | None:
        pairs = ((story, stage) for story in reversed(self.stories) for stage in story.stages)
        return next((pair for pair in pairs if of and pair[1].id == of), None)

    def tried(self, entry: Entry, data: "Data") -> None:
        """The way back of a release was tried, with the backup that stands right before."""
        release = data.part("new").text("release")
        began = entry.at
        if self._backup:
            began = min(Data(self._backup.data).number("started_at") or entry.at, entry.at)
        story = self.open(release, began)
        story.stages.append(
            Stage("backup", began, entry.at, entry.owner, data.text("verdict"), data.text("summary"))
        )

    def admitted(self, entry: Entry, data: "Data") -> None:
        story = self.open(data.part("certificate").text("release"), entry.at)
        self.moment(entry, story.release, "certificate accepted")

    def claimed(self, entry: Entry, data: "Data") -> None:
        story = self.open(data.text("release"), entry.at)
        story.slot = data.text("slot")
        story.stages.append(Stage("install", entry.at, None, entry.owner))

    def proven(self, entry: Entry, data: "Data") -> None:
        story = self.open(data.text("release"), entry.at)
        story.slot, story.commit = data.text("slot"), data.text("commit")
        story.committed_at = data.number("committed_at")
        for stage in story.stages:
            if stage.name == "install" and stage.ended is None:
                stage.ended, stage.verdict = entry.at, "passed"

    def begun(self, entry: Entry, data: "Data") -> None:
        story = self.open(data.text("release"), entry.at)
        story.slot, story.why = data.text("slot"), data.text("why")

    def shifted(self, entry: Entry, data: "Data") -> None:
        story = self.newest(data.text("release"))
        if story is None or story.ended is not None:
            return
        if share := data.part("shares").number(story.slot):
            story.traffic_at = story.traffic_at or entry.at
            story.seen_at = entry.at
            self.moment(entry, story.release, f"{share:g} % of the requests")

    def opened(self, entry: Entry, data: "Data") -> None:
        story = self.open(data.text("release"), entry.at)
        is_step = data.text("kind") == "step"
        name = f"window at {data.number('share'):g} %" if is_step else "monitor window"
        story.stages.append(Stage(name, entry.at, None, entry.owner, id=data.text("id")))

    def closed(self, entry: Entry, data: "Data") -> None:
        found = self.window(data.text("id"))
        if found is None:
            return
        story, stage = found
        if stage.ended is None:
            stage.ended, stage.verdict, stage.summary = entry.at, data.text("verdict"), data.text("summary")
        else:
            self.moment(entry, story.release, "decision", data.text("verdict"), data.text("summary"))

    def turning(self, entry: Entry, data: "Data") -> None:
        story = self.newest(data.text("release"))
        if story and story.outcome not in (TURNED_BACK, HELD):
            if story.good_at and not (story.seen_at and story.seen_at > story.good_at):
                story.seen_at = entry.at
            story.stages.append(Stage("rollback", entry.at, None, entry.owner, summary=data.text("why")))

    def turned(self, entry: Entry, data: "Data") -> None:
        story = self.newest(data.text("release")) or self.open(data.text("release"), entry.at)
        if story.outcome in (TURNED_BACK, HELD):
            return
        story.close(entry.at)
        story.outcome = HELD if data.text("held") else TURNED_BACK
        story.ended = story.restored_at = entry.at
        story.seen_at = story.seen_at or entry.at

    def blamed(self, entry: Entry, data: "Data") -> None:
        story = self.newest(data.text("release"))
        if story and story.outcome == HELD and data.text("verdict") == "failed":
            story.outcome = TURNED_BACK
        self.moment(entry, data.text("release"), "whose harm", data.text("verdict"), data.text("summary"))

    def troubled(self, entry: Entry, data: "Data") -> None:
        if story := self.newest(data.text("release")):
            story.seen_at = entry.at
            self.moment(entry, story.release, "trouble found", "failed", data.text("summary"))

    def finished(self, entry: Entry, data: "Data") -> None:
        story = self.newest(data.text("release")) or self.open(data.text("release"), entry.at)
        if story.ended is None:
            story.close(entry.at)
            story.outcome, story.good_at, story.ended = GOOD, entry.at, entry.at
            self.moment(entry, story.release, GOOD)

    def checked(self, entry: Entry, data: "Data") -> None:
        named = (data.text("release"), data.text("check"), data.text("verdict"), data.text("summary"))
        self.moment(entry, *named)


class Data(dict[str, Any]):
    """What an entry says, where anybody may have written it: what is of another type is not there."""

    def text(self, name: str) -> str:
        found = self.get(name)
        return found if isinstance(found, str) else ""

    def number(self, name: str) -> float:
        found = self.get(name)
        return float(found) if isinstance(found, int | float) else 0.0

    def part(self, name: str) -> "Data":
        found = self.get(name)
        return Data(found if isinstance(found, Mapping) else {})


HANDLERS: Mapping[str, Callable[[Told, Entry, Data], None]] = {
    "way_back.judged": Told.tried,
    "certificate.accepted": Told.admitted,
    "slot.claimed": Told.claimed,
    "slot.proven": Told.proven,
    "rollout.begun": Told.begun,
    "traffic.shifted": Told.shifted,
    "window.opened": Told.opened,
    "window.closed": Told.closed,
    "window.decided": Told.closed,
    "rollback.begun": Told.turning,
    "rolled_back": Told.turned,
    "withdrawal.judged": Told.blamed,
    "release.troubled": Told.troubled,
    "finished": Told.finished,
    "check.judged": Told.checked,
}


def stories(entries: Iterable[Entry]) -> list[Story]:
    """Return the story of each way up of a release, in the order that they began."""
    told = Told()
    for entry in entries:
        told.add(entry)
    return told.stories


def figures(told: Sequence[Story], now: float) -> dict[str, Any]:
    """Return the four DORA figures of these stories, each with how many it is of; None where of none.

    A deployment is a release that became good; a change is one that had traffic, and it failed if it was
    turned back for what was its own. It is restored from when the share with which it failed was given, or,
    once it was good, from when something was found or somebody began to turn it back.
    """
    good = [story for story in told if story.good_at]
    changes = [story for story in told if story.traffic_at and story.outcome != UNDER_WAY]
    failed = [story for story in changes if story.outcome == TURNED_BACK]
    lead = [story.good_at - story.committed_at for story in good if story.good_at and story.committed_at]
    restored = [(story.restored_at or now) - (story.seen_at or now) for story in failed]
    days = (now - told[0].began) / DAY if told else 0.0
    return {
        "days": round(days, 2),
        "deployments": len(good),
        "deployments_per_week": round(len(good) * 7 / days, 2) if days >= 7 else None,
        "lead_time_seconds": round(median(lead), 1) if lead else None,
        "lead_times": len(lead),
        "changes": len(changes),
        "failed_changes": len(failed),
        "change_failure_percent": round(100 * len(failed) / len(changes), 1) if changes else None,
        "restore_seconds": round(median(restored), 1) if restored else None,
    }
