"""What a release must still do on a schema that a newer one made: read, write, and count nothing twice."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from checks.way_back.instance import Instance, NotServed

FIELDS = ("id", "text", "timestamp", "expires_at", "likes", "views", "reports", "author_fp")
PAGE, PAGES = 100, 3
REPORTS_THAT_REMOVE = 5
COUNTED_SECONDS = 15.0
# How views are counted: each way is another function of the database.
ARMS: Mapping[str, Mapping[str, str]] = {
    "inline": {"P12_ENABLE_ADVISORY_LOCKS": "0", "P12_ENABLE_VIEW_QUEUE": "0"},
    "with advisory locks": {"P12_ENABLE_ADVISORY_LOCKS": "1", "P12_ENABLE_VIEW_QUEUE": "0"},
    "through the queue": {"P12_ENABLE_ADVISORY_LOCKS": "0", "P12_ENABLE_VIEW_QUEUE": "1"},
}
Note = Mapping[str, Any]
Notes = Mapping[int, Note]


@dataclass(frozen=True)
class Written:
    """A note that a release wrote, and who viewed, liked and reported it once, on which UTC day."""

    note: int
    who: str
    day: str


def read(instance: Instance) -> Notes:
    """Read the newest notes, page by page as a client does, and some of them one by one.

    :raises NotServed: a page or a note is not answered as the contract says.
    """
    found: dict[int, Note] = {}
    query = f"?limit={PAGE}&wrap=1"
    for _ in range(PAGES):
        page = _answered(instance, "GET", f"/api/notes{query}", 200)
        found |= {note["id"]: _known(note) for note in page["items"]}
        if not page["has_more"]:
            break
        query = f"?limit={PAGE}&wrap=1&before_id={page['next_before_id']}"
    if list(found) != sorted(found, reverse=True):
        raise NotServed("the list of notes is not in descending order")
    for note in [*found][:: max(1, len(found) // 20)]:
        alone = _known(_answered(instance, "GET", f"/api/notes/{note}", 200))
        if alone != found[note]:
            raise NotServed(f"note {note} is {alone} alone and {found[note]} in the list")
    return found


def same(before: Notes, after: Notes) -> Iterator[str]:
    """Say which notes are not read as they were; one that has expired meanwhile is gone by right."""
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    oldest = min(after, default=0)
    for note, was in before.items():
        here = after.get(note)
        if here is None and note >= oldest and not (was["expires_at"] and was["expires_at"] <= now):
            yield f"note {note} is gone"
        elif here is not None and here != was:
            changed = [f"{name} {was[name]!r} → {here[name]!r}" for name in FIELDS if here[name] != was[name]]
            yield f"note {note} reads otherwise: {', '.join(changed)}"


def write(instance: Instance, who: str) -> Iterator[Written]:
    """Do every write of the contract, in each way that views are counted.

    :raises NotServed: one is not answered, or not counted, as the contract says.
    """
    for number, (way, flags) in enumerate(ARMS.items()):
        instance.set_flags(flags)
        text = f"way back: {who} {way} ñ ✓"
        by_json = _create(instance, text, who, fields={"text": text, "ttl_hours": 2})
        by_form = _create(instance, text, who, form={"text": text, "hours": "2"})
        for visitor in (who, f"{who}-2"):
            _answered(instance, "POST", f"/api/notes/{by_json}/view", 200, who=visitor)
            _answered(instance, "POST", f"/api/notes/{by_json}/like", 200, who=visitor)
        _answered(instance, "POST", f"/api/view?id={by_json}", 200, who=f"{who}-3")
        _answered(instance, "POST", f"/api/notes/{by_json}/report", 200, who=who, fields={"reason": "x"})
        written = Written(by_json, who, _day())
        _again(instance, written)
        _counted(instance, by_json, {"views": 3, "likes": 2, "reports": 1}, way)
        _remove(instance, by_form, f"{who}-{number}")
        yield written


def repeat(instance: Instance, written: Written) -> None:
    """View, like and report again as one who did before: nothing may be counted twice.

    :raises NotServed: something was.
    """
    instance.set_flags(ARMS["inline"])
    before = _counters(instance, written.note)
    _again(instance, written)
    after = _counters(instance, written.note)
    if after != before and written.day == _day():
        raise NotServed(f"note {written.note} was counted twice for one visitor: {before} → {after}")


def _again(instance: Instance, written: Written) -> None:
    for verb in ("view", "like", "report"):
        _answered(instance, "POST", f"/api/notes/{written.note}/{verb}", 200, who=written.who)


def _day() -> str:
    return datetime.now(UTC).date().isoformat()


def _create(instance: Instance, text: str, who: str, **body: Any) -> int:
    made = _answered(instance, "POST", "/api/notes", 201, who=who, **body)
    counters = [made[name] for name in ("likes", "views", "reports")]
    if made["text"] != text or any(counters):
        raise NotServed(f"a new note of {text!r} came back as {made}")
    return int(made["id"])


def _remove(instance: Instance, note: int, who: str) -> None:
    for number in range(REPORTS_THAT_REMOVE):
        answer = _answered(
            instance, "POST", f"/api/notes/{note}/report", 200, who=f"{who}-{number}", form={"reason": "spam"}
        )
    if not answer["removed"]:
        raise NotServed(f"note {note} has {answer['reports']} reports and was not removed")
    _answered(instance, "GET", f"/api/notes/{note}", 404)


def _counted(instance: Instance, note: int, wanted: Mapping[str, int], way: str) -> None:
    """Wait until a note's counters are right; the worker counts what was queued."""
    _until(lambda: _counters(instance, note) == wanted)
    found = _counters(instance, note)
    if found != wanted:
        raise NotServed(f"views {way}: note {note} has {found}, and {wanted} were answered")


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + COUNTED_SECONDS
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)


def _counters(instance: Instance, note: int) -> dict[str, int]:
    found = _answered(instance, "GET", f"/api/notes/{note}", 200)
    return {name: found[name] for name in ("views", "likes", "reports")}


def _answered(instance: Instance, method: str, path: str, wanted: int, **more: Any) -> Any:
    status, answer = instance.ask(method, path, **more)
    if status != wanted:
        raise NotServed(f"{method} {path} answers {status} {answer}, and {wanted} is right")
    return answer


def _known(note: Note) -> Note:
    return {name: note[name] for name in FIELDS}
