"""What a window takes from the balancer's request log: whether it is whole, and what failed."""

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.window.cells import FAILED, Cell, read_cell

NAMED = 3
# Two bytes of a client's hash are kept.
MARKS = 2**16
FIRST_ERROR = 500


@dataclass
class Requests:
    """The cells of the last sample; the candidate's failed requests by route, and the first of them.

    A sample's ``requests`` are ``{"cells": […], "broken": [why not every request is known, …], "failures":
    [[second, route, status, instance, request id], …]}`` and more; older samples have none.
    """

    candidate: str
    cells: tuple[Cell, ...] = ()
    asked: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    first: list[str] = field(default_factory=list)
    # What is kept of the hash of each client that a request failed of; where nothing is kept, how many.
    visitors: set[int] = field(default_factory=set)
    unmarked: int = 0
    _instances: dict[str, Any] = field(default_factory=dict)

    def add(self, sample: Mapping[str, Any]) -> list[str]:
        """Take in what a sample holds; return why its time does not count as watched, if it does not."""
        self.cells = ()
        if "requests" not in sample:
            return []
        found, servers = sample["requests"], sample.get("servers")
        try:
            read = [read_cell(value) for value in found["cells"]]
            failures = [_failure(*failure) for failure in found["failures"]]
            broken = [str(reason) for reason in found["broken"]]
        except (TypeError, KeyError, ValueError, OverflowError, OSError):
            return ["the sample's requests cannot be read"]
        self.cells = tuple(filter(None, read))
        if len(self.cells) < len(read):
            return ["the sample's requests cannot be read"]
        for place, cell in enumerate(self.cells):
            if cell.slot == self.candidate:
                self.asked[cell.route] += cell.requests
                if cell.status in FAILED:
                    self.failed[cell.route] += cell.requests
                    self._count_visitors(cell, found.get("marks"), str(place))
        self._instances |= servers if isinstance(servers, dict) else {}
        for instance, words in failures:
            if len(self.first) < NAMED and self._slot_of(instance) == self.candidate:
                self.first.append(words)
        return broken

    def _count_visitors(self, cell: Cell, marks: Any, place: str) -> None:
        found = marks.get(place) if isinstance(marks, dict) else None
        known = [mark for mark in found if type(mark) is int] if isinstance(found, list) else []
        self.visitors.update(known)
        self.unmarked += max(cell.clients - len(known), 0)

    def _slot_of(self, instance: str) -> Any:
        server = self._instances.get(instance)
        return server.get("slot") if isinstance(server, dict) else None

    def failing(self) -> str:
        """Name the routes that failed and the first failed requests; empty where none did."""
        worst = [(route, count) for route, count in self.failed.most_common(NAMED) if count]
        routes = ", ".join(f"{route} {count} of {self.asked[route]}" for route, count in worst)
        first = f"; first: {', '.join(self.first)}" if self.first else ""
        return f"failed {self._visitors_text()}, by route: {routes}{first}" if routes else ""

    def _visitors_text(self) -> str:
        """How many visitors it failed; two of them may share what is kept of their hashes."""
        alike = -MARKS * math.log1p(-min(len(self.visitors), MARKS - 1) / MARKS)
        count = round(alike) + self.unmarked
        about = "about " if self.unmarked or count > len(self.visitors) else ""
        return f"{about}{count} visitor{'' if count == 1 else 's'}"


def _failure(second: int, route: str, status: int, instance: str, request: str) -> tuple[str, str]:
    """Name a failed request; one with a status that is no error failed as its answer was not ended."""
    at = time.strftime("%H:%M:%SZ", time.gmtime(second))
    cut = "" if status >= FIRST_ERROR else " cut off in the middle"
    return instance, f"{at} {route} {status:d}{cut} {instance} request={request}"
