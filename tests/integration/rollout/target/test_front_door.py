"""What the front door lets through, and what a visitor sees when an instance is in trouble."""

import http.client
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rollout.host.installed_servers import Servers
from tests.integration.rollout.small import SLOW
from tests.integration.rollout.steered import OLD, Steered, reply_on, steered
from tests.running import wait_for

INSIDE = [
    "/internal/flags",
    "/internal/ready",
    "/internal/metrics",
    "/internal",
    "/internal/",
    "//internal/flags",
    "///internal//flags",
    "/./internal/flags",
    "/././internal/flags",
    "/.//internal/flags",
    "/INTERNAL/flags",
    "/Internal/Flags",
    "/%69nternal/flags",
    "/%49NTERNAL/flags",
    "/%69%6e%74%65%72%6e%61%6c/flags",
    "/internal%2fflags",
    "/%2finternal/flags",
    "/%2e/internal/flags",
    "/internal;x",
    "/internal;x/flags",
    "/internal%3bx/flags",
    "/api/../internal/flags",
    "/api/%2e%2e/internal/flags",
    "/../internal/flags",
    "/internal/../internal/flags",
    "/internal?x=1",
    "/internal/flags?x=/api",
]


OUTSIDE = [
    "/",
    "/?id=1",
    "/api/notes?limit=3",
    "/internally",
    "/api/internal",
    "/x/internal/flags",
    "/;internal",
]


@pytest.fixture(scope="module")
def door(servers: Servers, scratch: Path) -> Iterator[Steered]:
    """A target that serves, for tests that only ask."""
    with steered(servers, scratch / "door", {"blue": 1, "green": 1}) as made:
        made.serve(OLD)
        yield made


@pytest.mark.parametrize("path", INSIDE)
def test_internal_pages_are_refused_however_they_are_spelled(door: Steered, path: str) -> None:
    instance = door.instances["blue-1.local"]
    before = len(instance.paths)

    for method in ("GET", "PUT", "POST", "HEAD", "OPTIONS"):
        ending = "HTTP/1.1\r\nHost: p12\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        answer = door.ask_raw(f"{method} {path} {ending}".encode())
        assert answer.split()[1] == b"404", method

    assert instance.paths[before:] == []


