"""Where visitors come from: an address each over loopback, any that the machine gives them elsewhere."""

import pytest

from checks.visitors import http_client


def test_over_loopback_each_visitor_has_an_address() -> None:
    sources = http_client.loopback_sources("http://127.0.0.1:12200")

    assert len(set(sources)) == len(sources) >= 96


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:12200", "https://notes.example", "http://[::1]:80", "http://localhost"]
)
def test_elsewhere_they_come_from_where_the_machine_sends_them(url: str) -> None:
    assert http_client.loopback_sources(url) == ()


def test_a_host_that_refuses_such_addresses_gives_all_visitors_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a network for documents, so of no interface.
    monkeypatch.setattr(http_client, "LOOPBACK_ADDRESSES", ("127.0.1.1", "192.0.2.1"))

    assert http_client.loopback_sources("http://127.0.0.1:12200") == ()
