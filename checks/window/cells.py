"""Cells: what the balancer's request log says of a second, a slot, a route and a class of status.

Pure. A line is read with ``parse_line``, put into ``Cells`` and comes out as lists that a sample can hold:

    [second, slot, route, status, requests, clients, largest, {bucket: count}]

``second`` is that in which the requests ended, or the one before: a guard that looks each second begins in
the middle of one, and gives both halves as one. What went well is one cell from one look to the next.
``slot`` is "" where no server had them, ``status`` one of ``STATUSES``, ``clients`` how many clients they are
of and ``largest`` how many are of one of them.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

STATUSES = ("2xx", "3xx", "404", "429", "4xx", "503", "5xx", "cut")
FAILED = ("503", "5xx")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
ROUTES, OTHER = 60, "other"
# With the other one, how many names there are at most.
ROUTE_NAMES = ROUTES + 1
LONGEST_ROUTE = 80
# No visitor's requests: ours, and those that look whether somebody is there.
NOT_VISITED = frozenset(("/internal", "/healthz", "/api/health", "/api/health/db"))
# A bucket's edges are this far apart, so its middle is within 2 % of whatever is in it.
GROWTH = 1.04
BELOW_A_MILLISECOND = -1
# Of so many clients of a cell that is no success two bytes of the hash are kept: who tries again is known.
MOST_MARKS = 100
HIGHEST_BUCKET = 1000
# A bucket as JSON names it, and as it is.
BUCKETS: Mapping[Any, int] = {
    name: bucket
    for bucket in range(BELOW_A_MILLISECOND, HIGHEST_BUCKET + 1)
    for name in (str(bucket), bucket)
}
WHOLE_NUMBER = {int}
# Numbers, UUIDs, hexadecimal ids, and long words with a digit in them.
ID = re.compile(
    r"(?<![A-Za-z0-9])(?:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\d+|"
    r"(?=[a-fA-F]*\d)[0-9a-fA-F]{8,}|(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,})(?![A-Za-z0-9])"
)
# HAProxy's log-format-sd begins with this; what it has to say of itself has none.
MARK, NO_DATA = b"[p12", b"-"


class Line(NamedTuple):
    """One request as the balancer saw it; ``number`` counts the lines of the HAProxy process ``pid``.

    ``waited_ms`` is from the whole request to the last byte of the answer, -1 where that is not known.
    """

    pid: int
    number: int
    second: int
    server: str
    status: int
    ended: str
    retries: int
    redispatched: bool
    queue_ms: int
    connect_ms: int
    response_ms: int
    waited_ms: int
    id: str
    client: bytes
    method: str
    path: str


def parse_line(line: bytes, salt: bytes) -> Line | None:
    """Read a line of HAProxy's request log; None for what is none. A client's address becomes a hash here."""
    words = line.split(b" ", 22)
    try:
        if words[6] != MARK:
            return None
        retried, asking, total = words[12], int(words[13]), int(words[17])
        return Line(
            *(int(words[4]), int(words[7]), int(words[8]), words[9].decode("ascii")),
            *(int(words[10]), words[11].decode("ascii"), int(retried), retried.startswith(b"+")),
            *(int(words[14]), int(words[15]), int(words[16]), max(total - max(asking, 0), -1)),
            words[18].decode("ascii"),
            blake2b(words[19], key=salt, digest_size=8).digest(),
            words[20].decode("ascii"),
            words[21].partition(b"]")[0].decode("ascii"),
        )
    except (IndexError, ValueError):
        return None


def is_notice(line: bytes) -> bool:
    """Whether a line is what HAProxy says of itself, such as that it started."""
    words = line.split(b" ", 7)
    return len(words) > 6 and words[3] == b"haproxy" and words[6] == NO_DATA


def is_visitors(line: Line) -> bool:
    """Whether a line is of a visitor's request: not ours, no health check, and a request at all."""
    asked_nothing = line.ended[:1] in ("C", "c") and line.ended[1:2] == "R"
    ours = line.path in NOT_VISITED or line.path.startswith("/internal/")
    return not (asked_nothing or ours)


def status_class(status: int, ended: str) -> str:
    """The class of a status; ``cut`` where the client went away before there was an answer.

    An answer that the server did not end is none.
    """
    if status < 0 or (ended[:1] == "C" and ended[1:2] in ("Q", "C", "H")):
        return "cut"
    if ended[:2] in ("SD", "sD"):
        return "5xx"
    return str(status) if status in (404, 429, 503) else f"{min(max(status // 100, 2), 5)}xx"


def fold(method: str, path: str) -> str:
    """A request's route: method and path with N for whatever names one thing of many."""
    method = method if method in METHODS else OTHER
    route = f"{method} {ID.sub('N', path)}" if path.startswith("/") else OTHER
    return route if len(route) <= LONGEST_ROUTE else OTHER


