"""Steady visitors: each comes again as the same person until its view is accepted, then goes on."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests

from tests.running import wait_for

DROPPED = 0
STREAK = 10
# Far beyond what any answer may take, so that a request that hangs is told as one.
LONGEST_ANSWER_SECONDS = 30

View = tuple[int, str]


@dataclass(frozen=True)
class Answer:
    """What one request got; times are of the monotonic clock, ``DROPPED`` is no answer at all."""

    base: str
    view: View
    status: int
    says_when_to_come_back: bool
    started: float
    ended: float


@dataclass
class Visitors:
    """A number of visitors at once, who view the notes in turn, each time as someone new."""

    bases: Sequence[str]
    notes: Sequence[int]
    clients: int = 12
    pause_seconds: float = 0.04
    answers: list[Answer] = field(default_factory=list)
    _leave: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def visiting(self, give_up_seconds: float = 40) -> Iterator[None]:
        """Let them visit during the block, from a first streak on until everyone's last view is accepted."""
        until = time.monotonic() + give_up_seconds
        threads = [threading.Thread(target=self._visit, args=(n, until)) for n in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: self.back(0), "the visitors being served")
            yield
        finally:
            self._leave.set()
            for thread in threads:
                thread.join()

    @property
    def asked(self) -> set[View]:
        return {answer.view for answer in self.answers}

    @property
    def accepted(self) -> set[View]:
        return {answer.view for answer in self.answers if answer.status == 200}

    def statuses(self, since: float = 0) -> Counter[int]:
        return Counter(answer.status for answer in list(self.answers) if answer.ended >= since)

    def unforeseen(self, may_drop: Sequence[str] = ()) -> list[Answer]:
        """Find what is neither a 200, nor a 503 that says when to come back, nor dropped by who may."""
        return [
            answer
            for answer in self.answers
            if not (
                answer.status == 200
                or (answer.status == 503 and answer.says_when_to_come_back)
                or (answer.status == DROPPED and answer.base in may_drop)
            )
        ]

    def back(self, since: float) -> float | None:
        """Return when, after ``since``, the first streak of 200s began at the instance that was last."""
        begun = [self._streak([a for a in list(self.answers) if a.base == b], since) for b in self.bases]
        return None if None in begun else max(at for at in begun if at is not None)

    def _streak(self, answers: list[Answer], since: float) -> float | None:
        ended = sorted((answer.ended, answer.status) for answer in answers if answer.ended > since)
        for first in range(len(ended) - STREAK + 1):
            if all(status == 200 for _, status in ended[first : first + STREAK]):
                return ended[first][0]
        return None

    def _visit(self, number: int, until: float) -> None:
        with requests.Session() as session:
            for turn in itertools.count():
                view = (self.notes[turn % len(self.notes)], f"v{number}-{turn}")
                for attempt in itertools.count(turn + number):
                    answer = self._ask(session, self.bases[attempt % len(self.bases)], view)
                    self.answers.append(answer)
                    if answer.status == 200 or time.monotonic() > until:
                        break
                    time.sleep(self.pause_seconds)
                if self._leave.wait(self.pause_seconds) or time.monotonic() > until:
                    return

    def _ask(self, session: requests.Session, base: str, view: View) -> Answer:
        note, who = view
        started = time.monotonic()
        try:
            got = session.post(
                f"{base}/api/notes/{note}/view", headers={"X-FP": who}, timeout=LONGEST_ANSWER_SECONDS
            )
        except requests.RequestException:
            return Answer(base, view, DROPPED, False, started, time.monotonic())
        says_when = int(got.headers.get("Retry-After", 0)) >= 1
        return Answer(base, view, got.status_code, says_when, started, time.monotonic())
