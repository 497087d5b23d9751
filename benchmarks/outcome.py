"""What a load did to a case, and how that compares with its limit."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spent:
    """Processor seconds so far: of the workers, Postgres, pgbouncer, and everything that ran."""

    workers: float
    postgres: float
    pooler: float
    machine: float

    def since(self, before: "Spent") -> "Spent":
        return Spent(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


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
    spent: Spent | None = None
    resident_mb: float | None = None

    @property
    def per_second(self) -> float:
        return self.accepted / self.seconds


@dataclass(frozen=True)
class Outcome:
    """All segments of one case on one set of hot notes.

    Processor time is per accepted view: ``cpu_ms`` the workers' own, ``postgres_ms`` and ``pooler_ms`` of all
    processes of these, ``machine_ms`` of everything that ran.
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
    postgres_ms: float | None
    pooler_ms: float | None
    machine_ms: float | None
    resident_mb: float | None


def summarise(name: str, title: str, hot: str, segments: Sequence[Segment]) -> Outcome:
    """Take a case's segments together; memory is that after the last."""
    latencies_ms = [latency for segment in segments for latency in segment.latencies_ms]
    accepted = sum(segment.accepted for segment in segments)
    exact = [segment.is_exact for segment in segments if segment.is_exact is not None]
    spent = [segment.spent for segment in segments if segment.spent is not None]
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
        cpu_ms=_each_ms([each.workers for each in spent], accepted),
        postgres_ms=_each_ms([each.postgres for each in spent], accepted),
        pooler_ms=_each_ms([each.pooler for each in spent], accepted),
        machine_ms=_each_ms([each.machine for each in spent], accepted),
        resident_mb=segments[-1].resident_mb,
    )


def _each_ms(seconds: Sequence[float], accepted: int) -> float | None:
    return sum(seconds) / accepted * 1000 if seconds and accepted else None


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
            "| worker CPU ms | Postgres CPU ms | pgbouncer CPU ms | all CPU ms | MB |"
        ),
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|",
    ]
    for outcome in outcomes:
        exact = {True: "yes", False: "NO", None: ""}[outcome.is_exact]
        spent_ms = (outcome.cpu_ms, outcome.postgres_ms, outcome.pooler_ms, outcome.machine_ms)
        spent = ["" if ms is None else f"{ms:.2f}" for ms in spent_ms]
        resident = "" if outcome.resident_mb is None else f"{outcome.resident_mb:.0f}"
        cells = [
            outcome.title, outcome.hot, str(outcome.accepted), f"{outcome.per_second:.0f}",
            f"{outcome.p50_ms:.1f}", f"{outcome.p99_ms:.1f}", str(outcome.busy), str(outcome.failed),
            str(outcome.deadlocks), exact, *spent, resident,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def show_ratios(ratios: Sequence[Ratio]) -> str:
    """Return the ratios, their limits and whether these are met as a Markdown table."""
    lines = ["| figure | value | limit | |", "|---|--:|--:|---|"]
    lines += [f"| {ratio.name} | {ratio.value:.3g} | {ratio.limit} | {ratio.verdict} |" for ratio in ratios]
    return "\n".join(lines)
