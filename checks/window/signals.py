"""The site's own signals, such as notes written per minute: held against their own time before the release.

A sample holds ``{"signals": {name: {"at": unix seconds, "value": number} or {"at": …, "error": why not}}}``,
its first ones ``"signals_before": {name: [number, …]}`` as well. What a signal shows may have another cause,
such as the night, so its harm is held.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from checks.base.report import Finding, compare, held, require
from checks.base.validation import validate
from checks.window.levels import Shift, Wander, averaging
from checks.window.segments import number

# The chance of saying wrongly that a signal is worse.
DOUBT = 5e-4
# So many readings of before and of the window tell something; older than this is none of now.
FEWEST, STALE_SECONDS = 6, 30.0
# Readings do not come more often, so that there are at most so many.
LEAST_INTERVAL = 1.0
ADDRESS = re.compile(r"https?://([^/@\s]+@)?[^/@:\s]+(:\d{1,5})?(/\S*)?$")
LOWER, HIGHER = "lower", "higher"


class Judged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a signal is held against: ``tolerable`` is a change for the worse, a number or, as 30%, a part."""

    better: str
    tolerable: str
    observe: bool = False

    def __post_init__(self) -> None:
        if self.better not in (LOWER, HIGHER):
            raise ValueError(f"better is {self.better!r}. Use {HIGHER} or {LOWER}")
        self.tolerated(1.0)

    def tolerated(self, before: float) -> float:
        """How far the signal may change for the worse, given what it was."""
        part = self.tolerable.endswith("%")
        try:
            value = float(self.tolerable.removesuffix("%"))
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ValueError(
                f"tolerable is {self.tolerable!r}. Use a number such as 5, or a part such as 30%"
            )
        return value / 100 * abs(before) if part else value


