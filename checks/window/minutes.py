"""Minutes of the request log, small enough to keep for weeks: how a service is while nobody changes it.

Pure. A minute is a block as ``streams`` weighs it, so that what is kept counts as a window counts. Its line:

    {"minute": 1795885200, "seconds": 60.0, "release": "4f1c…", "slots": {"blue": {
      "events": {"busy": 2}, "routes": {"GET /api/notes": [judged, good, sum of buckets, {"busy": 2},
      {coarse bucket: answers}]}}}}

``seconds`` is how much of the minute is known, ``release`` what served alone, "" where something was changed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from checks.window.cells import read_cell
from checks.window.streams import Anonymity, Block, Fold, Timing

MINUTE = 60
# So many buckets of 4 % are one here, 17 % wide.
COARSE = 4
# What came in a longer time than this belongs to no minute.
LONGEST_LOOK = 30.0
MOST = 2.0**53


@dataclass(frozen=True)
class Minute:
    """What one slot and the other answered in a minute that began at ``start``."""

    start: int
    seconds: float
    release: str
    block: Block

    def to_line(self) -> str:
        """Its line, without the newline."""
        slots: dict[str, Any] = {slot: {"events": {}, "routes": {}} for slot, _ in self.block.judged}
        for (slot, route), judged in self.block.judged.items():
            coarse: dict[int, int] = {}
            for bucket, answers in self.block.route_buckets.get((slot, route), {}).items():
                coarse[bucket // COARSE] = coarse.get(bucket // COARSE, 0) + answers
            timing = self.block.timing.get((slot, route), Timing())
            good = self.block.good.get((slot, route), 0.0)
            slots[slot]["routes"][route] = [_short(judged), _short(good), _short(timing.total), {}, coarse]
        for (of, slot), events in self.block.events.items():
            slots.setdefault(slot, {"events": {}, "routes": {}})["events"][of] = _short(events)
        for (of, route, slot), events in self.block.route_events.items():
            routes = slots[slot]["routes"]
            routes.setdefault(route, [0, 0, 0, {}, {}])[3][of] = _short(events)
        kept = {"minute": self.start, "seconds": round(self.seconds, 1), "release": self.release}
        return json.dumps({**kept, "slots": slots}, separators=(",", ":"))


def read_minute(line: bytes) -> Minute | None:
    """The minute of a line; None for what is none, such as a line that was cut short."""
    try:
        kept = json.loads(line)
        start, seconds, release = kept["minute"], _number(kept["seconds"]), kept["release"]
        if type(start) is not int or not isinstance(release, str) or not 0 <= seconds <= 2 * MINUTE:
            return None
        block = Block(float(start))
        for slot, found in kept["slots"].items():
            for of, events in found["events"].items():
                block.events[of, slot] = _number(events)
            for route, values in found["routes"].items():
                _fill(block, slot, route, *values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return Minute(start, seconds, release, block)


def _fill(
    block: Block,
    slot: str,
    route: str,
    judged: Any,
    good: Any,
    total: Any,
    events: Mapping[str, Any],
    coarse: Mapping[str, Any],
) -> None:
    block.judged[slot, route], block.good[slot, route] = _number(judged), _number(good)
    for of, count in events.items():
        block.route_events[of, route, slot] = _number(count)
    # In the middle of what was one: what lies within 9 % of it.
    fine = {COARSE * int(bucket) + COARSE // 2: int(_number(count)) for bucket, count in coarse.items()}
    block.route_buckets[slot, route] = fine
    together = block.buckets[slot]
    for bucket, count in fine.items():
        together[bucket] = together.get(bucket, 0) + count
    squares = sum(bucket * bucket * count for bucket, count in fine.items())
    # Less than a millisecond has a bucket below 0.
    total = math.copysign(_number(abs(total)), total)
    block.timing[slot, route] = Timing(sum(fine.values()), total, float(squares))


def _number(value: Any) -> float:
    """A count that something can have; raises ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise ValueError(value)
    return float(value)


def _short(value: float) -> float:
    found = round(value, 2)
    return int(found) if found == int(found) else found


class Minutes:
    """Folds what each look brought into minutes; what is not known to be whole is left out of them."""

    def __init__(self, slots: tuple[str, ...]) -> None:
        self._fold = Fold(slots)
        self._anonymity = Anonymity()
        self._at: float | None = None
        self._begin(0)

    def _begin(self, start: int) -> None:
        self._start, self._seconds, self._block = start, 0.0, Block(float(start))
        self._release: str | None = None

    def add(self, at: float, found: Mapping[str, Any], release: str) -> Minute | None:
        """Take in a look that ended at ``at``; return the minute that is over with it, if one is."""
        start, over = int(at // MINUTE) * MINUTE, None
        if start != self._start:
            over = self.take()
            self._begin(start)
        seconds, self._at = at - (at if self._at is None else self._at), at
        self._release = release if self._release in (None, release) else ""
        if found.get("broken") or not 0 < seconds <= LONGEST_LOOK:
            return over
        self._fold.is_anonymous = self._anonymity.add(at, found.get("clients"))
        cells = [read_cell(value) for value in found["cells"]]
        self._fold.add(self._block, [cell for cell in cells if cell], found.get("marks") or {})
        self._seconds += seconds
        return over

    def take(self) -> Minute | None:
        """The minute at hand as far as it is known; None where nothing of it is."""
        if not self._seconds:
            return None
        self._block.close()
        return Minute(self._start, min(self._seconds, MINUTE), self._release or "", self._block)
