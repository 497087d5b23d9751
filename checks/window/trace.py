"""What a window was like over time, from its samples: requests, errors, latency and evidence."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.window.cells import FAILED, bucket_of, quantile, read_cell
from checks.window.judge import Judgement
from checks.window.segments import number

# As many points as a picture can show.
MOST_POINTS = 160
COMPARED = re.compile(r"_against_|^signal_|^old_slot_worsened|^shared_seconds|^burning_errors")


@dataclass
class Moment:
    """Some seconds of a window; per slot its requests, the failed ones, and its latency by bucket."""

    at: float
    seconds: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latency: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    # What each comparison came to, as a part of what fails the window.
    evidence: dict[str, float] = field(default_factory=dict)
    # The site's own signals, as they were read last.
    signals: dict[str, float] = field(default_factory=dict)

    def plus(self, later: "Moment") -> "Moment":
        latency = defaultdict(Counter, {slot: found.copy() for slot, found in self.latency.items()})
        for slot, found in later.latency.items():
            latency[slot].update(found)
        return Moment(
            later.at,
            self.seconds + later.seconds,
            self.requests + later.requests,
            self.errors + later.errors,
            latency,
            {**self.evidence, **later.evidence},
            {**self.signals, **later.signals},
        )

    def error_ratio(self, slot: str) -> float | None:
        asked = self.requests[slot]
        return self.errors[slot] / asked if asked else None

    def milliseconds(self, slot: str, part: float) -> float | None:
        return quantile(self.latency.get(slot) or {}, part)


@dataclass
class Trace:
    """Takes samples in as they are judged; ``moments`` are what a picture shows of them."""

    _moments: list[Moment] = field(default_factory=list)
    judgement: Judgement = field(default_factory=lambda: Judgement(None, ()))
    # When there was a verdict, in seconds from the beginning.
    decided_at: float | None = None
    began_at: float | None = None
    failures: list[tuple[Any, ...]] = field(default_factory=list)
    _counted: dict[str, Any] = field(default_factory=dict)

    def add(self, sample: Mapping[str, Any], judgement: Judgement) -> None:
        """Take in a sample and how the window stood after it."""
        at = number(sample.get("at"))
        if at is None:
            return
        self.began_at = at if self.began_at is None else self.began_at
        before = self._moments[-1].at if self._moments else 0.0
        moment = Moment(at - self.began_at, max(at - self.began_at - before, 0.0))
        found = sample.get("requests")
        counted = self._since(sample)
        moment.signals = dict(_signals(sample.get("signals")))
        if isinstance(found, dict):
            self._take_cells(moment, found)
        else:
            self._take_counters(moment, counted)
        if self.decided_at is None:
            self.judgement = judgement
            moment.evidence = dict(_evidence(judgement))
            self.decided_at = moment.at if judgement.verdict is not None else None
        self._moments.append(moment)

    @property
    def moments(self) -> list[Moment]:
        """As few as can be shown, each of the same number of samples."""
        together = -(-len(self._moments) // MOST_POINTS) or 1
        merged = []
        for place in range(0, len(self._moments), together):
            first, *rest = self._moments[place : place + together]
            for moment in rest:
                first = first.plus(moment)
            merged.append(first)
        return merged

    def _take_cells(self, moment: Moment, found: Mapping[str, Any]) -> None:
        for cell in filter(None, map(read_cell, _list(found.get("cells")))):
            moment.requests[cell.slot] += cell.requests
            moment.errors[cell.slot] += cell.requests if cell.status in FAILED else 0
            moment.latency[cell.slot].update(cell.latency if cell.status == "2xx" else {})
        self.failures += [tuple(one) for one in _list(found.get("failures")) if isinstance(one, list)]

    def _since(self, sample: Mapping[str, Any]) -> list[tuple[str, int, int, Counter[int]]]:
        """What each server's counters grew by since the sample before: slot, requests, errors, latency."""
        grown = []
        servers, instances = (sample.get(name) for name in ("servers", "instances"))
        for name, server in servers.items() if isinstance(servers, dict) else ():
            if not isinstance(server, dict) or not isinstance(server.get("slot"), str):
                continue
            instance = instances.get(name) if isinstance(instances, dict) else None
            latency = instance.get("latency") if isinstance(instance, dict) else None
            now = (number(server.get("requests")), number(server.get("errors")), _buckets(latency))
            before = self._counted.get(name)
            self._counted[name] = now
            if before and None not in (*now[:2], *before[:2]) and now[0] >= before[0]:
                counts = (int(now[0] - before[0]), int(max(now[1] - before[1], 0)))
                grown.append((server["slot"], *counts, now[2] - before[2]))
        return grown

    def _take_counters(self, moment: Moment, grown: list[tuple[str, int, int, Counter[int]]]) -> None:
        for slot, requests, errors, latency in grown:
            moment.requests[slot] += requests
            moment.errors[slot] += errors
            moment.latency[slot].update(latency)


def _evidence(judgement: Judgement) -> Iterator[tuple[str, float]]:
    for found in judgement.findings:
        measured, limit = found.measured, found.limit
        if (
            COMPARED.search(found.name)
            and isinstance(measured, int | float)
            and isinstance(limit, int | float)
        ):
            yield found.name, measured / limit if limit else 0.0


def _signals(found: Any) -> Iterator[tuple[str, float]]:
    for name, reading in found.items() if isinstance(found, dict) else ():
        value = number(reading.get("value")) if isinstance(reading, dict) else None
        if value is not None:
            yield str(name), value


def _buckets(latency: Any) -> Counter[int]:
    """A service's histogram, of edges in seconds, by the buckets that the request log has."""
    found: Counter[int] = Counter()
    for edge, count in latency.items() if isinstance(latency, dict) else ():
        try:
            seconds = float(edge)
        except (TypeError, ValueError):
            continue
        if 0 < seconds < 1e6 and type(count) is int:
            found[bucket_of(1000 * seconds)] += count
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
