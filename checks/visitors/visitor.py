"""What a visitor does next, and what its answer means for the ledger."""

import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from checks.visitors.http_client import Answer, Door
from checks.visitors.ledger import NOTES_IN_USE, Ledger

ACCEPTED_KEPT = 200
DAY_SECONDS = 86_400
# Around midnight UTC nobody but the server knows the day, so nothing is sent then that counts once a day.
MIDNIGHT_SECONDS = 60
# The longest time to live that the service gives: notes must outlive the ledger that speaks of them.
TTL_HOURS = 168
LISTS_SHARE = 0.2
EXPECTED = {"create": 201, "view": 200, "read": 200, "list": 200}
ROUTES = {
    "create": ("POST", "/api/notes"),
    "view": ("POST", "/api/notes/{id}/view"),
    "read": ("GET", "/api/notes/{id}"),
    "list": ("GET", "/api/notes"),
}


@dataclass(frozen=True)
class Mix:
    """What visitors do: one note in ``create_every`` requests; of the rest a share views, the others read.

    ``duplicates_share`` of the views are by a visitor who has seen the note that day.
    """

    create_every: int
    views_share: float
    duplicates_share: float


@dataclass
class Visits:
    """One crowd of visitors at one door, writing into one ledger."""

    door: Door
    ledger: Ledger
    mix: Mix
    chance: random.Random = field(default_factory=random.Random)
    now: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._crowd = secrets.token_hex(6)
        self._visitors = 0
        self._turns = 0
        self._creating = 0
        self._notes: deque[str] = deque(maxlen=NOTES_IN_USE)
        self._accepted: deque[tuple[str, str, int]] = deque(maxlen=ACCEPTED_KEPT)

    async def one(self, due: float) -> None:
        """Do the next thing; ``due`` is the moment of ``clock`` from which its latency counts."""
        turn = self._turns
        self._turns += 1
        if turn % self.mix.create_every == 0 or not (self._notes or self._creating):
            await self._create(due)
        elif not self._notes:
            await self._ask(due, "list", "/api/notes?limit=20")
        elif self.chance.random() < self.mix.views_share:
            await self._view(due)
        elif self.chance.random() < LISTS_SHARE:
            await self._ask(due, "list", "/api/notes?limit=20")
        else:
            note_id = self.chance.choice(self._notes)
            await self._ask(due, "read", f"/api/notes/{note_id}", note_id)

    async def _create(self, due: float) -> None:
        body = {"text": f"A visitor was here ({self._crowd})", "ttl_hours": TTL_HOURS}
        self._creating += 1
        answer = await self._ask(due, "create", "/api/notes", body=body)
        self._creating -= 1
        if is_right("create", answer):
            note_id = str(answer.body["id"])
            self.ledger.note_created(note_id)
            self._notes.append(note_id)
        elif is_unknown(answer):
            self.ledger.unknown_outcomes += 1

    async def _view(self, due: float) -> None:
        seen = self._seen_before()
        note_id, fingerprint = seen or (self.chance.choice(self._notes), self._new_fingerprint())
        day = int(self.now() // DAY_SECONDS)
        if seen is None:
            self.ledger.view_sent(note_id)
        headers = {"X-Author-Fp": fingerprint}
        answer = await self._ask(due, "view", f"/api/notes/{note_id}/view", note_id, headers)
        if seen is None:
            self._book(note_id, fingerprint, day, answer)

    def _book(self, note_id: str, fingerprint: str, day: int, answer: Answer) -> None:
        if is_right("view", answer, note_id):
            self.ledger.view_accepted(note_id)
            self._accepted.append((note_id, fingerprint, day))
        elif is_unknown(answer):
            self.ledger.unknown_outcomes += 1
        else:
            self.ledger.view_refused(note_id)

    def _seen_before(self) -> tuple[str, str] | None:
        """Choose a visitor who comes back to a note on the same day, now and then."""
        since_midnight = self.now() % DAY_SECONDS
        close = min(since_midnight, DAY_SECONDS - since_midnight) < MIDNIGHT_SECONDS
        if close or not self._accepted or self.chance.random() >= self.mix.duplicates_share:
            return None
        note_id, fingerprint, day = self.chance.choice(self._accepted)
        return (note_id, fingerprint) if day == int(self.now() // DAY_SECONDS) else None

    def _new_fingerprint(self) -> str:
        self._visitors += 1
        return f"visitor-{self._crowd}-{self._visitors}"

    async def _ask(
        self,
        due: float,
        kind: str,
        path: str,
        note_id: str = "",
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Answer:
        method, route = ROUTES[kind]
        self.ledger.in_flight += 1
        try:
            answer = await self.door.ask(method, path, headers, body)
        finally:
            self.ledger.in_flight -= 1
        self.ledger.answered((self.clock() - due) * 1000, answer.release)
        if is_read_only(answer):
            self.ledger.read_only += 1
        elif not is_right(kind, answer, note_id):
            failure = {"at": round(self.now(), 3), "method": method, "route": route}
            failure |= {"error": answer.error} if answer.status is None else {"status": answer.status}
            is_body = answer.status == EXPECTED[kind]
            failure |= {"error": "wrong body"} if is_body else {}
            self.ledger.failure({**failure, "release": answer.release}, is_body)
        return answer


def is_right(kind: str, answer: Answer, note_id: str = "") -> bool:
    """Tell whether an answer is what the contract gives for a valid request of this kind.

    With ``note_id`` it must be of that note.
    """
    if answer.status != EXPECTED[kind]:
        return False
    if kind == "list":
        return isinstance(answer.body, list) and all(map(_is_note, answer.body))
    if not isinstance(answer.body, dict) or (note_id and str(answer.body.get("id")) != note_id):
        return False
    if kind == "view":
        return answer.body.get("ok") is True and isinstance(answer.body.get("views"), int)
    return _is_note(answer.body)


def _is_note(found: object) -> bool:
    return isinstance(found, dict) and isinstance(found.get("id"), int) and bool(found.get("text"))


def is_read_only(answer: Answer) -> bool:
    """Tell whether a write was refused because the target takes none now."""
    return answer.status == 503 and isinstance(answer.body, dict) and answer.body.get("error") == "read_only"


def is_unknown(answer: Answer) -> bool:
    """Tell whether a write may have happened although its answer does not say so.

    That is every 5xx, a 503 included: the balancer makes one out of the answer that a dying instance owes.
    """
    return answer.status is None or answer.status < 400 or answer.status >= 500