class Routes:
    """The routes that are told apart: the first 60 that a server knew; every other is ``other``.

    What a server answers with 4xx may be anybody's guess at a path, so it makes no route.
    """

    def __init__(self) -> None:
        self.known: set[str] = set()

    def of(self, line: Line) -> str:
        route = fold(line.method, line.path)
        if route in self.known:
            return route
        if line.server.startswith("<") or 400 <= line.status < 500 or len(self.known) >= ROUTES:
            return OTHER
        self.known.add(route)
        return route


def bucket_of(milliseconds: float) -> int:
    """The number of the latency bucket that a time belongs to."""
    if milliseconds < 1:
        return BELOW_A_MILLISECOND
    return min(math.ceil(math.log(milliseconds) / math.log(GROWTH)), HIGHEST_BUCKET)


def milliseconds_of(bucket: int) -> float:
    """The time that a bucket stands for, within 2 % of each in it; 0 for less than a millisecond."""
    return 0.0 if bucket <= BELOW_A_MILLISECOND else 2 * GROWTH**bucket / (GROWTH + 1)


def quantile(latency: Mapping[int, int], part: float) -> float | None:
    """The milliseconds that this part of the requests took at most, within 2 %; None without requests."""
    rank = max(1, math.ceil(part * sum(latency.values())))
    for bucket in sorted(latency):
        rank -= latency[bucket]
        if rank <= 0:
            return milliseconds_of(bucket)
    return None


class Cell(NamedTuple):
    """A cell as its readers have it; ``latency`` counts by bucket, fewer than ``requests`` where unknown."""

    second: int
    slot: str
    route: str
    status: str
    requests: int
    clients: int
    largest: int
    latency: Mapping[int, int]


def read_cell(value: Any) -> Cell | None:
    """A cell from what a sample holds; None for what is none."""
    try:
        second, slot, route, status, requests, clients, largest, buckets = value
        latency = {BUCKETS[name]: count for name, count in buckets.items()}
        counts = latency.values()
        sound = (
            {type(second), type(requests), type(clients), type(largest), *map(type, counts)} == WHOLE_NUMBER
            and type(slot) is type(route) is str
            and status in STATUSES
            and 0 <= second < 2**53
            and 1 <= clients <= requests < 2**53
            and 1 <= largest <= requests
            and min(counts, default=0) >= 0
            and sum(counts) <= requests
        )
    except (TypeError, ValueError, AttributeError, KeyError):
        return None
    return Cell(second, slot, route, status, requests, clients, largest, latency) if sound else None


def merge(one: Cell, other: Cell) -> Cell:
    """Two cells of the same slot, route and status as one.

    Whether they have clients in common is not known: ``clients`` is at least, ``largest`` at most so many.
    """
    return one._replace(
        second=min(one.second, other.second),
        requests=one.requests + other.requests,
        clients=max(one.clients, other.clients),
        largest=one.largest + other.largest,
        latency=dict(sorted((Counter(one.latency) + Counter(other.latency)).items())),
    )


class Cells:
    """Lines on their way into a sample; ``slots`` says whose a server is."""

    FAILURES = 5

    def __init__(self, slots: Mapping[str, str]) -> None:
        self.slots, self.routes = slots, Routes()
        self._begin()

    def _begin(self) -> None:
        self._clients: dict[tuple[int, str, str, str], Counter[bytes]] = defaultdict(Counter)
        self._latency: dict[tuple[int, str, str, str], Counter[int]] = defaultdict(Counter)
        self._of_slot: dict[str, set[bytes]] = defaultdict(set)
        self._failures: list[list[Any]] = []
        self._first: int | None = None

    def add(self, line: Line) -> None:
        """Count a visitor's request; one that was tried again counts once, for who had it last."""
        if not is_visitors(line):
            return
        slot, route = self.slots.get(line.server, ""), self.routes.of(line)
        status = status_class(line.status, line.ended)
        self._first = line.second if self._first is None else self._first
        since = max(line.second - self._first, 0) // 2 * 2 if status != "2xx" else 0
        key = (self._first + since, slot, route, status)
        self._clients[key][line.client] += 1
        self._of_slot[slot].add(line.client)
        if line.waited_ms >= 0:
            self._latency[key][bucket_of(line.waited_ms)] += 1
        if status in FAILED and len(self._failures) < self.FAILURES:
            self._failures.append([line.second, route, line.status, line.server, line.id])

    def take(self) -> dict[str, Any]:
        """What came since the last time, as a sample holds it."""
        taken: dict[str, Any] = {
            "marks": {
                str(place): sorted({int.from_bytes(client[:2], "big") for client in clients})[:MOST_MARKS]
                for place, (key, clients) in enumerate(sorted(self._clients.items()))
                if key[3] != "2xx"
            },
            "cells": [
                [*key, clients.total(), len(clients), max(clients.values()), self._buckets(key)]
                for key, clients in sorted(self._clients.items())
            ],
            "clients": {slot: len(clients) for slot, clients in sorted(self._of_slot.items())},
            "failures": self._failures,
        }
        self._begin()
        return taken

    def _buckets(self, key: tuple[int, str, str, str]) -> dict[str, int]:
        return {str(bucket): count for bucket, count in sorted(self._latency.get(key, {}).items())}
