"""TLS at the front door, and whom it believes about who asks."""

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from rollout.errors import RolloutError
from rollout.guard import request_log
from rollout.host.installed_servers import Servers
from rollout.steps import status
from rollout.target import front_certificate
from tests.certificates import certificate
from tests.integration.proxies import INNER, OUTER, proxied
from tests.integration.rollout.steered import OLD, Steered, reply_on, steered
from tests.running import free_port, wait_for

FIRST, SECOND = certificate(days=60), certificate(days=90, name="renewed.example")
SPEAKER, CLIENT = "127.0.0.50", "127.0.0.77"


@pytest.fixture(scope="module")
def door(make_door: Callable[..., Steered]) -> Steered:
    """A front door with TLS, behind two proxies of which it knows, and one that speaks the PROXY protocol."""
    return make_door()


@pytest.fixture(scope="module")
def make_door(servers: Servers, scratch: Path) -> Iterator[Callable[..., Steered]]:
    with contextlib.ExitStack() as stack:
        made = scratch / "owner.pem"
        made.write_bytes(b"".join(FIRST))

        def make(name: str = "tls", **role: Any) -> Steered:
            role = {
                "p12_front_certificate": str(made),
                "p12_front_tls_port": free_port(),
                "p12_front_address": "127.0.0.1,::1",
                "p12_trusted_proxies": [OUTER, f"{INNER}/32", "2001:db8::/32"],
                "p12_proxy_protocol": [SPEAKER],
                "p12_hsts_seconds": 300,
                **role,
            }
            door = stack.enter_context(steered(servers, scratch / name, {"blue": 1, "green": 1}, **role))
            door.defaults["front_certificate"] = {
                "source": str(made),
                "file": str(door.haproxy.home / "front.pem"),
                "warn_days": 14,
            }
            door.forget()
            door.tls_port = role["p12_front_tls_port"]  # type: ignore[attr-defined]
            door.owner = made  # type: ignore[attr-defined]
            door.serve(OLD)
            return door

        yield make


@pytest.fixture
def fresh(door: Steered) -> Steered:
    """The door with its first certificate in force, and what the owner has."""
    owners(door).write_bytes(b"".join(FIRST))
    front_certificate.renew(door.steering, "test")
    return door


def owners(door: Steered) -> Path:
    return door.owner  # type: ignore[attr-defined,no-any-return]


@contextlib.contextmanager
def tls(door: Steered, host: str = "127.0.0.1", protocol: str = "http/1.1") -> Iterator[ssl.SSLSocket]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    with (
        socket.create_connection((host, door.tls_port), 10) as plain,  # type: ignore[attr-defined]
        context.wrap_socket(plain) as secure,
    ):
        yield secure


def shown(door: Steered) -> bytes:
    """The certificate that a new visitor is shown, as PEM."""
    with tls(door) as secure:
        return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"").encode()


