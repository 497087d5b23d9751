"""A benchmark's figures, as a table for people and as JSON for machines."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure measured several times; ``limit`` is what its p95 is held against, if anything."""

    name: str
    unit: str
    values: Sequence[float] = field(repr=False)
    limit: float | None = None

    def quantile(self, share: float) -> float:
        """Return the value that ``share`` of the measurements do not exceed (nearest rank)."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "runs": len(self.values),
            "median": statistics.median(self.values),
            "p95": self.quantile(0.95),
            "max": max(self.values),
            "limit": self.limit,
        }


def show(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| figure | runs | median | p95 | max | limit |", "|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        figures = [f"{value:.3g}" for value in (row.quantile(0.5), row.quantile(0.95), max(row.values))]
        name = f"{row.name} ({row.unit})" if row.unit else row.name
        cells = [name, str(len(row.values)), *figures, "" if row.limit is None else f"{row.limit:g}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"{platform.machine()}, Python {platform.python_version()}", "", *lines])
