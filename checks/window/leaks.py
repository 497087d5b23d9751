"""What grows in a window and would reach its limit: memory, open files, connections, the queue's lag.

A slope is Theil's and Sen's: the median of the slopes of all pairs of points, which a third of wild ones
does not move; its interval is Sen's (1968), from the variance of Kendall's S, widened where residuals hang
together (Hamed and Rao 1998). What slows down as it grows is a process that warms up: it is followed to
where it ends.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from checks.base.report import Finding, compare, held
from checks.window.absence import duration
from checks.window.limits import WindowLimits
from checks.window.segments import number

# Standard errors that a growth must be away from none: it is looked at often, of many processes.
SURE = 3.5
MOST_POINTS, FEWEST_POINTS, LEAST_SECONDS = 40, 12, 120.0
# After so many seconds it looks ahead as far as was watched, later farther, at most 12 times as far.
TRUSTED_SECONDS, FARTHEST = 300.0, 12.0
# A second half that grows by less than so much of the first one's growth is on its way to an end.
SLOWING = 0.75
# More often it need not be looked at.
EVERY_SECONDS = 5.0
# How much longer a series must be to be looked at again.
AGAIN = 1.15
Point = tuple[float, float]


@dataclass(frozen=True)
class Growth:
    """Units a second: Theil's and Sen's slope, and the bounds it surely lies between."""

    slope: float
    low: float
    high: float


STILL = Growth(0.0, 0.0, 0.0)


def slope_of(points: Sequence[Point]) -> float:
    """The median slope of all pairs of points."""
    return median(_slopes(points))


def growth(points: Sequence[Point]) -> Growth:
    """How fast points grow, and how sure that is; the bounds are infinite where too few points tell."""
    slopes, n = sorted(_slopes(points)), len(points)
    middle = median(slopes)
    variance = n * (n - 1) * (2 * n + 5) / 18 * _hanging_together([y - middle * x for x, y in points])
    out = math.floor((len(slopes) - SURE * math.sqrt(variance)) / 2)
    if out < 1:
        return Growth(middle, -math.inf, math.inf)
    return Growth(middle, slopes[out - 1], slopes[-out])


def _slopes(points: Sequence[Point]) -> list[float]:
    return [(v - y) / (u - x) for i, (x, y) in enumerate(points) for u, v in points[i + 1 :]]


def _hanging_together(residuals: Sequence[float]) -> float:
    """How many times larger a variance is for residuals that follow each other, as an AR(1)'s."""
    mean = sum(residuals) / len(residuals)
    off = [value - mean for value in residuals]
    spread = sum(value * value for value in off)
    if not spread:
        return 1.0
    # What few values show of their memory is too little by about 4/n.
    memory = sum(a * b for a, b in pairwise(off)) / spread + 4 / len(off)
    memory = min(max(memory, 0.0), 0.95)
    return (1 + memory) / (1 - memory)


@dataclass
class Series:
    """One value over time, in at most ``MOST_POINTS`` means of equally long times."""

    begin: float
    width: float = EVERY_SECONDS
    _sums: list[list[float]] = field(default_factory=list)
    last: float = 0.0
    looked_at: float = 0.0

    def add(self, at: float, value: float) -> None:
        place = int((at - self.begin) / self.width)
        while place >= MOST_POINTS:
            self._sums = [_together(self._sums[i : i + 2]) for i in range(0, len(self._sums), 2)]
            self.width, place = 2 * self.width, place // 2
        while len(self._sums) <= place:
            self._sums.append([0.0, 0.0, 0.0])
        sums = self._sums[place]
        for i, more in enumerate((1.0, at, value)):
            sums[i] += more
        self.last = value

    @property
    def points(self) -> list[Point]:
        return [(at / n, value / n) for n, at, value in self._sums if n]

    @property
    def seconds(self) -> float:
        return len(self._sums) * self.width


def _together(sums: Sequence[Sequence[float]]) -> list[float]:
    return [sum(values) for values in zip(*sums, strict=True)]


def seconds_to(limit: float, now: float, points: Sequence[Point]) -> float:
    """In how many seconds a growing value reaches its limit; infinite where its growth ends before."""
    half = len(points) // 2
    early, late = slope_of(points[: half + 1]), slope_of(points[half:])
    if late <= 0:
        return math.inf
    left, span = limit - now, points[-1][0] - points[half][0]
    part = late / early if early > 0 else math.inf
    if part < SLOWING and late * span * part / (1 - part) < left:
        return math.inf
    return max(left, 0.0) / late


@dataclass(frozen=True)
class Kind:
    """What may leak: its name in a sample, in a finding, and its unit."""

    key: str
    words: str
    unit: str
    limit: Callable[[WindowLimits, Mapping[str, Any]], float | None]


def _told(name: str) -> Callable[[WindowLimits, Mapping[str, Any]], float | None]:
    return lambda _, found: number(found.get(name))


OF_INSTANCES = (
    Kind("resident_mb", "memory", " MB", lambda limits, _: limits.resident_mb),
    Kind("open_files", "open files", "", _told("open_files_limit")),
    Kind("connections", "database connections", "", _told("connections_limit")),
)
OF_DATABASE = (
    Kind(
        "connections",
        "connections of the database",
        "",
        lambda limits, found: (number(found.get("connection_limit")) or 0.0) * limits.connections_ratio,
    ),
    Kind("queue_lag_seconds", "the queue's lag", " s", lambda limits, _: limits.queue_lag_seconds),
)


