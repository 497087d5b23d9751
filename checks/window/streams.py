"""What the cells of the request log come to in a block of seconds, arm by arm, route by route.

A cell is ``[second, slot, route, status, requests, clients, largest, {bucket: count}]``; see ``cells``. Marks
are a few bits of the salted hash of each client of a cell, ``{the cell's place: [mark, …]}``: with them, who
tries again and again is known as one client; without, failures that follow each other are taken for one's.
"""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from checks.window.cells import bucket_of
from checks.window.detectors import Runs

# What each status is, if a visitor did not want it.
CLASSES: Mapping[str, str] = {
    "5xx": "failed",
    "503": "busy",
    "cut": "cut",
    "404": "not_found",
    "429": "limited",
    "4xx": "refused",
    "3xx": "redirected",
}
CLASS_WORDS: Mapping[str, str] = {
    "failed": "errors (5xx)",
    "busy": "503s",
    "cut": "requests given up before an answer",
    "not_found": "404s",
    "limited": "429s",
    "refused": "refused requests (4xx)",
    "redirected": "redirects (3xx)",
    "slow_p90": "slow answers of one route",
}
# Answers that say something of a slot's health; a robot's 404s and redirects, however fast, do not.
JUDGED = frozenset(("2xx", "5xx", "503", "cut"))
# What nobody had of these, HAProxy answered itself: no server, or too long a queue.
UNSERVED = frozenset(("5xx", "503"))
HARM = frozenset(("failed", "busy", "cut"))
# One client's requests beyond so many in a second, or beyond so many times the others', are no more evidence.
MOST_OF_ONE, TIMES_OTHERS = 4, 4
# A client that has not failed for so long fails anew; and so many are remembered before the old ones go.
FORGET_SECONDS, MOST_MARKS = 60.0, 5000
# No answer takes longer; see docs/reference/timeouts.md.
LONGEST_SECONDS = 60.0
# For so long it is remembered that clients could be told apart.
ANONYMOUS_SECONDS = 60.0
Key = tuple[str, str]


@dataclass
class Timing:
    """Latency of some answers: how many, and the sums of their bucket's index and of its square."""

    answers: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, histogram: Mapping[int, int]) -> "Timing":
        total = squares = 0
        for bucket, count in histogram.items():
            total += bucket * count
            squares += bucket * bucket * count
        return cls(sum(histogram.values()), total, squares)

    @property
    def mean(self) -> float:
        return self.total / self.answers if self.answers else 0.0

    def __add__(self, other: "Timing") -> "Timing":
        return Timing(self.answers + other.answers, self.total + other.total, self.squares + other.squares)

    @property
    def noise(self) -> float:
        """The variance of the mean that the number of answers alone explains."""
        if self.answers < 2:
            return 0.0 if not self.answers else math.inf
        spread = max(self.squares - self.total * self.mean, 0.0) / (self.answers - 1)
        return spread / self.answers


