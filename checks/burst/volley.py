"""Many requests at one moment: each has a connection of its own, and all are sent before any is complete.

An HTTP client that opens connections as it goes spreads a burst over the time that takes. Here every
connection is open and every request is on the wire but for its last bytes; those go out together, and the
sockets are asked right then how many of them have been answered already: the rest were in flight together.

A plain loop over non-blocking sockets, because the tool must not be what is slow: see benchmarks/burst.py.
"""

import contextlib
import select
import selectors
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from checks.burst.answers import Broken, Raw, parse

# How many connections are opened at a time: a listen queue may be as short as this.
OPENING = 64
CHUNK = 65_536
WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True)
class Shot:
    """One request of a volley: a POST, with a JSON body if it has one."""

    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Hit:
    """What became of a shot. ``status`` is None and ``error`` says why when no full answer came in time.

    ``milliseconds`` count from the moment the whole volley was due, so that a shot that had to wait for the
    others is as late as its visitor would have seen it (no coordinated omission).
    """

    status: int | None
    milliseconds: float
    error: str = ""
    release: str | None = None
    body: bytes = b""


@dataclass(frozen=True)
class Volley:
    """The hits, in the order of the shots, and how many of the shots were in flight together."""

    hits: tuple[Hit, ...]
    in_flight_peak: int
    write_milliseconds: float


@dataclass
class _Line:
    """One shot's connection; ``ended_at`` (perf_counter) is when its answer, or its end, had arrived."""

    connection: socket.socket | None = None
    error: str = ""
    answer: Raw | None = None
    received: bytearray = field(default_factory=bytearray)
    ended_at: float | None = None

    def fail(self, error: str, at: float) -> None:
        self.error, self.ended_at = error, at


def fire(base_url: str, shots: Sequence[Shot], timeout_seconds: float) -> Volley:
    """Open a connection per shot, send all shots at once, and collect the answers."""
    with ThreadPoolExecutor(OPENING) as pool:
        lines = list(pool.map(partial(_open, base_url, timeout_seconds), shots))
    try:
        requests = [_request(base_url, shot) for shot in shots]
        for line, (almost_all, _) in zip(lines, requests, strict=True):
            _send(line, almost_all)
        due = time.perf_counter()
        for line, (_, last) in zip(lines, requests, strict=True):
            _send(line, last)
        written = time.perf_counter()
        peak = _unanswered(lines)
        _collect(lines, due + timeout_seconds)
    finally:
        for line in lines:
            if line.connection is not None:
                with contextlib.suppress(OSError):
                    line.connection.close()
    return Volley(tuple(_hit(line, due, timeout_seconds) for line in lines), peak, (written - due) * 1000)


def _open(base_url: str, timeout_seconds: float, _: Shot) -> _Line:
    url = urlsplit(base_url)
    secure = url.scheme == "https"
    place = (url.hostname or "", url.port or (443 if secure else 80))
    try:
        connection = socket.create_connection(place, timeout_seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=url.hostname)
        connection.setblocking(False)
    except OSError as error:
        words = "timeout" if isinstance(error, TimeoutError) else str(error)
        return _Line(error=f"connect: {words}"[:200])
    return _Line(connection)


def _request(base_url: str, shot: Shot) -> tuple[bytes, bytes]:
    """The request, parted before the last byte of its head: no server can begin on the first part."""
    url = urlsplit(base_url)
    given = {"Host": url.netloc, "Connection": "close", "Content-Length": str(len(shot.body))}
    if shot.body:
        given["Content-Type"] = "application/json"
    head = [f"POST {url.path.rstrip('/')}{shot.path} HTTP/1.1"]
    lines = [*head, *(f"{name}: {value}" for name, value in {**given, **shot.headers}.items()), "", ""]
    whole = "\r\n".join(lines).encode()
    return whole[:-1], whole[-1:] + shot.body


def _send(line: _Line, data: bytes) -> None:
    """Send what fits into an empty socket; a server that went away meanwhile has failed the shot."""
    if line.connection is None or line.error:
        return
    try:
        sent = line.connection.send(data)
        if sent != len(data):
            line.error = f"only {sent} of {len(data)} bytes could be sent"
    except OSError as error:
        line.error = _said(error)


def _unanswered(lines: Iterable[_Line]) -> int:
    """How many of the shots are on their way at this moment: sent, and nothing has come back."""
    poll = select.poll()
    waiting = 0
    for line in lines:
        if line.connection is not None and not line.error:
            poll.register(line.connection, select.POLLIN)
            waiting += 1
    return waiting - len(poll.poll(0))


def _collect(lines: Sequence[_Line], deadline: float) -> None:
    """Receive until every shot is answered, has failed, or the time is over."""
    with selectors.DefaultSelector() as selector:
        waiting = 0
        for line in lines:
            if line.connection is not None and not line.error:
                selector.register(line.connection, selectors.EVENT_READ, line)
                waiting += 1
        while waiting and (left := deadline - time.perf_counter()) > 0:
            ready = selector.select(left)
            # All of these had arrived by now, however long it takes to read them.
            at = time.perf_counter()
            for key, _ in ready:
                _receive(key.data, at)
                if key.data.ended_at is not None:
                    selector.unregister(key.fileobj)
                    waiting -= 1


def _receive(line: _Line, at: float) -> None:
    assert line.connection is not None  # noqa: S101
    try:
        chunk = line.connection.recv(CHUNK)
        line.received += chunk
        line.answer = parse(bytes(line.received), ended=not chunk)
    except WAITS:
        return
    except (OSError, Broken) as error:
        line.fail(_said(error), at)
        return
    if line.answer is not None:
        line.ended_at = at


def _hit(line: _Line, due: float, timeout_seconds: float) -> Hit:
    if line.answer is not None and line.ended_at is not None:
        release = line.answer.headers.get("x-p12-release")
        return Hit(line.answer.status, (line.ended_at - due) * 1000, "", release, line.answer.body)
    taken = timeout_seconds if line.ended_at is None else line.ended_at - due
    return Hit(None, taken * 1000, line.error or "timeout")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
