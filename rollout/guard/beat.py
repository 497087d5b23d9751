"""What the guard says of itself and of an open window, for whoever looks."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from checks.base.report import Verdict
from checks.window.judge import Judgement

TRAFFIC_SECONDS = 60.0


@dataclass
class Traffic:
    """How many requests came through the front door lately."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, at: float, requests: int) -> None:
        if self._seen and (at <= self._seen[-1][0] or requests < self._seen[-1][1]):
            self._seen.clear()
        self._seen.append((at, requests))
        while self._seen[-1][0] - self._seen[0][0] > TRAFFIC_SECONDS:
            self._seen.popleft()

    @property
    def per_minute(self) -> float | None:
        """Requests per minute, None while nobody knows."""
        if len(self._seen) < 2:
            return None
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        return round(60 * (last - first) / (last_at - first_at), 1)


def summarise(judgement: Judgement) -> str:
    """One line: how much was seen, and the findings that decided."""
    deciding = [str(f) for f in judgement.findings if f.verdict == judgement.verdict]
    seen = f"{judgement.requests} requests, {judgement.errors} errors in {judgement.watched_seconds:.0f} s"
    return seen if judgement.verdict == Verdict.PASSED else f"{seen}: {'; '.join(deciding)}"


def standing(judgement: Judgement) -> dict[str, Any]:
    """How an open window stands, for whoever looks."""
    return {
        "requests": judgement.requests,
        "errors": judgement.errors,
        "watched_seconds": round(judgement.watched_seconds, 1),
        "waiting_for": [str(f) for f in judgement.findings if f.verdict is not Verdict.PASSED],
    }