class Signal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the inventory's ``p12_signals``: ``sql``, or ``query`` (PromQL) and the Prometheus' ``url``."""

    name: str
    better: str
    tolerable: str | int | float
    sql: str = ""
    query: str = ""
    url: str = ""
    observe: bool = False

    def __post_init__(self) -> None:
        if not self.name.replace("_", "a").isalnum() or not self.name.isascii():
            raise ValueError(f"its name is {self.name!r}. Use letters, digits and _")
        if bool(self.sql) == bool(self.query):
            raise ValueError("it needs sql, or query and url, and not both")
        if bool(self.query) != bool(self.url):
            raise ValueError("query in PromQL and url of the Prometheus belong together")
        if self.url and not ADDRESS.match(self.url):
            raise ValueError("its url is no address of a Prometheus. Use http://host:9090")
        self.judged  # noqa: B018  (raises for what nobody can judge by)

    @property
    def judged(self) -> Judged:
        return Judged(self.better, str(self.tolerable), self.observe)


def parse(given: Any) -> tuple[Signal, ...]:
    """Read ``p12_signals``; raises ValueError that says which signal is wrong, and what is accepted."""
    if not isinstance(given, list):
        raise ValueError("p12_signals is no list. Use: - {name: …, sql: …, better: higher, tolerable: 30%}.")
    signals = []
    for place, one in enumerate(given, 1):
        named = one.get("name") if isinstance(one, dict) else None
        try:
            signals.append(validate(one, Signal, "it"))
        except ValueError as error:
            raise ValueError(f"p12_signals: {named or f'number {place}'}: {error}.") from None
    names = [signal.name for signal in signals]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"p12_signals: {', '.join(twice)} is there twice. Use a name once.")
    return tuple(signals)


@dataclass
class Track:
    """One signal in a window; values are turned so that more is worse."""

    name: str
    judged: Judged
    horizon: int
    before: Sequence[float] = ()
    values: list[float] = field(default_factory=list)
    error: str = ""
    at: float = -math.inf
    _shift: Shift | None = None
    _wander: Wander = field(default_factory=lambda: Wander(1.0, 1.0))

    def begin(self, before: Sequence[Any]) -> None:
        """Take in what the signal was before the release, once."""
        known = [value for value in map(number, before) if value is not None]
        if self.before or len(known) < FEWEST:
            return
        self.before, mean = known, sum(known) / len(known)
        self._wander = Wander(0.1 * abs(mean), 0.01 * abs(mean) or 1e-9)
        for value in known:
            self._wander.add(value, 0.0)
        self._shift = Shift(self.judged.tolerated(mean), self.horizon, DOUBT)

    @property
    def usual(self) -> float:
        return sum(self.before) / len(self.before)

    def add(self, found: Mapping[str, Any]) -> None:
        """Take in a reading that is newer than the last one."""
        at, value = number(found.get("at")), number(found.get("value"))
        if at is None or at <= self.at:
            return
        self.at, self.error = at, "" if value is not None else str(found.get("error") or "it gives no number")
        if value is None:
            return
        self.values.append(value)
        if self._shift is not None:
            variance, memory, n = self._wander.variance, self._wander.memory, len(self.before)
            known = variance * averaging(n, memory)
            self._shift.add(self.worse(value), 0.0, lambda m: variance * averaging(m, memory) + known)

    def worse(self, value: float) -> float:
        return value - self.usual if self.judged.better == LOWER else self.usual - value

    def finding(self, now: float) -> Finding:
        """Whether it is surely worse than is tolerated; unknown while it looks so, or is not read."""
        name = f"signal_{self.name}"
        if self._shift is None:
            why = f"It was read {len(self.before)} times before the release (limit >= {FEWEST})."
            return require(name, None, "<", 1, why)
        if self.error or now - self.at > STALE_SECONDS or len(self.values) < FEWEST:
            why = self.error or f"it was read {len(self.values)} times in this window (limit >= {FEWEST})"
            if not self.error and self.values and now - self.at > STALE_SECONDS:
                why = f"its last reading is {now - self.at:.0f} s old (limit <= {STALE_SECONDS:g} s)"
            return require(name, None, "<", 1, f"{self.name}: {why}.")
        recent = self.values[len(self.values) // 2 :]
        mean, sure = sum(recent) / len(recent), round(max(self._shift.largest, 0.0), 3)
        less = "less" if self.judged.better == HIGHER else "more"
        said = (
            f"{self.name}: {mean:.3g} now, {self.usual:.3g} before the release"
            f" (tolerable {self.judged.tolerable} {less}); evidence {sure:.2g}, fails at 1"
        )
        if sure < 1 and self.worse(mean) > self._shift.tolerated:
            return require(name, None, "<", 1, f"{said}. Looks worse, not yet proven")
        return held(compare(name, sure, "<", 1, "Another cause than the release may be behind it.", said))


class Signals:
    """The signals of a window that is watched; ``observed`` are the findings that decide nothing."""

    def __init__(self, judged: Mapping[str, Any], max_seconds: float, is_first: bool = False) -> None:
        horizon = max(int(max_seconds / LEAST_INTERVAL), 1)
        self._tracks = [Track(name, validate(one, Judged, name), horizon) for name, one in judged.items()]
        self.observed = {f"signal_{track.name}" for track in self._tracks if track.judged.observe}
        self._now, self._is_first = 0.0, is_first

    def add(self, sample: Mapping[str, Any]) -> None:
        """Take in a sample's readings."""
        self._now = number(sample.get("at")) or self._now
        found, before = (_mapping(sample.get(name)) for name in ("signals", "signals_before"))
        for track in self._tracks:
            values = before.get(track.name)
            track.begin(values if isinstance(values, list) else ())
            track.add(_mapping(found.get(track.name)))

    def findings(self) -> list[Finding]:
        """What each came to; before a first release there is nothing to hold it against."""
        return [track.finding(self._now) for track in self._tracks if track.before or not self._is_first]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
