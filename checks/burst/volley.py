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
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import h11

from checks.base.errors import error_text

# How many connections are opened at a time: a listen queue may be as short as this.
OPENING = 64
CHUNK = 65_536
LONGEST_HEAD = 64 * 1024
LONGEST_BODY = 4 * 1024 * 1024
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
    """One shot's connection; ``ended_at`` (perf_counter) is when its answer, or its end, had arrived.

    ``closed`` is how the other side ended it, if not in order.
    """

    http: h11.Connection
    connection: socket.socket | None = None
    error: str = ""
    closed: str = ""
    answer: h11.Response | None = None
    body: bytearray = field(default_factory=bytearray)
    ended_at: float | None = None


def fire(base_url: str, shots: Sequence[Shot], timeout_seconds: float) -> Volley:
    """Open a connection per shot, send all shots at once, and collect the answers."""
    # Written beforehand: whoever has just worked long is interrupted on a busy machine, and a volley is not.
    talks = [h11.Connection(h11.CLIENT, LONGEST_HEAD) for _ in shots]
    requests = [_request(talk, base_url, shot) for talk, shot in zip(talks, shots, strict=True)]
    with ThreadPoolExecutor(OPENING) as pool:
        lines = list(pool.map(partial(_open, base_url, timeout_seconds), talks))
    try:
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


def _open(base_url: str, timeout_seconds: float, http: h11.Connection) -> _Line:
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
        return _Line(http, error=f"connect: {words}"[:200])
    return _Line(http, connection)


def _request(http: h11.Connection, base_url: str, shot: Shot) -> tuple[bytes, bytes]:
    """The request, parted before the last byte of its head: no server can begin on the first part."""
    url = urlsplit(base_url)
    given = {"Host": url.netloc, "Connection": "close", "Content-Length": str(len(shot.body))}
    if shot.body:
        given["Content-Type"] = "application/json"
    headers = [*given.items(), *shot.headers.items()]
    target = f"{url.path.rstrip('/')}{shot.path}"
    head = http.send(h11.Request(method="POST", target=target, headers=headers)) or b""
    http.send(h11.Data(data=shot.body))
    http.send(h11.EndOfMessage())
    return head[:-1], head[-1:] + shot.body


def _send(line: _Line, data: bytes) -> None:
    """Send what fits into an empty socket; a server that went away meanwhile has failed the shot."""
    if line.connection is None or line.error:
        return
    try:
        sent = line.connection.send(data)
        if sent != len(data):
            line.error = f"only {sent} of {len(data)} bytes could be sent"
    except OSError as error:
        line.error = error_text(error)


def _unanswered(lines: Iterable[_Line]) -> int:
    """How many of the shots are on their way at this moment: sent, and nothing has come back."""
    poll = select.poll()
    waiting = [line.connection for line in lines if line.connection is not None and not line.error]
    for connection in waiting:
        poll.register(connection, select.POLLIN)
    return len(waiting) - len(poll.poll(0))


def _collect(lines: Sequence[_Line], deadline: float) -> None:
    """Receive until every shot is answered, has failed, or the time is over.

    What has arrived is read when nothing else arrives, for that takes longer and would make the others late.
    """
    arrived: deque[tuple[_Line, bytes, float]] = deque()
    with selectors.DefaultSelector() as selector:
        for line in lines:
            if line.connection is not None and not line.error:
                selector.register(line.connection, selectors.EVENT_READ, line)
        while (arrived or selector.get_map()) and (left := deadline - time.perf_counter()) > 0:
            ready = selector.select(0 if arrived else left)
            at = time.perf_counter()
            for key, _ in ready:
                chunk = _receive(key.data)
                if chunk is not None:
                    arrived.append((key.data, chunk, at))
                if chunk == b"":
                    selector.unregister(key.fileobj)
            if not ready and arrived:
                line, chunk, at = arrived.popleft()
                _read(line, chunk, at)
                if line.connection and line.ended_at and line.connection in selector.get_map():
                    selector.unregister(line.connection)
    for late in arrived:
        _read(*late)


def _receive(line: _Line) -> bytes | None:
    """What has arrived of an answer, empty at its end; None if that is not enough to tell."""
    assert line.connection is not None  # noqa: S101
    try:
        return line.connection.recv(CHUNK)
    except WAITS:
        return None
    except OSError as error:
        line.closed = error_text(error)
        return b""


def _read(line: _Line, chunk: bytes, at: float) -> None:
    """Take a chunk that arrived at a moment for a part of an answer; it may be its end, or no answer."""
    if line.ended_at is not None:
        return
    try:
        if not chunk and (line.answer is None or line.closed):
            raise h11.RemoteProtocolError(line.closed or "the connection closed before there was an answer")
        line.http.receive_data(chunk)
        while (event := line.http.next_event()) is not h11.NEED_DATA:
            match event:
                case h11.Response():
                    line.answer = event
                case h11.Data():
                    line.body += event.data
                case h11.EndOfMessage() | h11.PAUSED | h11.ConnectionClosed():
                    line.ended_at = at
                    return
            if len(line.body) > LONGEST_BODY:
                raise h11.RemoteProtocolError(f"the answer has over {LONGEST_BODY} bytes")
    except h11.RemoteProtocolError as error:
        line.error, line.ended_at = error_text(error), at


def _hit(line: _Line, due: float, timeout_seconds: float) -> Hit:
    taken = (timeout_seconds if line.ended_at is None else line.ended_at - due) * 1000
    if line.answer is None or line.error or line.ended_at is None:
        return Hit(None, taken, line.error or "timeout")
    headers = {name: value.decode("latin-1") for name, value in line.answer.headers}
    return Hit(line.answer.status_code, taken, "", headers.get(b"x-p12-release"), bytes(line.body))
