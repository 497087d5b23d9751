"""What a load did to a case, and how that compares with its limit."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Segment:
    """One stretch of load. ``busy`` are 503s, ``failed`` other 5xx and no answer at all.

    ``is_exact`` says that notes, log and answers agree on the number of views; None where nothing is counted.
    """

    accepted: int
    seconds: float
    latencies_ms: Sequence[float] = field(repr=False)
    busy: int = 0
    failed: int = 0
    deadlocks: int = 0
    is_exact: bool | None = None
    cpu_seconds: float | None = None
    machine_seconds: float | None = None
    resident_mb: float | None = None

    @property
    def per_second(self) -> float:
        return self.accepted / self.seconds


@dataclass(frozen=True)
class Outcome:
    """All segments of one case on one set of hot notes.

    Processor time is per accepted view: ``cpu_ms`` the workers' own, ``machine_ms`` of everything that ran.
    """

    name: str
    title: str
    hot: str
    accepted: int
    per_second: float
    p50_ms: float
    p99_ms: float
    busy: int
    failed: int
    deadlocks: int
    is_exact: bool | None
    cpu_ms: float | None
    machine_ms: float | None
    resident_mb: float | None


def summarise(name: str, title: str, hot: str, segments: Sequence[Segment]) -> Outcome:
    """Take a case's segments together; memory is that after the last."""
    latencies_ms = [latency for segment in segments for latency in segment.latencies_ms]
    accepted = sum(segment.accepted for segment in segments)
    exact = [segment.is_exact for segment in segments if segment.is_exact is not None]
    return Outcome(
        name,
        title,
        hot,
        accepted=accepted,
        per_second=accepted / sum(segment.seconds for segment in segments),
        p50_ms=quantile(latencies_ms, 0.5),
        p99_ms=quantile(latencies_ms, 0.99),
        busy=sum(segment.busy for segment in segments),
        failed=sum(segment.failed for segment in segments),
        deadlocks=sum(segment.deadlocks for segment in segments),
        is_exact=all(exact) if exact else None,
        cpu_ms=_each_ms([segment.cpu_seconds for segment in segments], accepted),
        machine_ms=_each_ms([segment.machine_seconds for segment in segments], accepted),
        resident_mb=segments[-1].resident_mb,
    )


def _each_ms(seconds: Sequence[float | None], accepted: int) -> float | None:
    known = [each for each in seconds if each is not None]
    return sum(known) / accepted * 1000 if known and accepted else None


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of the values do not exceed (nearest rank); NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, round(share * len(ordered)) - 1)] if ordered else float("nan")


@dataclass(frozen=True)
class Ratio:
    """A figure that must be at least ``least`` and at most ``most``, where it has these limits."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        return (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )

    @property
    def limit(self) -> str:
        if self.least is not None:
            return f"≥ {self.least:g}"
        return "" if self.most is None else f"≤ {self.most:g}"

    @property
    def verdict(self) -> str:
        if not self.limit:
            return ""
        return "met" if self.is_met else "NOT MET"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def show_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as a Markdown table; 5xx are those other than 503, and lost answers."""
    lines = [
        f"{platform.machine()}, Python {platform.python_version()}",
        "",
        (
            "| case | hot | views | views/s | p50 ms | p99 ms | 503 | 5xx | deadlocks | exact "
            "| worker CPU ms | all CPU ms | MB |"
        ),
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|",
    ]
    for outcome in outcomes:
        exact = {True: "yes", False: "NO", None: ""}[outcome.is_exact]
        cpu, machine = ("" if ms is None else f"{ms:.2f}" for ms in (outcome.cpu_ms, outcome.machine_ms))
        resident = "" if outcome.resident_mb is None else f"{outcome.resident_mb:.0f}"
        cells = [
            outcome.title, outcome.hot, str(outcome.accepted), f"{outcome.per_second:.0f}",
            f"{outcome.p50_ms:.1f}", f"{outcome.p99_ms:.1f}", str(outcome.busy), str(outcome.failed),
            str(outcome.deadlocks), exact, cpu, machine, resident,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def show_ratios(ratios: Sequence[Ratio]) -> str:
    """Return the ratios, their limits and whether these are met as a Markdown table."""
    lines = ["| figure | value | limit | |", "|---|--:|--:|---|"]
    lines += [f"| {ratio.name} | {ratio.value:.3g} | {ratio.limit} | {ratio.verdict} |" for ratio in ratios]
    return "\n".join(lines)
