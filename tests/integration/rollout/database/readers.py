"""Visitors who only read, and must never be told that it is not possible."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests


@dataclass
class Readers:
    """A few readers of the list at once, taking turns between instances."""

    bases: Sequence[str]
    readers: int = 4
    answers: list[tuple[float, float, int]] = field(default_factory=list)
    _leave: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def reading(self) -> "Iterator[Readers]":
        """Read during the block, and once after it."""
        threads = [threading.Thread(target=self._read, args=(n,)) for n in range(self.readers)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._leave.set()
            for thread in threads:
                thread.join()

    def failed(self) -> list[tuple[float, float, int]]:
        return [answer for answer in list(self.answers) if answer[2] != 200]

    def served(self, since: float) -> bool:
        return sum(began > since and status == 200 for began, _, status in list(self.answers)) > self.readers

    def longest(self) -> float:
        return max(ended - began for began, ended, _ in list(self.answers))

    def _read(self, number: int) -> None:
        with requests.Session() as session:
            while True:
                began = time.monotonic()
                try:
                    base = self.bases[len(self.answers) % len(self.bases)]
                    status = session.get(f"{base}/api/notes?limit={number + 1}", timeout=30).status_code
                except requests.RequestException:
                    status = 0
                self.answers.append((began, time.monotonic(), status))
                if self._leave.wait(0.02):
                    return
