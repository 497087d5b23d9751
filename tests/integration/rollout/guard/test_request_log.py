"""The request log: what a real HAProxy sent is what was read, or it is said that something is missing."""

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from checks.window.cells import read_cell
from rollout.guard import request_log
from rollout.guard.request_log import RequestLog
from tests.integration.rollout.steered import Steered
from tests.running import CHECKOUT, wait_for

END = b" HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def log(live: Steered) -> Iterator[RequestLog]:
    reading = request_log.reader(live.target)
    take(live, reading)
    yield reading
    reading.close()


def take(target: Steered, log: RequestLog, requests: int = 0) -> dict[str, Any]:
    """Take what was read, once HAProxy has counted so many requests: a line may come after its answer."""
    if requests:
        counts, wanted = target.steering.balancer.line_counts, log.counted + requests
        wait_for(lambda: counts().lines >= wanted, "requests counted")
    return log.take(target.steering.balancer.line_counts)


def counted(taken: dict[str, Any]) -> Counter[tuple[str, str, str]]:
    cells = [read_cell(value) for value in taken["cells"]]
    found: Counter[tuple[str, str, str]] = Counter()
    for cell in cells:
        assert cell is not None
        found[cell.slot, cell.route, cell.status] += cell.requests
    return found


def say(target: Steered, *words: bytes, end: bool = True) -> bytes:
    """Send bytes to the front door in one connection; return what comes until it closes or is silent."""
    with socket.create_connection(("127.0.0.1", target.port), 5) as door:
        for word in words:
            door.sendall(word)
        if end:
            door.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: door.recv(65536), b""))


def test_requests_are_in_cells_by_slot_route_and_status(live: Steered, log: RequestLog) -> None:
    live.ask_many(6)

    taken = take(live, log, 6)

    assert taken["broken"] == []
    assert sum(counted(taken).values()) == 6
    assert {slot for slot, _, _ in counted(taken)} == {"blue"}
    assert taken["clients"] == {"blue": 1}


def test_whatever_is_sent_the_lines_are_as_many_as_haproxy_counted(live: Steered, log: RequestLog) -> None:
    odd = [
        *(
            b"GET /" + b"a" * 5000 + END,
            b"A" * 2000 + b" /x" + END,
            b'GET /a"#x]y\\' + END,
            b"GET /\xc3" + END,
        ),
        *(b"FOO\r\n\r\n", b"GET /half", b"GET /" + b"b" * 20000 + END, b"OPTIONS *" + END, b""),
        *(b"GET /a HTTP/1.0\r\n\r\n", b"GET /internal/metrics" + END, b"GET /a?q=secret%20words" + END),
        *(b"GET /a" + END + b"GET /b" + END + b"FOO\r\n\r\n", b"GET http://elsewhere/x" + END),
    ]
    before = live.steering.balancer.line_counts()
    with ThreadPoolExecutor(16) as many:
        many.map(lambda words: say(live, words), odd * 20)
        many.map(lambda _: live.ask_many(3, keep_alive=True), range(20))

    taken = take(live, log)

    assert taken["broken"] == []
    assert taken["counted"] - before.lines == taken["lines"] >= 20 * len(odd)
    assert "secret" not in str(taken)
    assert not [route for _, route, _ in counted(taken) if "internal" in route]


def test_lines_and_counts_agree_at_every_moment_of_a_load(live: Steered, log: RequestLog) -> None:
    with ThreadPoolExecutor(8) as many:
        asking = [many.submit(live.ask_many, 100, True) for _ in range(8)]
        taken = [take(live, log)]
        while not all(future.done() for future in asking):
            taken.append(take(live, log))
    taken.append(take(live, log))

    assert [reason for one in taken for reason in one["broken"]] == []
    assert sum(sum(counted(one).values()) for one in taken) == 800


def test_what_was_sent_while_nobody_read_is_missing(live: Steered, log: RequestLog) -> None:
    other = request_log.reader(live.target)
    other.close()
    live.ask_many(5)

    assert take(live, log, 5)["broken"] == ["5 of 5 requests are missing from the request log"]

    live.ask_many(3)
    assert take(live, log, 3)["broken"] == []


def test_who_begins_to_read_says_so(live: Steered) -> None:
    live.ask_many(5)
    other = request_log.reader(live.target)

    taken = take(live, other)
    other.close()

    assert taken["broken"] == ["the request log is read from now on"]


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_an_haproxy_that_started_anew_is_named_and_its_new_process_accounted_for(
    live: Steered, log: RequestLog, how: str
) -> None:
    if how == "reload":
        live.haproxy.reload()
    else:
        live.haproxy.stop()
        live.haproxy.start()
    live.ask_many(4)

    (reason,) = take(live, log)["broken"]
    assert reason.startswith("HAProxy started anew")

    live.ask_many(4)
    assert take(live, log, 4)["broken"] == []


def test_counters_that_somebody_cleared_break_one_look_and_no_other(live: Steered, log: RequestLog) -> None:
    live.ask_many(4)
    take(live, log, 4)
    live.steering.balancer.command("clear counters all")
    live.ask_many(2)
    assert take(live, log)["broken"] == ["HAProxy's counts fell from 4 to 2"]

    live.ask_many(8)
    assert take(live, log, 8)["broken"] == []


def test_an_unreadable_line_is_counted(live: Steered, log: RequestLog) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as anybody:
        anybody.sendto(b"\xff\x00", str(log.directory / "0"))

    assert take(live, log)["broken"] == ["1 lines of the request log are unreadable"]
    assert take(live, log)["broken"] == []


def test_nobody_but_its_user_reaches_the_sockets(log: RequestLog) -> None:
    assert log.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in log.directory.iterdir()} == {0o600}


def test_a_reader_that_hangs_costs_visitors_nothing_and_is_said_to_have_missed_lines(live: Steered) -> None:
    program = (
        "import sys, time; from pathlib import Path; from rollout.guard.request_log import RequestLog\n"
        "RequestLog(Path(sys.argv[1]), {}); print('reading', flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", program, live.settings["request_log"]]
    with subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE) as hung:
        assert hung.stdout is not None
        hung.stdout.readline()
        os.kill(hung.pid, signal.SIGSTOP)
        before = live.steering.balancer.line_counts()
        answered = live.ask_many(1000, keep_alive=True)
        after = live.steering.balancer.line_counts()
        hung.kill()

    assert sum(answered.values()) == 1000
    assert after.lines - before.lines == 1000
    assert after.dropped > before.dropped
