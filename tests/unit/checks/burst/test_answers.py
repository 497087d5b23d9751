"""An HTTP answer is whole, not yet whole, or broken; nothing in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.burst.answers import LONGEST_HEAD, Broken, Raw, parse

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
PLAIN = HEAD + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN


@pytest.mark.parametrize("received", [PLAIN, CHUNKED, CONTINUED], ids=["plain", "chunked", "continued"])
def test_an_answer_is_taken_as_soon_as_it_is_whole_and_not_before(received: bytes) -> None:
    answer = parse(received, ended=False)

    assert isinstance(answer, Raw)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"hello", "text/plain")
    assert parse(received[:-6], ended=False) is None
    with pytest.raises(Broken, match="closed"):
        parse(received[:-6], ended=True)


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    assert parse(HEAD + b"\r\nhello", ended=False) is None
    answer = parse(HEAD + b"\r\nhello", ended=True)
    assert answer is not None
    assert answer.body == b"hello"


@pytest.mark.parametrize(
    "received",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        HEAD + b"Content-Length: many\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"x" * (LONGEST_HEAD + 1),
    ],
)
def test_what_is_no_http_is_broken_at_once(received: bytes) -> None:
    with pytest.raises(Broken):
        parse(received, ended=False)


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_break_the_reader(received: bytes, ended: bool) -> None:
    try:
        answer = parse(b"HTTP/1.1 200 OK\r\n" + received, ended)
    except Broken:
        return
    assert answer is None or 100 <= answer.status < 1000
