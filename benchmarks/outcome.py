"""What a load did to a case, and how that compares with its limit."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One case on one set of hot notes. ``busy`` are 503s, ``failed`` other 5xx and no answer at all.

    ``is_exact`` says that notes, log and answers agree on the number of views; None where nothing is counted.
    """

    name: str
    title: str
    hot: str
    accepted: int
    per_second: float
    p50_ms: float
    p99_ms: float
    busy: int = 0
    failed: int = 0
    deadlocks: int = 0
    is_exact: bool | None = None
    resident_mb: float | None = None


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
    """Return the outcomes as a Markdown table."""
    lines = [
        f"{platform.machine()}, Python {platform.python_version()}",
        "",
        "| case | hot | accepted | views/s | p50 ms | p99 ms | 503 | other 5xx | deadlocks | exact | MB |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for outcome in outcomes:
        exact = {True: "yes", False: "NO", None: ""}[outcome.is_exact]
        resident = "" if outcome.resident_mb is None else f"{outcome.resident_mb:.0f}"
        cells = [
            outcome.title, outcome.hot, str(outcome.accepted), f"{outcome.per_second:.0f}",
            f"{outcome.p50_ms:.1f}", f"{outcome.p99_ms:.1f}", str(outcome.busy), str(outcome.failed),
            str(outcome.deadlocks), exact, resident,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def show_ratios(ratios: Sequence[Ratio]) -> str:
    """Return the ratios, their limits and whether these are met as a Markdown table."""
    lines = ["| figure | value | limit | |", "|---|--:|--:|---|"]
    lines += [f"| {ratio.name} | {ratio.value:.3g} | {ratio.limit} | {ratio.verdict} |" for ratio in ratios]
    return "\n".join(lines)
