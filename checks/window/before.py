"""How a service was before a release: the last hour, and the same hours of earlier days.

Pure: minutes in, what is usual out. Only minutes in which nothing was being released or maintained count, so
that no release had a hand in what it is held against. What is usual is the larger of the last hour's and of
the median of the days', so harm that was there before is not the release's; a storm of a minute is not usual.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from checks.window.absence import upper
from checks.window.detectors import Dispersion
from checks.window.latency import BUCKET_LOG, QUANTILES, ROUTE_QUANTILE, edge_of
from checks.window.minutes import COARSE, MINUTE, Minute
from checks.window.streams import CLASSES, HARM

HOUR, DAY = 3600.0, 86400.0
# A window and its steps lie within so long after the release began.
SAME_HOURS = 2 * HOUR
# Of so many known minutes and requests what is usual is told; of less it is unknown.
FEWEST_MINUTES, FEWEST_REQUESTS = 20, 200
# A route is told apart from so many requests on; a quantile from so many answers beyond it.
FEWEST_OF_ROUTE, FEWEST_BEYOND = 50, 5
# More of a minute's requests than this is a storm, unless so many of the minutes are such.
STORM, STORMY = 0.03, 0.2
# What is assumed of how far latency and traffic stray by themselves, in ln, until it is seen to be more.
LEAST_LEVEL_SD, LEAST_TRAFFIC_SD, NEW_TRAFFIC_SD = 0.15, 0.25, 0.5
# From a median absolute deviation to a standard deviation.
MAD = 1.4826


@dataclass(frozen=True)
class RouteBefore:
    """One route of ``requests``: the most usual ratio per class that had any, and its p90 above the level."""

    requests: int = 0
    ratios: dict[str, float] = field(default_factory=dict)
    slow: int | None = None


@dataclass(frozen=True)
class Before:
    """How the service was before the release, of ``requests`` in ``minutes`` and so many ``days``.

    ``ratios`` are what was usual per class, ``highest`` the most that this leaves open; ``level`` is the mean
    of ln ms and ``edges`` the quantiles above it, in buckets; ``scatter`` is how many times more than
    independent ones a class's events scatter, and the two ``_sd`` how far latency and traffic stray in ln.
    """

    ratios: dict[str, float] = field(default_factory=dict)
    level: float | None = None
    good_per_minute: float | None = None
    requests: int = 0
    minutes: int = 0
    days: int = 0
    highest: dict[str, float] = field(default_factory=dict)
    scatter: dict[str, float] = field(default_factory=dict)
    level_sd: float = 2 * LEAST_LEVEL_SD
    traffic_sd: float = NEW_TRAFFIC_SD
    edges: dict[str, int] = field(default_factory=dict)
    routes: dict[str, RouteBefore] = field(default_factory=dict)

    def __str__(self) -> str:
        errors = sum(self.ratios.get(of, 0.0) for of in HARM)
        level = f", {math.exp(self.level):.3g} ms" if self.level is not None else ""
        days = f" and {self.days} earlier day{'s' * (self.days > 1)}" if self.days else ""
        return f"{self.minutes} min{days}: {errors:.2%} errors{level} in {self.requests} requests"


@dataclass
class Stretch:
    """Minutes that belong together, summed up."""

    minutes: int
    requests: float
    events: Mapping[str, float]
    levels: Sequence[float]
    level: float | None
    good_per_minute: float

    def ratio(self, of: str) -> float:
        return ratio(of, self.events.get(of, 0.0), self.requests)


def ratio(of: str, events: float, judged: float) -> float:
    """Events of a class by what they are of; those that say nothing of health are not among ``judged``."""
    trials = judged + (0 if of in HARM else events)
    return min(events / trials, 1.0) if trials else 0.0


def times_before(begun_at: float, at: float, days: int) -> Iterator[tuple[float, float]]:
    """The times to know the minutes of: the hour before a release began, and the hours like ``at``'s."""
    yield begun_at - HOUR, begun_at
    for day in range(1, days + 1):
        begin = at - day * DAY
        if begin < begun_at - HOUR:
            yield begin, min(begin + SAME_HOURS, begun_at - HOUR)


