"""Whom a front door may believe, and where it is reached from its own host."""

from playbooks.filter_plugins.networks import p12_no_networks, p12_reached


def test_networks_are_taken_and_what_is_none_is_named() -> None:
    good = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]
    bad = ["10.0.0.1/8", "10.0.0.0/33", "proxy.example", "", "10.0.0.0/8\n  bind :1", "0.0.0.0/0", "::/0"]

    assert p12_no_networks(good + bad) == bad


def test_a_server_that_listens_everywhere_is_reached_on_loopback() -> None:
    listens = ["0.0.0.0", "0.0.0.0,::", "::", "10.0.0.4", "2001:db8::4"]

    assert [p12_reached(each) for each in listens] == [
        *("127.0.0.1", "127.0.0.1", "[::1]", "10.0.0.4", "[2001:db8::4]")
    ]