def asked(door: Steered, client: str = CLIENT, before: bytes = b"", **headers: str) -> tuple[Any, str | None]:
    """Ask over plain HTTP from an address; return the answer, and whom the instance was told it is from."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", door.port), 10, source_address=(client, 0)) as connection:
        connection.sendall(before + f"GET /api/notes HTTP/1.1\r\nHost: p.example\r\n{lines}\r\n".encode())
        reply = reply_on(connection)
    return reply, told(door) if reply.status == 200 else None


def told(door: Steered) -> str | None:
    return door.of("blue")[0].forwarded_for[-1]


@pytest.fixture(scope="module")
def through(servers: Servers, scratch: Path, door: Steered) -> Iterator[int]:
    """The port of two real proxies in a row: each adds whom it serves, and the inner one asks the door."""
    with contextlib.ExitStack() as stack:
        yield proxied(stack, servers, scratch / "tls-proxies", door.port)


def test_visitors_get_http_2_and_1_over_tls_and_are_told_to_stay(door: Steered) -> None:
    with tls(door, protocol="h2") as secure:
        assert secure.selected_alpn_protocol() == "h2"
    log = request_log.reader(door.target)
    log.take(door.steering.balancer.line_counts)
    url = f"https://127.0.0.1:{door.tls_port}/api/notes?q=1"  # type: ignore[attr-defined]
    done = subprocess.run(
        ["curl", "-sk", "--http2", "-D", "-", "-o", "/dev/null", url],
        capture_output=True,
        text=True,
        check=True,
    )
    counted, wanted = door.steering.balancer.line_counts, log.counted + 1
    wait_for(lambda: counted().lines >= wanted, "the request counted")
    assert done.stdout.startswith("HTTP/2 200")
    taken = log.take(door.steering.balancer.line_counts)
    assert ([cell[2] for cell in taken["cells"]], taken["broken"]) == (["GET /api/notes"], [])
    assert "strict-transport-security: max-age=300" in done.stdout


def test_it_listens_on_ipv6(door: Steered) -> None:
    with tls(door, host="::1") as secure:
        secure.sendall(b"GET /api/notes HTTP/1.1\r\nHost: a\r\n\r\n")
        assert reply_on(secure).status == 200
    assert told(door) == "::1"


def test_plain_http_of_others_is_sent_to_tls_and_that_of_the_targets_own_hosts_is_served(
    door: Steered,
) -> None:
    own, _ = asked(door)
    other, _ = asked(door, SPEAKER, b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 80\r\n")

    assert own.status == 200
    assert other.status == 308
    port = door.tls_port  # type: ignore[attr-defined]
    assert other.headers["location"] == f"https://p.example:{port}/api/notes"


def test_behind_a_known_proxy_that_ends_tls_nobody_is_sent_in_circles(door: Steered) -> None:
    line = b"PROXY TCP6 2001:db8::5 ::1 5000 80\r\n"
    served, seen = asked(door, SPEAKER, line, X_Forwarded_Proto="https", X_Forwarded_For="198.51.100.4")
    forged, _ = asked(
        door, SPEAKER, b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 80\r\n", X_Forwarded_Proto="https"
    )

    assert (served.status, seen, forged.status) == (200, "198.51.100.4", 308)


def test_through_two_proxies_the_client_is_who_asked_the_outer_one_whatever_it_wrote(
    door: Steered, through: int
) -> None:
    forged = f"6.6.6.6, {OUTER}, {INNER}"
    log = request_log.reader(door.target)
    log.take(door.steering.balancer.line_counts)
    for path in ("/api/notes", "/api/notes/1"):
        with socket.create_connection(("127.0.0.1", through), 10, source_address=(CLIENT, 0)) as connection:
            lines = f"Host: a\r\nX-Forwarded-For: {forged}\r\nX-Forwarded-For: {OUTER}\r\n\r\n"
            connection.sendall(f"GET {path} HTTP/1.1\r\n{lines}".encode())
            assert reply_on(connection).status == 200
        assert told(door) == CLIENT
    assert asked(door)[1] == CLIENT  # the same one, without a proxy
    counted, wanted = door.steering.balancer.line_counts, log.counted + 3
    wait_for(lambda: counted().lines >= wanted, "requests counted")
    taken = log.take(counted)

    assert (taken["broken"], taken["clients"]) == ([], {"blue": 1})


@pytest.mark.parametrize(
    ("client", "given", "seen"),
    [
        ("127.0.0.9", "6.6.6.6", "127.0.0.9"),  # no proxy of ours
        (INNER, "6.6.6.6", "6.6.6.6"),
        (INNER, "6.6.6.6, 5.5.5.5", "5.5.5.5"),
        (INNER, f"6.6.6.6, 5.5.5.5, {OUTER}", "5.5.5.5"),
        (INNER, "6.6.6.6, unknown", INNER),  # what cannot be read is not stepped over
        (INNER, f"6.6.6.6, nobody, {OUTER}", OUTER),
        (INNER, "2001:db9::7", "2001:db9::7"),
        (INNER, "", INNER),
    ],
)
def test_only_a_known_proxy_is_believed(door: Steered, client: str, given: str, seen: str) -> None:
    assert asked(door, client, X_Forwarded_For=given)[1] == seen


def test_two_clients_on_one_connection_of_a_proxy_are_two(door: Steered) -> None:
    with socket.create_connection(("127.0.0.1", door.port), 10, source_address=(INNER, 0)) as connection:
        for client in ("198.51.100.1", "198.51.100.2"):
            connection.sendall(
                f"GET /api/notes HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n".encode()
            )
            assert reply_on(connection).status == 200
            assert told(door) == client


def test_the_proxy_protocol_of_others_is_no_request(door: Steered) -> None:
    reply, _ = asked(door, "127.0.0.9", b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 80\r\n")

    assert reply.status == 400


def test_noise_at_the_tls_port_leaves_the_request_log_whole(door: Steered) -> None:
    log = request_log.reader(door.target)
    log.take(door.steering.balancer.line_counts)
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x02\x01\x00", b""):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", door.tls_port), 10) as plain,  # type: ignore[attr-defined]
        ):
            plain.sendall(noise)
            plain.shutdown(socket.SHUT_WR)
            plain.recv(100)
    assert asked(door)[0].status == 200

    assert log.take(door.steering.balancer.line_counts)["broken"] == []


def test_a_renewed_certificate_is_taken_by_the_guard_without_a_reload(fresh: Steered) -> None:
    worker = fresh.haproxy.worker()
    with tls(fresh) as before:
        owners(fresh).write_bytes(b"".join(SECOND))
        fresh.heal()
        before.sendall(b"GET /api/notes HTTP/1.1\r\nHost: a\r\n\r\n")
        assert reply_on(before).status == 200

    assert shown(fresh) == SECOND[0]
    assert fresh.haproxy.worker() == worker
    assert (fresh.haproxy.home / "front.pem").read_bytes() == b"".join(SECOND)
    assert "front.renewed" in fresh.events()
    assert "renewed.example holds until" in status.report(fresh.steering)["say"]


def test_provisioning_has_the_same_certificate_taken(fresh: Steered) -> None:
    assert fresh.host("front", "renew") == (0, {"changed": False, "at": ANY})

    owners(fresh).write_bytes(b"".join(SECOND))
    status_of_it, answer = fresh.host("front", "renew")

    assert (status_of_it, answer["changed"], shown(fresh)) == (0, True, SECOND[0])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (FIRST[0], "without its private key"),
        (SECOND[0] + FIRST[1], "not that of its first certificate"),
        (b"".join(certificate(days=-2)), "expired on"),
        (None, "cannot be read"),
    ],
)
def test_a_renewed_certificate_that_could_not_serve_changes_nothing_and_is_told(
    fresh: Steered, given: bytes | None, said: str
) -> None:
    owners(fresh).unlink() if given is None else owners(fresh).write_bytes(given)

    fresh.heal()

    assert shown(fresh) == FIRST[0]
    assert (fresh.haproxy.home / "front.pem").read_bytes() == b"".join(FIRST)
    with pytest.raises(RolloutError, match=said):
        front_certificate.renew(fresh.steering, "test")
    assert said in status.report(fresh.steering)["error"]


def test_a_certificate_that_ends_soon_is_an_alarm(fresh: Steered) -> None:
    owners(fresh).write_bytes(b"".join(certificate(days=13)))
    front_certificate.renew(fresh.steering, "test")
    fresh.guard.told_expiry = 0
    fresh.heal()

    assert "in 13 days" in status.report(fresh.steering)["error"]
    assert fresh.events().count("front.expires") == 1
    fresh.heal()
    assert fresh.events().count("front.expires") == 1
    assert fresh.host("status")[0] == 3


def test_a_site_without_these_settings_has_none_of_it(live: Steered) -> None:
    said = live.haproxy.config.read_text()

    assert not [word for word in ("ssl crt", "set-src", "redirect", "expect-proxy", "txn.") if word in said]
    assert status.status(live.steering)["front"] is None