@dataclass
class Block:
    """Some seconds of traffic.

    ``judged`` and ``good`` are requests per (slot, route), ``events`` evidence per class and slot,
    ``route_events`` per class, route and slot; ``seen`` plain requests per (slot, status).
    """

    start: float
    judged: dict[Key, float] = field(default_factory=lambda: defaultdict(float))
    good: dict[Key, float] = field(default_factory=lambda: defaultdict(float))
    events: dict[Key, float] = field(default_factory=lambda: defaultdict(float))
    route_events: dict[tuple[str, str, str], float] = field(default_factory=lambda: defaultdict(float))
    seen: Counter[Key] = field(default_factory=Counter)
    buckets: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    route_buckets: dict[Key, dict[int, int]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(int))
    )
    timing: dict[Key, Timing] = field(default_factory=lambda: defaultdict(Timing))
    untimed: dict[Key, list[Mapping[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def requests(self, slot: str) -> float:
        """The slot's requests that tell of its health, all routes together."""
        return sum(n for (of, _), n in self.judged.items() if of == slot)

    def close(self) -> None:
        """Add the latency of all cells up, once the block is whole."""
        for (slot, route), histograms in self.untimed.items():
            together, alone = self.buckets[slot], self.route_buckets[slot, route]
            for histogram in histograms:
                for bucket, count in histogram.items():
                    alone[bucket] += count
            for bucket, count in alone.items():
                together[bucket] += count
            self.timing[slot, route] = Timing.of(alone)

    def timed(self, slot: str) -> Timing:
        """The slot's latency, all routes together."""
        found = Timing()
        for (of, _), timing in self.timing.items():
            found = found + timing if of == slot else found
        return found


@dataclass
class Fold:
    """Folds cells into blocks; remembers who kept failing, so that one client's trouble counts once."""

    slots: Sequence[str]
    is_anonymous: bool = False
    _runs: dict[Key, Runs] = field(default_factory=lambda: defaultdict(Runs))
    _failing: dict[Key, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    # Whose harm a block showed, with when each was last seen to fail before it.
    _noted: list[tuple[dict[int, float], int, float | None]] = field(default_factory=list)

    def settle(self, is_counted: bool) -> None:
        """End a block; who was harmed in one that is left out is not known to fail for that."""
        for failing, mark, before in () if is_counted else reversed(self._noted):
            failing.pop(mark, None)
            if before is not None:
                failing[mark] = before
        self._noted.clear()

    def add(
        self,
        block: Block,
        cells: Sequence[Any],
        marks: Mapping[str, Sequence[int]],
        elapsed: float = math.inf,
    ) -> None:
        """Take in a look's cells, with the marks of those that have some.

        An answer that took longer than the ``elapsed`` seconds of its window was asked for when the slots had
        other shares: it is no part of what a slot owes now.
        """
        oldest = bucket_of(1000 * elapsed) if elapsed < LONGEST_SECONDS else math.inf
        events: dict[tuple[float, str, str], list[tuple[Any, Sequence[int] | None]]] = {}
        for place, cell in enumerate(cells):
            second, slot, route, status, requests, clients, largest, buckets = cell
            block.seen[slot, status] += requests
            if slot not in self.slots and (slot or status not in UNSERVED):
                continue
            if status in JUDGED:
                counted = requests if self.is_anonymous else effective(requests, clients, largest)
                block.judged[slot, route] += counted
                if status == "2xx":
                    earlier = sum(n for bucket, n in buckets.items() if bucket > oldest)
                    block.good[slot, route] += counted * (1 - earlier / requests if earlier else 1)
                    block.untimed[slot, route].append(buckets)
            if status != "2xx":
                of, marked = CLASSES[status], (cell, marks.get(str(place)))
                events.setdefault((second, of, ""), []).append(marked)
                events.setdefault((second, of, route), []).append(marked)
        for second, of, route in sorted(events):
            found = events[second, of, route]
            for (cell, _), pieces in zip(found, self._pieces(of, route, second, found), strict=True):
                if route:
                    block.route_events[of, route, cell[1]] += pieces
                else:
                    block.events[of, cell[1]] += pieces

    def _pieces(
        self, of: str, route: str, second: float, found: Sequence[tuple[Any, Sequence[int] | None]]
    ) -> Sequence[float]:
        """How much evidence each of the cells of one second is, of as many clients' trouble as they show."""
        total = sum(cell[4] for cell, _ in found)
        if self.is_anonymous:
            return [cell[4] / total for cell, _ in found]
        if all(marks for _, marks in found):
            return self._by_marks(of, route, second, found)
        pieces = self._runs[of, route].pieces(second, sum(cell[5] for cell, _ in found))
        return [pieces * cell[4] / total for cell, _ in found]

    def _by_marks(
        self, of: str, route: str, second: float, found: Sequence[tuple[Any, Sequence[int] | None]]
    ) -> Sequence[float]:
        """Count who was not failing before; one who fails in several cells is split over them."""
        failing, is_harm = self._failing[of, route], of in HARM
        pieces = [float(max(cell[5] - len(marks or ()), 0)) for cell, marks in found]
        holders: dict[int, list[int]] = {}
        for i, (_, marks) in enumerate(found):
            for mark in marks or ():
                holders.setdefault(mark, []).append(i)
        for mark, where in holders.items():
            before = failing.get(mark)
            if before is None or second - before > FORGET_SECONDS:
                total = sum(found[i][0][4] for i in where)
                for i in where:
                    pieces[i] += found[i][0][4] / total
            if is_harm:
                self._noted.append((failing, mark, before))
            failing[mark] = second
        if len(failing) > MOST_MARKS:
            for mark in [mark for mark, at in failing.items() if second - at > FORGET_SECONDS]:
                del failing[mark]
        return pieces


class Anonymity:
    """Whether everybody comes from one address lately: then clients tell nothing, a second is one piece."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def add(self, at: float, clients: Any) -> bool:
        """Take in a look's number of clients per slot; say whether nobody can be told apart."""
        counts = clients.values() if isinstance(clients, Mapping) else ()
        if self._looks and at < self._looks[-1][0]:
            self._looks.clear()
        self._looks.append((at, max((n for n in counts if type(n) is int), default=0)))
        while self._looks[0][0] < at - ANONYMOUS_SECONDS:
            self._looks.popleft()
        return max(most for _, most in self._looks) <= 1


def marks_in(value: Any) -> dict[str, list[int]]:
    """The marks of a sample that are some."""
    found = value.items() if isinstance(value, Mapping) else ()
    return {
        place: known
        for place, known in found
        if isinstance(known, list) and all(type(mark) is int for mark in known)
    }


def effective(requests: int, clients: int, largest: int) -> float:
    """How many requests a cell is evidence of: a client's far beyond the others' count less."""
    if largest <= MOST_OF_ONE:
        return requests
    others = (requests - largest) / (clients - 1) if clients > 1 else 0.0
    return requests - largest + min(largest, max(MOST_OF_ONE, TIMES_OTHERS * others))
