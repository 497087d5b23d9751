"""An obstacle: what is in the way, the rows, the query that shows them, and the command that mends it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, text

SHOWN_ROWS = 5

Row = Mapping[str, Any]


class Weight(StrEnum):
    """What an obstacle does: only the first two are in the way."""

    STOPS = "stops"  # The first migration refuses, before it changes anything.
    HARMS = (
        "harms"  # The first migration would go through, and the service fail, miscount, or meet a stranger.
    )
    TELLS = "tells"  # Nothing breaks: it is taken over as it is.


@dataclass(frozen=True)
class Obstacle:
    """``rows`` are the first of ``count``, all of which ``query`` shows; ``text`` is code in the way."""

    kind: str
    weight: Weight
    error: str
    mend: str
    query: str = ""
    count: int = 1
    rows: tuple[Row, ...] = ()
    text: str = ""

    @property
    def hint(self) -> str:
        return f"{self.query}; {self.mend}" if self.query else self.mend


class AdoptionError(RuntimeError):
    """The database that is there cannot be taken over as it is; ``hint`` says how to see why, or mend it."""

    def __init__(self, error: str, hint: str) -> None:
        super().__init__(error)
        self.hint = hint


def some(connection: Connection, query: str, **parameters: Any) -> tuple[int, tuple[Row, ...]]:
    """Return how many rows a query gives, and the first of them."""
    counted = f"SELECT count(*) OVER () AS p12_count, shown.* FROM ({query}) AS shown LIMIT {SHOWN_ROWS}"
    found = [dict(row._mapping) for row in connection.execute(text(counted), parameters)]
    return (found[0]["p12_count"] if found else 0), tuple(
        {name: value for name, value in row.items() if name != "p12_count"} for row in found
    )


def in_words(count: int, rows: tuple[Row, ...]) -> str:
    """The rows in a line, with a mark where there are more."""
    shown = "; ".join(", ".join(map(str, row.values())) for row in rows)
    return shown + (" …" if count > len(rows) else "")
