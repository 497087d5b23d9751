"""The ledger of a burst: what every simulated visitor did to which note, and what came of it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from checks.burst.volley import Hit
from checks.visitors.ledger import NoteViews

KINDS = ("view", "like", "report", "create")
EXPECTED = {"view": 200, "like": 200, "report": 200, "create": 201}


@dataclass(frozen=True)
class Visit:
    """One thing that a visitor does; the same visit any number of times counts once."""

    kind: str
    note_id: str
    fingerprint: str


@dataclass
class Outcomes:
    """Per visit, whether it was accepted or may have been; per note, what that adds up to."""

    note_ids: list[str] = field(default_factory=list)
    visits: dict[Visit, str] = field(default_factory=dict)

    def open(self, note_id: str) -> None:
        """Open the account of a note that is there."""
        if note_id not in self.note_ids:
            self.note_ids.append(note_id)

    def record(self, visits: Sequence[Visit], hits: Sequence[Hit]) -> None:
        """Count what came of visits; a created note gets an account of its own."""
        for visit, hit in zip(visits, hits, strict=True):
            said = outcome(hit, visit.kind)
            if visit.kind == "create":
                if said == "accepted":
                    self.open(str(json.loads(hit.body)["id"]))
            else:
                self.record_outcome(visit, said)

    def record_outcome(self, visit: Visit, said: str) -> None:
        """Count one outcome: accepted once is accepted, and unknown once may have been."""
        self.open(visit.note_id)
        seen = self.visits.get(visit)
        if seen != "accepted" and said != "refused":
            self.visits[visit] = said

    def of(self, kind: str) -> dict[str, NoteViews]:
        """Per note, how many visits of a kind were accepted, and of how many nobody knows."""
        count = Counter((v.note_id, said) for v, said in self.visits.items() if v.kind == kind)
        return {n: NoteViews(count[n, "accepted"], count[n, "unknown"]) for n in self.note_ids}


def outcome(hit: Hit, kind: str = "view") -> str:
    """Say of a visit whether it was accepted, certainly not, or nobody knows."""
    if hit.status == EXPECTED[kind]:
        body = _parsed(hit.body)
        if not isinstance(body, dict):
            return "unknown"
        is_right = type(body.get("id")) is int if kind == "create" else body.get("ok") is True
        return "accepted" if is_right else "unknown"
    return "unknown" if hit.status is None or not 400 <= hit.status < 500 else "refused"


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
