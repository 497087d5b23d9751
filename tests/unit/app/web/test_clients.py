"""Who is asking: behind one trusted hop the balancer's word counts, a client's own does not."""

import pytest
from flask import Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from app.settings import load_settings
from app.web.clients import author_fingerprint, client_address, fingerprint, limited_address
from app.web.limit_pass import is_rehearsal, rehearsal_header

SETTINGS = load_settings({"DATABASE_URL": "postgresql://db/p12"})


def asking(**headers: str) -> Request:
    environ = EnvironBuilder(
        headers=[(name.replace("_", "-"), value) for name, value in headers.items()],
        environ_base={"REMOTE_ADDR": "10.0.0.9"},
    ).get_environ()
    return Request(environ)


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (0, "1.1.1.1", "10.0.0.9"),
        (1, "1.1.1.1", "1.1.1.1"),
        (1, "9.9.9.9, 1.1.1.1", "1.1.1.1"),
        (1, "9.9.9.9,", "10.0.0.9"),
    ],
)
def test_the_address_is_what_the_trusted_hop_saw(hops: int, forwarded: str, address: str) -> None:
    assert client_address(asking(X_Forwarded_For=forwarded), hops) == address


def test_without_a_forwarded_address_the_peer_is_the_client() -> None:
    assert client_address(asking(), 1) == "10.0.0.9"


def test_the_first_fingerprint_that_is_given_counts() -> None:
    given_all = {"X_Author_Fp": "one", "X_Fingerprint": "two", "X_FP": "three", "Cookie": "fp=four"}

    for name, expected in (
        ("X_Author_Fp", "one"),
        ("X_Fingerprint", "two"),
        ("X_FP", "three"),
        ("Cookie", "four"),
    ):
        assert fingerprint(asking(**given_all), SETTINGS) == expected
        del given_all[name]


def test_without_one_it_is_a_salted_digest_of_address_and_agent() -> None:
    other_salt = load_settings({"DATABASE_URL": "postgresql://db/p12", "P12_FP_SALT": "other"})
    mine = fingerprint(asking(User_Agent="a"), SETTINGS)

    assert len(mine) == 64
    assert mine != fingerprint(asking(User_Agent="b"), SETTINGS)
    assert mine != fingerprint(asking(User_Agent="a"), other_salt)


def test_a_long_fingerprint_is_hashed_and_stays_distinct() -> None:
    one, other = (fingerprint(asking(X_FP="x" * 200 + end), SETTINGS) for end in "ab")

    assert len(one) == 64
    assert one != other


@given(st.text(max_size=300))
def test_whatever_a_cookie_holds_can_be_stored(value: str) -> None:
    environ = EnvironBuilder(environ_base={"REMOTE_ADDR": "10.0.0.9"}).get_environ()
    environ["HTTP_COOKIE"] = f'fp="{value}"'.encode("utf-8", "replace").decode("latin-1")
    request = Request(environ)

    found = fingerprint(request, SETTINGS)

    assert 0 < len(found) <= 128
    assert b"\0" not in found.encode()
    assert len(author_fingerprint(request, SETTINGS)) <= 64


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("no:address", "no:address"),
    ],
)
def test_limits_count_an_ipv6_client_by_its_network(address: str, counted: str) -> None:
    assert limited_address(address) == counted


def test_a_rehearsal_is_signed_for_this_target_and_soon_over() -> None:
    header = rehearsal_header("secret", "staging", 1600)

    def accepted(secret: str, target: str, now: float) -> bool:
        return is_rehearsal(header, secret, target, lambda: now)

    assert accepted("secret", "staging", 1000)
    assert not accepted("other", "staging", 1000)
    assert not accepted("secret", "production", 1000)
    assert not accepted("secret", "staging", 1600)
    assert not accepted("secret", "staging", 999)


def test_without_a_secret_no_header_is_a_rehearsal() -> None:
    assert not is_rehearsal(rehearsal_header("", "staging", 1600), "", "staging", lambda: 1000)


@given(st.text())
def test_no_made_up_header_is_a_rehearsal(header: str) -> None:
    assert not is_rehearsal(header, "secret", "staging", lambda: 1000)
