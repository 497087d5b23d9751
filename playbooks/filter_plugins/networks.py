"""Read the addresses of a site's front door."""

from ipaddress import ip_network
from typing import Any


def p12_no_networks(given: list[str]) -> list[str]:
    """Return those that are no network, or are everybody."""
    return [network for network in given if not _is_network(network)]


def _is_network(given: str) -> bool:
    try:
        return ip_network(given).prefixlen > 0
    except ValueError:
        return False


def p12_reached(listens: str) -> str:
    """Return where a server that listens there, at several addresses maybe, is reached from its own host."""
    first = listens.split(",")[0]
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(first, first)
    return f"[{address}]" if ":" in address else address


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        return {"p12_no_networks": p12_no_networks, "p12_reached": p12_reached}