@dataclass
class Leaks:
    """Watches both slots' processes, and the database that they share; harm that both share is held."""

    limits: WindowLimits
    candidate: str
    _series: dict[tuple[str, str, str], Series] = field(default_factory=dict)
    _limits: dict[tuple[str, str, str], float] = field(default_factory=dict)
    _started: dict[str, Any] = field(default_factory=dict)
    _found: dict[tuple[str, str], Finding] = field(default_factory=dict)
    _taken: float = -math.inf

    def add(self, elapsed: float, sample: Mapping[str, Any], arm_of: Callable[[str], str | None]) -> None:
        """Take in a sample, if the last one is a while ago; a process that began anew begins anew here."""
        if elapsed - self._taken < EVERY_SECONDS:
            return
        self._taken = elapsed
        instances, database = sample.get("instances"), sample.get("database")
        for name, found in instances.items() if isinstance(instances, dict) else ():
            slot = arm_of(name)
            if slot is None or not isinstance(found, dict):
                continue
            if self._started.setdefault(name, found.get("started")) != found.get("started"):
                self._started[name] = found.get("started")
                for kind in OF_INSTANCES:
                    self._series.pop((slot, name, kind.key), None)
            self._take(elapsed, slot, name, found, OF_INSTANCES)
        if isinstance(database, dict) and self.limits.watch_database:
            self._take(elapsed, "", "", database, OF_DATABASE)
        self._look()

    def findings(self) -> list[Finding]:
        """For each kind that was told, in how many hours the first process is at its limit."""
        return list(self._found.values())

    def _take(
        self, elapsed: float, slot: str, name: str, found: Mapping[str, Any], kinds: Sequence[Kind]
    ) -> None:
        if elapsed < self.limits.cold_seconds:
            return
        for kind in kinds:
            value, limit = number(found.get(kind.key)), kind.limit(self.limits, found)
            if value is None or not limit:
                continue
            key = (slot, name, kind.key)
            self._limits[key] = limit
            self._series.setdefault(key, Series(elapsed)).add(elapsed, value)

    def _look(self) -> None:
        for kind in OF_INSTANCES:
            due = list(self._due(kind, self.candidate))
            if due:
                self._found[self.candidate, kind.key] = self._worst(kind, due)
        for kind in OF_DATABASE:
            due = list(self._due(kind, ""))
            if due:
                self._found["", kind.key] = held(self._worst(kind, due))

    def _due(self, kind: Kind, slot: str) -> Iterator[tuple[str, str, str]]:
        """The series of a kind, once the longest of them has grown enough since they were last looked at."""
        keys = [key for key in self._series if key[0] == slot and key[2] == kind.key]
        longest = max((self._series[key] for key in keys), key=lambda series: series.seconds, default=None)
        if longest is None or longest.seconds < max(LEAST_SECONDS, AGAIN * longest.looked_at):
            return
        longest.looked_at = longest.seconds
        yield from keys

    def _worst(self, kind: Kind, keys: Sequence[tuple[str, str, str]]) -> Finding:
        others = [
            growth(series.points)
            for (slot, _, of), series in self._series.items()
            if slot not in (self.candidate, "") and of == kind.key and len(series.points) >= FEWEST_POINTS
        ]
        old = max(others, key=lambda found: found.slope, default=None) if keys[0][0] else None
        found = [self._finding(kind, key, old) for key in keys]
        return min(found, key=lambda one: float(one.measured or math.inf))

    def _finding(self, kind: Kind, key: tuple[str, str, str], beside: Growth | None) -> Finding:
        series, limit, old = self._series[key], self._limits[key], beside or STILL
        name = f"{key[2]}_hours_to_limit" if key[0] else f"database_{key[2]}_hours_to_limit"
        times = min(series.seconds / TRUSTED_SECONDS, FARTHEST)
        ahead = min(self.limits.leak_hours, times * series.seconds / 3600)
        points = series.points
        hours = seconds_to(limit, series.last, points) / 3600 if len(points) >= FEWEST_POINTS else math.inf
        if hours >= ahead or (grown := growth(points)).low <= max(old.high, 0.0):
            said = f"{kind.words}: surely at no limit within {ahead:.2g} h"
            return compare(name, ahead, ">=", ahead, sentence=said)
        more = "more than the old slot's" if beside else ""
        fast = _per_time(grown.slope - old.slope, kind.unit)
        shown = f"{limit:.4g}{kind.unit}"
        sentence = " ".join(filter(None, [f"{kind.words} grows {fast}", more]))
        sentence += f": at its limit of {shown} in {duration(60 * hours)}"
        hint = f"{key[1]} is the first; what does it keep?" if key[1] else "Both slots share it."
        return compare(name, round(hours, 3), ">=", ahead, hint, sentence)


def _per_time(slope: float, unit: str) -> str:
    """A slope a second in the time that gives a number above 1, if one of them does."""
    for seconds, name in ((60.0, "min"), (3600.0, "h")):
        if slope * seconds >= 1 or name == "h":
            return f"{slope * seconds:.2g}{unit}/{name}"
    return ""
