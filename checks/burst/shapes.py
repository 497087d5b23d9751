"""The shapes of a burst: which of its visitors does what, to which note."""

from collections.abc import Sequence
from itertools import product

from checks.burst.outcomes import Visit

SHAPES = ("hot", "spread", "mix")
# "both" has the two kinds in one volley, where a volley of each would take too long.
VISITORS = ("distinct", "duplicate", "both")
SPREAD_NOTES = 10
# How many requests share a fingerprint in a volley of duplicates.
DUPLICATES = 4
# What twenty visitors of a mix do; views are most of what Paste12 gets.
MIX = (
    "create", "like", "view", "view", "like", "view", "view", "report", "view", "view",
    "create", "like", "view", "view", "like", "view", "view", "view", "view", "view",
)  # fmt: skip
# A note is removed at its fifth report, so few report it, again and again: they still meet in its row.
REPORTERS = 2
PATHS = {
    "view": "/api/notes/{}/view",
    "like": "/api/notes/{}/like",
    "report": "/api/notes/{}/report",
    "create": "/api/notes",
}


def salvos(
    levels: Sequence[int], rounds: int, shapes: Sequence[str], visitors: Sequence[str]
) -> list[tuple[int, str, str]]:
    """Every level in every shape with every kind of visitors, as often as there are rounds."""
    return [salvo for level in levels for salvo in [*product([level], shapes, visitors)] * rounds]


def visits(notes: Sequence[str], level: int, shape: str, visitors: str, crowd: str) -> list[Visit]:
    """What each of a volley's requests does; duplicates do the same as the one before them.

    ``notes`` are the hot one and SPREAD_NOTES others; ``crowd`` tells this volley's visitors from all others.
    """
    alone = {"distinct": level, "duplicate": 0, "both": level // 2}[visitors]
    numbers = [i if i < alone else alone + (i - alone) // DUPLICATES for i in range(level)]
    return [_visit(notes, shape, number, crowd) for number in numbers]


def path(visit: Visit) -> str:
    return PATHS[visit.kind].format(visit.note_id)


def _visit(notes: Sequence[str], shape: str, number: int, crowd: str) -> Visit:
    kind = MIX[number % len(MIX)] if shape == "mix" else "view"
    if kind == "report":
        return Visit(kind, _spread(notes, number), f"burst-reporter-{number % REPORTERS}")
    hot = shape == "hot" or (shape == "mix" and number % 2 == 0)
    return Visit(kind, notes[0] if hot else _spread(notes, number), f"burst-{crowd}-{number}")


def _spread(notes: Sequence[str], number: int) -> str:
    return notes[1 + number % SPREAD_NOTES]
