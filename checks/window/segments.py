"""From cumulative counters to what happened since the sample before, and which of it can be trusted."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.window.baseline import EXACT, timed

SERVER_COUNTERS = ("requests", "errors")
# ``unjudged`` are 429s and health checks: the balancer counts them as requests, and nobody judges by them.
INSTANCE_COUNTERS = ("deadlocks", "busy", "unjudged", "retries")
# Requests slower than the threshold, out of those handled; known once there is a threshold.
LATENCY_COUNTERS = ("slow", "handled")

# After so many requests an instance's metrics must have moved.
STILL_REQUESTS = 20


@dataclass(frozen=True)
class Segment:
    """What happened between a sample and the one before.

    ``seconds`` is the time between them if everything in it was seen, else 0. ``counts`` holds one total
    per (arm, counter) for what is known, ``broken`` the reasons why the segment does not count as watched,
    ``lost`` the candidate's counters that can never be known again, ``dead`` the candidate's dead servers and
    ``restarted`` its instances that started anew. ``is_torn`` when any arm's counter began anew, so that no
    later segment makes up for what this one misses.
    """

    elapsed: float
    seconds: float
    counts: Mapping[tuple[str, str], int]
    dead: tuple[str, ...]
    broken: tuple[str, ...]
    lost: tuple[str, ...]
    restarted: tuple[str, ...] = ()
    is_torn: bool = False

    def count(self, arm: str, counter: str) -> int:
        return self.counts.get((arm, counter), 0)


@dataclass
class Deltas:
    """Turns samples into segments, one at a time.

    A counter is always compared with its last known value, so what happened while a scrape was missing is
    counted as soon as the counter is seen again; but the time of such a segment is not watched time. A
    counter that fell, or belongs to a process that started anew, says nothing about the segment.
    ``threshold_seconds`` is from when a request counts as slow; until it is set, nobody counts them.
    """

    candidate: str
    control: str | None
    gap_seconds: float
    threshold_seconds: float | None = None
    _at: float | None = None
    _known: dict[tuple[str, str], float] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)
    _arms: dict[str, str] = field(default_factory=dict)
    _seen_before: frozenset[tuple[str, str]] = frozenset()
    _ahead: dict[str, int] = field(default_factory=dict)
    # What each instance's metrics last said that was new, and its requests by then.
    _told: dict[str, tuple[Mapping[str, Any], float]] = field(default_factory=dict)
    # What must be seen, for so many servers, and with a threshold or none.
    _must: dict[tuple[int, bool], set[tuple[str, str]]] = field(default_factory=dict)

    def add(self, sample: Mapping[str, Any]) -> Segment:
        at = number(sample.get("at"))
        servers, instances = _mapping(sample.get("servers")), _mapping(sample.get("instances"))
        broken: list[str] = []
        lost: list[str] = []
        counts: dict[tuple[str, str], int] = {}
        broken += self._learn_arms(servers)
        restarted = self._note_restarts(instances, broken, lost)
        is_torn = bool(broken)
        seen = dict(self._readings(servers, instances))
        for (name, counter), value in list(seen.items()):
            before = self._known.get((name, counter))
            self._known[name, counter] = value
            if before is None:
                continue
            if value < before:
                # Nobody knows what the counter is worth until it has been read again.
                del seen[name, counter], self._known[name, counter]
                is_torn = True
                broken.append(f"{name}: {counter} fell from {before:g} to {value:g}")
                if counter in INSTANCE_COUNTERS and self._arms[name] == self.candidate:
                    lost.append(f"{name}: {counter} fell")
                continue
            arm = self._arms[name]
            counts[arm, counter] = counts.get((arm, counter), 0) + round(value - before)
        broken += self._standing_still(instances, seen)
        self._leave_out_unjudged(counts)
        broken += self._missing(frozenset(seen))
        elapsed = self._time(at, broken)
        self._seen_before = frozenset(seen)
        dead = tuple(
            name for name in self._of(self.candidate) if _mapping(servers.get(name)).get("up") is False
        )
        return Segment(
            elapsed=elapsed,
            seconds=0.0 if broken else elapsed,
            counts=counts,
            dead=dead,
            broken=tuple(broken),
            lost=tuple(lost),
            restarted=restarted,
            is_torn=is_torn,
        )

    def begin_timing(self, threshold_seconds: float, sample: Mapping[str, Any]) -> None:
        """Count slow requests from this sample on, which was added already."""
        self.threshold_seconds = threshold_seconds
        instances = _mapping(sample.get("instances"))
        for name in self._arms:
            for key, value in self._timed(name, _mapping(instances.get(name))):
                self._known[key] = value
                self._seen_before |= {key}

    def histograms(self, sample: Mapping[str, Any], arm: str) -> dict[str, Any]:
        """The latency of an arm's instances, as far as the sample holds it."""
        instances = _mapping(sample.get("instances"))
        found = {name: _mapping(instances.get(name)).get("latency") for name in self._of(arm)}
        return {name: latency for name, latency in found.items() if latency is not None}

    def _leave_out_unjudged(self, counts: dict[tuple[str, str], int]) -> None:
        """Take out what nobody judges by; instances are asked later, so one may be ahead of its request."""
        for arm in filter(None, (self.candidate, self.control)):
            net = counts.get((arm, "requests"), 0) - counts.get((arm, "unjudged"), 0)
            net -= self._ahead.get(arm, 0)
            if (arm, "requests") in counts:
                counts[arm, "requests"] = max(net, 0)
            self._ahead[arm] = max(-net, 0)

    def _standing_still(
        self, instances: Mapping[str, Any], seen: Mapping[tuple[str, str], float]
    ) -> list[str]:
        """Name who was asked again and again while everything its metrics say stayed as it was."""
        still = []
        for name in self._arms:
            instance, requests = _mapping(instances.get(name)), seen.get((name, "requests"), 0.0)
            last, since = self._told.get(name, ({}, 0.0))
            if instance != last or requests < since or not instance.get("latency"):
                self._told[name] = (instance, requests)
            elif requests - since >= STILL_REQUESTS:
                still.append(f"{name}: its metrics stand still")
        return still

    def _learn_arms(self, servers: Mapping[str, Any]) -> list[str]:
        """Learn whose a server is; name those that are another slot's than they were."""
        moved = []
        for name, server in servers.items():
            slot = _mapping(server).get("slot")
            if slot in (self.candidate, self.control) and isinstance(slot, str):
                arm = self._arms.setdefault(name, slot)
                moved += [f"{name}: of slot {arm} until now, of {slot} as well"] if arm != slot else []
        return moved

    def arm_of(self, name: str) -> str | None:
        return self._arms.get(name)

    def _of(self, arm: str | None) -> list[str]:
        return [name for name, slot in self._arms.items() if slot == arm]

    def _note_restarts(
        self, instances: Mapping[str, Any], broken: list[str], lost: list[str]
    ) -> tuple[str, ...]:
        """Forget the counters of a process that is not the one seen before: they began at zero again."""
        restarted = []
        for name in self._arms:
            started = number(_mapping(instances.get(name)).get("started"))
            before = self._started.get(name)
            if started is None:
                continue
            self._started[name] = started
            if before is None or started == before:
                continue
            for counter in INSTANCE_COUNTERS + LATENCY_COUNTERS:
                self._known.pop((name, counter), None)
            broken.append(f"{name}: started anew")
            if self._arms[name] == self.candidate:
                lost.append(f"{name}: started anew")
                restarted.append(name)
        return tuple(restarted)

    def _readings(
        self, servers: Mapping[str, Any], instances: Mapping[str, Any]
    ) -> Iterator[tuple[tuple[str, str], float]]:
        for name in self._arms:
            server, instance = _mapping(servers.get(name)), _mapping(instances.get(name))
            wanted = [(server, counter) for counter in SERVER_COUNTERS if isinstance(server.get("up"), bool)]
            if number(instance.get("started")) is not None:
                wanted += [(instance, counter) for counter in INSTANCE_COUNTERS]
                yield from self._timed(name, instance)
            for source, counter in wanted:
                value = number(source.get(counter))
                if value is not None and 0 <= value <= EXACT:
                    yield (name, counter), value

    def _timed(self, name: str, instance: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
        if self.threshold_seconds is None:
            return
        found = timed(instance.get("latency"), self.threshold_seconds)
        if found is not None:
            yield (name, "handled"), found[0]
            yield (name, "slow"), found[1]

    def _missing(self, seen: frozenset[tuple[str, str]]) -> list[str]:
        """Name what must be known at both ends of a segment and is not.

        Of the control arm that is only what the balancer saw: a control instance that cannot be scraped
        weakens no statement about the candidate.
        """
        must = self._must.get(key := (len(self._arms), self.threshold_seconds is None))
        if must is None:
            counters = INSTANCE_COUNTERS + (LATENCY_COUNTERS if self.threshold_seconds is not None else ())
            must = {(name, counter) for name in self._of(self.candidate) for counter in counters}
            must |= {(name, counter) for name in self._arms for counter in SERVER_COUNTERS}
            self._must = {key: must}
        if must <= seen and must <= self._seen_before:
            absent = []
        else:
            absent = sorted({name for name, counter in must - (seen & self._seen_before)})
        missing = [f"{name}: not measured at both ends" for name in absent]
        missing += [
            f"no server of slot {arm}" for arm in (self.candidate, self.control) if arm and not self._of(arm)
        ]
        return missing

    def _time(self, at: float | None, broken: list[str]) -> float:
        """Advance the clock; return the seconds since the sample before, 0 when they are not known."""
        before, self._at = self._at, at
        if at is None or before is None:
            broken.append("no time of the sample" if at is None else "first sample")
            return 0.0
        elapsed = at - before
        if elapsed <= 0:
            broken.append(f"the clock went from {before:.3f} to {at:.3f}")
        elif elapsed > self.gap_seconds:
            broken.append(f"{elapsed:.1f} s without a sample (limit {self.gap_seconds:g})")
        return max(elapsed, 0.0)


def number(value: Any) -> float | None:
    """A value of a sample as a number; None for what is none, or is too large to be counted with."""
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is int:
        return float(value) if -EXACT <= value <= EXACT else None
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
