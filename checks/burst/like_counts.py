"""The oracle for likes and reports, as for views: accepted ≤ counter = log rows ≤ accepted + unknown."""

from collections.abc import Mapping, Sequence
from typing import Any

from checks.base.postgres import rows
from checks.base.report import Finding
from checks.visitors import view_counts
from checks.visitors.ledger import NoteViews

# One statement, so one snapshot.
TALLY = """
SELECT n.id::text, n.likes, (SELECT count(*) FROM like_log l WHERE l.note_id = n.id) AS likes_logged,
       n.reports, (SELECT count(*) FROM report_log r WHERE r.note_id = n.id) AS reports_logged
FROM notes n WHERE n.id = ANY(%s)
"""
KINDS = ("like", "report")


def tally(connection: Any, ids: Sequence[str]) -> dict[str, dict[str, tuple[int, int]]]:
    """Read each note's counter and log rows, per kind."""
    found = rows(connection, TALLY, [[int(note_id) for note_id in ids]])
    return {kind: {row["id"]: (row[f"{kind}s"], row[f"{kind}s_logged"]) for row in found} for kind in KINDS}


def judge(
    booked: Mapping[str, Mapping[str, NoteViews]], tallied: Mapping[str, Mapping[str, tuple[int, int]]]
) -> tuple[Finding, ...]:
    """Hold likes and reports against what was accepted; a kind of which nothing was accepted is unknown."""
    return tuple(finding for kind in KINDS for finding in _kind(kind, booked[kind], tallied[kind]))


def _kind(
    kind: str, booked: Mapping[str, NoteViews], tallied: Mapping[str, tuple[int, int]]
) -> tuple[Finding, ...]:
    wrong = []
    for note_id, said in booked.items():
        # A note that is gone is another finding's; here it has lost whatever it was told.
        counter, logged = tallied.get(note_id, (0, 0))
        lost = max(0, said.accepted - counter)
        extra = max(0, counter - said.accepted - said.unknown)
        wrong.append((note_id, lost + extra + abs(counter - logged)))
    return (
        view_counts.accepted(f"accepted_{kind}s", booked),
        view_counts.none_wrong(f"miscounted_{kind}s", wrong, f"Answers, notes.{kind}s and {kind}_log differ"),
    )