def test_internal_pages_are_refused_in_absolute_form(door: Steered) -> None:
    answer = door.ask_raw(
        b"GET http://127.0.0.1/internal/flags HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )

    assert answer.split()[1] == b"404"


@pytest.mark.parametrize("path", OUTSIDE)
def test_everything_else_reaches_an_instance(door: Steered, path: str) -> None:
    assert door.ask(path).release == OLD


def test_a_visitor_cannot_choose_the_address_that_instances_see(live: Steered) -> None:
    forged = {"X-Forwarded-For": "10.0.0.1", "x-forwarded-for": "10.0.0.2"}

    live.ask(**forged)

    (seen,) = [address for instance in live.of("blue") for address in instance.forwarded_for]
    assert seen == "127.0.0.1"


def test_each_request_has_an_id_of_ours_that_the_instance_sees_and_the_visitor_gets(live: Steered) -> None:
    replies = [live.ask(**{"X-Request-Id": "forged", "x-request-id": "forged too"}) for _ in range(2)]

    given = [reply.headers["x-request-id"] for reply in replies]
    assert sorted(seen or "" for i in live.of("blue") for seen in i.request_ids) == sorted(given)
    assert len({uuid.UUID(each) for each in given}) == 2


def test_an_answer_of_the_door_itself_has_an_id_too(live: Steered) -> None:
    assert uuid.UUID(live.ask("/internal/flags").headers["x-request-id"])


def test_a_request_that_failed_is_in_the_log_with_its_id_and_without_its_query(live: Steered) -> None:
    for instance in live.of("blue"):
        instance.fault = 500

    failed = live.ask("/api/notes?limit=3&q=private", "POST")
    for instance in live.of("blue"):
        instance.fault = 0
    fine = live.ask("/api/notes")

    log = live.haproxy.home / "log"
    line = wait_for(
        lambda: next((li for li in log.read_text().splitlines() if failed.headers["x-request-id"] in li), ""),
        "the line of the failed request",
    )
    assert " POST /api/notes status=500 server=blue-" in line
    assert "private" not in line
    assert fine.headers["x-request-id"] not in log.read_text()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_dying_instances_502_is_a_503_that_says_when_to_come_back(live: Steered, method: str) -> None:
    for instance in live.of("blue"):
        instance.cut = True

    reply = live.ask("/api/notes", method)

    assert reply.status == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert json.loads(reply.body) == {"ok": False, "error": "unavailable"}
    assert "no-store" in reply.headers["cache-control"]


def test_with_nobody_up_a_visitor_is_told_when_to_come_back(live: Steered) -> None:
    for instance in live.of("blue"):
        instance.die()
    live.await_up(*(instance.name for instance in live.of("blue")), up=False)

    reply = live.ask()

    assert reply.status == 503
    assert "retry-after" in reply.headers


def test_an_instance_that_takes_too_long_is_a_503_that_says_when_to_come_back(
    make_target: Callable[..., Steered],
) -> None:
    impatient = make_target(1, 1, p12_answer_seconds=1)
    impatient.serve(OLD)
    impatient.instances["blue-1.local"].hold()

    reply = impatient.ask(SLOW)

    assert reply.status == 503
    assert "retry-after" in reply.headers


def test_a_queue_that_takes_too_long_is_a_503_that_says_when_to_come_back(
    make_target: Callable[..., Steered],
) -> None:
    crowded = make_target(1, 1, p12_queue_seconds=1, p12_threads=3)
    crowded.serve(OLD)
    crowded.instances["blue-1.local"].hold()

    with crowded.in_flight(1):
        wait_for(lambda: crowded.instances["blue-1.local"].busy == 1, "the only place is taken")
        reply = crowded.ask()

    assert reply.status == 503
    assert "retry-after" in reply.headers


def test_a_post_that_was_sent_is_never_sent_again(live: Steered) -> None:
    for instance in live.of("blue"):
        instance.cut = True

    replies = [live.ask("/api/notes", "POST") for _ in range(10)]

    assert {reply.status for reply in replies} == {503}
    assert sum(instance.seen["POST"] for instance in live.of("blue")) == 10


def test_on_a_connection_that_was_used_before_a_dropped_post_is_dropped_and_not_sent_again(
    live: Steered,
) -> None:
    """HAProxy closes such a connection without a word, since the client may have lost a race with it."""
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=10)
    connection.request("GET", "/api/notes")
    connection.getresponse().read()
    for instance in live.of("blue"):
        instance.cut = True

    connection.request("POST", "/api/notes", b"{}")
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    connection.close()

    assert sum(instance.seen["POST"] for instance in live.of("blue")) == 1


def test_a_post_to_an_instance_that_dies_while_it_works_is_not_sent_to_another(live: Steered) -> None:
    first, second = live.of("blue")
    for instance in (first, second):
        instance.hold()
    request = f"POST {SLOW} HTTP/1.1\r\nHost: p12\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with live.opened(request) as connection:
        wait_for(lambda: first.busy + second.busy == 1, "one works on it")
        working, idle = (first, second) if first.busy else (second, first)
        working.die()
        reply = reply_on(connection)

    assert reply.status == 503
    assert (working.seen["POST"], idle.seen["POST"]) == (1, 0)


def test_a_request_that_cannot_be_sent_goes_to_another_instance_of_the_slot(live: Steered) -> None:
    live.instances["blue-1.local"].die()

    replies = [live.ask("/api/notes", "POST") for _ in range(10)]

    assert {reply.status for reply in replies} == {200}


def test_two_threads_of_an_instance_stay_free_for_internal_questions(live: Steered) -> None:
    for instance in live.of("blue"):
        instance.hold()

    with live.in_flight(40):
        wait_for(lambda: sum(instance.busy for instance in live.of("blue")) == 12, "both are full")
        assert [instance.most_busy for instance in live.of("blue")] == [6, 6]
        for instance in live.of("blue"):
            instance.let_go()
        wait_for(lambda: sum(instance.seen["GET"] for instance in live.of("blue")) == 40, "all were served")

    assert max(instance.most_busy for instance in live.of("blue")) == 6
