"""Many requests at one moment: every connection is open before the first byte of any request leaves.

An HTTP client that opens connections as it goes spreads a burst over the time that takes. Here each request
has a connection of its own, all are written in one go, and the sockets are asked right then how many of
them have been answered already: the rest were in flight together.
"""

import asyncio
import contextlib
import select
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

# How many connections are opened at a time: a listen queue may be as short as this.
OPENING = 64
LONGEST_HEAD = 64 * 1024


@dataclass(frozen=True)
class Shot:
    """One request of a volley: a POST without a body."""

    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Hit:
    """What became of a shot. ``status`` is None and ``error`` says why when no full answer came in time."""

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


class _Broken(Exception):
    """The answer is not one."""


@dataclass
class _Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def fire(base_url: str, shots: Sequence[Shot], timeout_seconds: float) -> Volley:
    """Open a connection per shot, send all shots at once, and collect the answers."""
    gate = asyncio.Semaphore(OPENING)
    lines = await asyncio.gather(*(_open(base_url, gate, timeout_seconds) for _ in shots))
    requests = [_request(base_url, shot) for shot in shots]
    started = time.perf_counter()
    sent_at = []
    for line, request in zip(lines, requests, strict=True):
        sent_at.append(time.perf_counter())
        if isinstance(line, _Line):
            line.writer.write(request)
    written = time.perf_counter()
    peak = _unanswered([line for line in lines if isinstance(line, _Line)])
    hits = await asyncio.gather(
        *(_collect(line, at, timeout_seconds) for line, at in zip(lines, sent_at, strict=True))
    )
    return Volley(tuple(hits), peak, (written - started) * 1000)


async def _open(base_url: str, gate: asyncio.Semaphore, timeout_seconds: float) -> _Line | str:
    url = urlsplit(base_url)
    secure = ssl.create_default_context() if url.scheme == "https" else None
    port = url.port or (443 if secure else 80)
    async with gate:
        try:
            opening = asyncio.open_connection(url.hostname, port, ssl=secure, limit=LONGEST_HEAD)
            return _Line(*await asyncio.wait_for(opening, timeout_seconds))
        except TimeoutError:
            return "connect: timeout"
        except OSError as error:
            return f"connect: {error}"


def _request(base_url: str, shot: Shot) -> bytes:
    url = urlsplit(base_url)
    headers = {"Host": url.netloc, "Connection": "close", "Content-Length": "0", **shot.headers}
    head = [f"POST {url.path.rstrip('/')}{shot.path} HTTP/1.1"]
    return "\r\n".join([*head, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


def _unanswered(lines: Iterable[_Line]) -> int:
    """Count the connections on which nothing has come back yet."""
    poll = select.poll()
    watched = 0
    for line in lines:
        sock = line.writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            poll.register(sock.fileno(), select.POLLIN)
            watched += 1
    return watched - len(poll.poll(0))


async def _collect(line: _Line | str, sent_at: float, timeout_seconds: float) -> Hit:
    if isinstance(line, str):
        return Hit(None, 0.0, line)
    try:
        status, headers, body = await asyncio.wait_for(_read(line.reader), timeout_seconds)
        took = (time.perf_counter() - sent_at) * 1000
        return Hit(status, took, "", headers.get("x-p12-release"), body)
    except TimeoutError:
        return Hit(None, timeout_seconds * 1000, "timeout")
    except (OSError, EOFError, ValueError, _Broken, asyncio.LimitOverrunError) as error:
        return Hit(None, (time.perf_counter() - sent_at) * 1000, f"{type(error).__name__}: {error}"[:200])
    finally:
        line.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(line.writer.wait_closed(), timeout_seconds)


async def _read(reader: asyncio.StreamReader) -> tuple[int, Mapping[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    words = head[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise _Broken(f"{head[0][:60]!r} is not HTTP/1.1")
    named = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in named}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return int(words[1]), headers, await _dechunked(reader)
    length = headers.get("content-length")
    body = await (reader.read() if length is None else reader.readexactly(int(length)))
    return int(words[1]), headers, body


async def _dechunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    return body