def before(stretches: Sequence[Iterable[Minute]]) -> tuple[Before | None, str]:
    """What was usual, from the minutes of each of ``times_before``; None and why where too little is known.

    Days on which another release served tell of the traffic alone.
    """
    whole = [[m for m in minutes if m.release and m.seconds >= MINUTE / 2] for minutes in stretches]
    last, earlier = whole[0], whole[1:]
    newest = max((minute for minutes in whole for minute in minutes), key=_start, default=None)
    release = newest.release if newest else ""
    same = [[m for m in day if m.release == release] for day in earlier]
    found = [(minutes, _stretch(minutes)) for minutes in (last, *same)]
    hour, days = found[0][1], [stretch for _, stretch in found[1:] if stretch]
    if hour is None and len(days) < 2:
        asked = sum(_judged(m) for m in last)
        return None, (
            f"of the hour before {len(last)} undisturbed minutes with {asked:.0f} requests are known"
            f" (needed: {FEWEST_MINUTES} with {FEWEST_REQUESTS}), and {len(days)} earlier days (or: 2)"
        )
    known = [minute for minutes, stretch in found if stretch for minute in minutes]
    traffic = [stretch for day in earlier if (stretch := _stretch(day))]
    usual = _usual(hour, days, known, traffic)
    if usual.level is None or "slow_p95" not in usual.edges:
        return None, "how fast it was before is not known: too few answers were timed"
    return usual, ""


def _start(minute: Minute) -> int:
    return minute.start


def _judged(minute: Minute) -> float:
    return sum(minute.block.judged.values())


def _events(minute: Minute) -> Counter[str]:
    found: Counter[str] = Counter()
    for (of, _), events in minute.block.events.items():
        found[of] += events  # type: ignore[assignment]
    return found


def _calm(minutes: Sequence[Minute]) -> Sequence[Minute]:
    """Leave out storms, unless they are usual."""
    calm = [m for m in minutes if _harm(m) <= max(STORM * _judged(m), 2)]
    return calm if len(calm) >= (1 - STORMY) * len(minutes) else minutes


def _harm(minute: Minute) -> float:
    return sum(events for (of, _), events in minute.block.events.items() if of in HARM)


def _stretch(minutes: Sequence[Minute]) -> Stretch | None:
    requests = sum(_judged(m) for m in minutes)
    if len(minutes) < FEWEST_MINUTES or requests < FEWEST_REQUESTS:
        return None
    calm, events = _calm(minutes), Counter[str]()
    for minute in calm:
        events.update(_events(minute))
    levels = [level for m in calm if (level := _level(m)) is not None]
    good = [MINUTE * sum(m.block.good.values()) / m.seconds for m in minutes]
    level = statistics.median(levels) if levels else None
    return Stretch(len(calm), sum(map(_judged, calm)), events, levels, level, statistics.fmean(good))


def _level(minute: Minute) -> float | None:
    answers = sum(t.answers for t in minute.block.timing.values())
    total = sum(t.total for t in minute.block.timing.values())
    return total / answers * BUCKET_LOG if answers >= FEWEST_BEYOND else None


def _usual(
    hour: Stretch | None, days: Sequence[Stretch], known: Sequence[Minute], traffic: Sequence[Stretch]
) -> Before:
    def larger(values: Sequence[float], own: float | None) -> float | None:
        found = [own] if own is not None else []
        return max([*found, *([statistics.median(values)] if values else [])], default=None)

    ratios, highest, scatter = {}, {}, {}
    for of in CLASSES.values():
        daily = [day.ratio(of) for day in days]
        ratios[of] = larger(daily, hour.ratio(of) if hour else None) or 0.0
        one = hour or max(days, key=lambda day: day.requests)
        lasting = upper(one.events.get(of, 0.0), one.requests, max(4 * ratios[of], 0.001))
        highest[of] = max(
            lasting, ratios[of], statistics.median(daily) + 3 * _spread(daily) if daily else 0.0
        )
        scatter[of] = _scatter(of, known)
    levels = [day.level for day in days if day.level is not None]
    level = larger(levels, hour.level if hour else None)
    edges, routes = _shapes(known)
    return Before(
        {of: round(ratio, 6) for of, ratio in ratios.items() if ratio},
        None if level is None else round(level, 4),
        _traffic(hour, traffic),
        requests=round(sum(_judged(m) for m in known)),
        minutes=hour.minutes if hour else 0,
        days=len(days),
        highest={of: round(ratio, 6) for of, ratio in highest.items()},
        scatter={of: round(factor, 2) for of, factor in scatter.items() if factor > 1},
        level_sd=round(math.hypot(_level_sd([*([hour] if hour else []), *days]), _spread(levels)), 3),
        traffic_sd=_traffic_sd(hour, traffic),
        edges=edges,
        routes=routes,
    )


