"""The oracle for likes and reports, as for views: accepted ≤ counter = log rows ≤ accepted + unknown."""

from collections.abc import Mapping, Sequence
from typing import Any

from checks.base.report import Finding
from checks.visitors import view_counts

# One statement, so one snapshot.
TALLY = """
SELECT n.id::text, n.likes, (SELECT count(*) FROM like_log l WHERE l.note_id = n.id),
       n.reports, (SELECT count(*) FROM report_log r WHERE r.note_id = n.id)
FROM notes n WHERE n.id = ANY(%s)
"""
KINDS = ("like", "report")


def tally(connection: Any, ids: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Read each note's counter and log rows, per kind."""
    with connection.cursor() as cursor:
        cursor.execute(TALLY, [[int(note_id) for note_id in ids]])
        rows = cursor.fetchall()
    return {
        "like": {note_id: [likes, logged] for note_id, likes, logged, _, _ in rows},
        "report": {note_id: [reports, logged] for note_id, _, _, reports, logged in rows},
    }


def judge(
    booked: Mapping[str, Mapping[str, Mapping[str, int]]],
    tallied: Mapping[str, Mapping[str, Sequence[int]]],
) -> tuple[Finding, ...]:
    """Hold likes and reports against what was accepted; a kind of which nothing was accepted is unknown."""
    return tuple(finding for kind in KINDS for finding in _kind(kind, booked[kind], tallied[kind]))


def _kind(
    kind: str, booked: Mapping[str, Mapping[str, int]], tallied: Mapping[str, Sequence[int]]
) -> tuple[Finding, ...]:
    wrong = []
    for note_id, said in booked.items():
        # A note that is gone is another finding's; here it has lost whatever it was told.
        counter, logged = tallied.get(note_id, (0, 0))
        lost = max(0, said["accepted"] - counter)
        extra = max(0, counter - said["accepted"] - said["unknown"])
        wrong.append((note_id, lost + extra + abs(counter - logged)))
    accepted = sum(said["accepted"] for said in booked.values())
    return (
        view_counts.enough(f"accepted_{kind}s", accepted, 1, "Nothing was counted, so nothing is proven."),
        view_counts.zero(f"miscounted_{kind}s", wrong, f"Answers, notes.{kind}s and {kind}_log differ"),
    )
