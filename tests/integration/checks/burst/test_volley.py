"""A volley is one moment at a real server, and says of every shot what became of it."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from checks.burst import shapes, volley
from checks.burst.volley import Shot

WHOLE = b"HTTP/1.1 200 OK\r\nX-P12-Release: abc\r\nContent-Length: 2\r\n\r\n{}"


@contextlib.contextmanager
def server(answer: Callable[[list[socket.socket]], None], shots: int) -> Iterator[str]:
    """A server that takes so many whole requests and then answers them all."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:

        def serve() -> None:
            taken = [listening.accept()[0] for _ in range(shots)]
            for connection in taken:
                received = b""
                while b"\r\n\r\n" not in received:
                    received += connection.recv(65_536)
            answer(taken)
            for connection in taken:
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


def fire(answer: Callable[[list[socket.socket]], None], shots: int, seconds: float = 5) -> volley.Volley:
    with server(answer, shots) as url:
        return volley.fire(url, [Shot("/", {})] * shots, seconds)


def test_no_request_is_complete_before_every_connection_is_open_and_all_are_in_flight_together() -> None:
    def all_after_a_moment(taken: list[socket.socket]) -> None:
        time.sleep(0.2)
        for connection in taken:
            connection.sendall(WHOLE)

    fired = fire(all_after_a_moment, 100)

    assert fired.in_flight_peak == 100
    assert {(hit.status, hit.body, hit.release) for hit in fired.hits} == {(200, b"{}", "abc")}


def test_a_shot_that_waits_for_the_others_is_as_late_as_its_visitor_saw_it() -> None:
    def one_after_the_other(taken: list[socket.socket]) -> None:
        for connection in taken:
            time.sleep(0.02)
            connection.sendall(WHOLE)

    fired = fire(one_after_the_other, 20)

    waited = sorted(hit.milliseconds for hit in fired.hits)
    assert all(late >= 20 * turn for turn, late in enumerate(waited, 1))


HEAD = b"HTTP/1.1 200 OK\r\nX-P12-Release: abc\r\n"


@pytest.mark.parametrize(
    "said",
    [
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
        HEAD + b"\r\n{}",
    ],
    ids=["chunked", "continued", "ended by its connection"],
)
def test_an_answer_is_taken_in_whichever_way_it_says_where_it_ends(said: bytes) -> None:
    def in_parts(taken: list[socket.socket]) -> None:
        for number in range(len(said)):
            taken[0].sendall(said[number : number + 1])

    (hit,) = fire(in_parts, 1).hits

    assert (hit.status, hit.body, hit.release, hit.error) == (200, b"{}", "abc", "")


def test_an_answer_is_whole_before_its_connection_ends() -> None:
    done = threading.Event()

    def and_stay(taken: list[socket.socket]) -> None:
        taken[0].sendall(WHOLE)
        done.wait(10)

    try:
        (hit,) = fire(and_stay, 1, seconds=5).hits
    finally:
        done.set()

    assert (hit.status, hit.milliseconds < 4000) == (200, True)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "closed before there was an answer"),
        (HEAD + b"Content-Length: 9\r\n\r\n{", "without sending complete message body"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "illegal chunk header"),
        (HEAD + b"Content-Length: many\r\n\r\n", "bad Content-Length"),
        (HEAD + b"Content-Length: -1\r\n\r\n", "bad Content-Length"),
        (HEAD + b"x" * 2 * volley.LONGEST_HEAD, "Receive buffer too long"),
        (HEAD + b"\r\n" + b"x" * (volley.LONGEST_BODY + 1), "over 4194304 bytes"),
        (b"220 mail.example ESMTP\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 20\r\n\r\n", "illegal status line"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_answer_that_is_none_is_an_error_in_words(said: bytes, words: str) -> None:
    def as_far_as_it_is_read(taken: list[socket.socket]) -> None:
        with contextlib.suppress(OSError):
            taken[0].sendall(said)

    (hit,) = fire(as_far_as_it_is_read, 1).hits

    assert hit.status is None
    assert words in hit.error


def test_a_silent_server_is_a_timeout_after_the_whole_time() -> None:
    done = threading.Event()
    try:
        (hit,) = fire(lambda _: done.wait(1) and None, 1, seconds=0.2).hits
    finally:
        done.set()

    assert (hit.status, hit.error, hit.milliseconds) == (None, "timeout", 200)


def test_nobody_listening_is_an_error_of_each_shot() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    fired = volley.fire(f"http://127.0.0.1:{port}", [Shot("/", {})] * 3, 1)

    assert fired.in_flight_peak == 0
    assert all(hit.status is None and "connect: " in hit.error for hit in fired.hits)


@pytest.mark.parametrize(("visitors", "people"), [("distinct", 40), ("duplicate", 10), ("both", 25)])
@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_a_volley_has_as_many_requests_as_asked_by_as_many_people(
    shape: str, visitors: str, people: int
) -> None:
    notes = [str(number) for number in range(11)]

    made = shapes.visits(notes, 40, shape, visitors, "crowd")

    assert len(made) == 40
    if shape != "mix":
        assert len(set(made)) == people
        assert {visit.note_id == "0" for visit in made} == {shape == "hot"}
    else:
        assert {visit.kind for visit in made} == {"view", "like", "report", "create"}