def _spread(values: Sequence[float]) -> float:
    """How far values stray as a standard deviation, whatever a few of them do; of few nobody knows."""
    if len(values) < 3:
        return 0.0
    middle = statistics.median(values)
    return MAD * statistics.median(abs(value - middle) for value in values)


def _level_sd(stretches: Sequence[Stretch]) -> float:
    """How far a minute's level strays from its stretch's."""
    return max((_spread(s.levels) for s in stretches), default=0.0) or LEAST_LEVEL_SD


def _traffic(hour: Stretch | None, days: Sequence[Stretch]) -> float:
    rates = [day.good_per_minute for day in days]
    found = [*([hour.good_per_minute] if hour else []), *([statistics.median(rates)] if rates else [])]
    return round(min(found), 1)


def _traffic_sd(hour: Stretch | None, days: Sequence[Stretch]) -> float:
    """How far traffic strays from what was usual; where no day was seen, it is taken for fickle."""
    if len(days) < 3:
        return NEW_TRAFFIC_SD
    rates = [math.log(max(day.good_per_minute, 1.0)) for day in days]
    now = abs(math.log(max(hour.good_per_minute, 1.0)) - statistics.median(rates)) if hour else 0.0
    return round(max(LEAST_TRAFFIC_SD, _spread(rates), now / 2), 3)


def _scatter(of: str, minutes: Sequence[Minute]) -> float:
    seen = Dispersion()
    for minute in _calm(minutes):
        seen.add(_judged(minute), _events(minute)[of])
    return seen.factor


def _shapes(minutes: Sequence[Minute]) -> tuple[dict[str, int], dict[str, RouteBefore]]:
    """The tail of all answers and each route's, above the level of their minute; and each route's events."""
    whole: Counter[int] = Counter()
    tails: dict[str, Counter[int]] = defaultdict(Counter)
    requests: Counter[str] = Counter()
    events: dict[str, Counter[str]] = defaultdict(Counter)
    for minute in _calm(minutes):
        level = _level(minute)
        for (_, route), judged in minute.block.judged.items():
            requests[route] += judged  # type: ignore[assignment]
        for (of, route, _), count in minute.block.route_events.items():
            events[route][of] += count  # type: ignore[assignment]
        for (_, route), buckets in minute.block.route_buckets.items() if level is not None else ():
            moved = {round(bucket - (level or 0.0) / BUCKET_LOG): n for bucket, n in buckets.items()}
            for counted in (whole, tails[route]):
                for bucket, n in moved.items():
                    counted[bucket] += n
    routes = {
        route: RouteBefore(
            round(n),
            {of: round(ratio(of, count, n), 6) for of, count in events[route].items() if count},
            _edge(tails[route], ROUTE_QUANTILE),
        )
        for route, n in requests.items()
        if n >= FEWEST_OF_ROUTE
    }
    edges = {name: edge for name, part in QUANTILES.items() if (edge := _edge(whole, part)) is not None}
    return edges, routes


def _edge(tail: Counter[int], part: float) -> int | None:
    """The upper edge of the coarse bucket in which a quantile lies."""
    return edge_of(tail, part) + COARSE // 2 if tail.total() * (1 - part) >= FEWEST_BEYOND else None
