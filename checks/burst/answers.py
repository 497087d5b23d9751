"""Take an HTTP/1.1 answer out of the bytes of one connection; pure."""

from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_HEAD = 64 * 1024
LONGEST_ANSWER = 4 * 1024 * 1024


class Broken(Exception):
    """The bytes are no whole answer, and will not become one."""


@dataclass(frozen=True)
class Raw:
    """An answer as it came; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def parse(received: bytes, ended: bool) -> Raw | None:
    """Return the answer once it is whole, None while more may come; ``ended`` says that nothing will.

    Raises Broken.
    """
    head, found, rest = received.partition(b"\r\n\r\n")
    if len(head) > LONGEST_HEAD or len(received) > LONGEST_ANSWER:
        raise Broken(f"the answer has over {LONGEST_ANSWER} bytes, or its head over {LONGEST_HEAD}")
    if not found:
        _refuse_if(ended, f"the connection closed after {len(received)} bytes")
        return None
    status, headers = _head(head)
    if 100 <= status < 200:
        return parse(rest, ended)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _dechunked(rest)
    elif "content-length" in headers:
        length = _number(headers["content-length"], 10)
        body = rest[:length] if len(rest) >= length else None
    else:
        body = rest if ended else None
    if body is None:
        _refuse_if(ended, f"the connection closed in the middle of the body, after {len(rest)} bytes")
        return None
    return Raw(status, headers, body)


def _refuse_if(ended: bool, what: str) -> None:
    if ended:
        raise Broken(what)


def _head(head: bytes) -> tuple[int, Mapping[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or len(words[1]) != 3 or not words[1].isdecimal():
        raise Broken(f"{first[:60]!r} is not HTTP/1.1")
    named = (line.partition(":") for line in lines)
    return int(words[1]), {name.lower(): value.strip() for name, _, value in named}


def _dechunked(rest: bytes) -> bytes | None:
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        if not found:
            return None
        length = _number(size.split(b";")[0].decode("latin-1").strip(), 16)
        if not length:
            return body
        if len(rest) < length + 2:
            return None
        body, rest = body + rest[:length], rest[length + 2 :]


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise Broken(f"{text[:20]!r} is not the length of a body")
    return number
