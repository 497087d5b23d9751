"""Shape the inventory into the instances of a target."""

import re
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def p12_instances(hosts: list[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return every instance of the given app hosts: name (``blue-1.HOST``), slot, address and port.

    A host has ``p12_instances_per_slot`` instances a slot, on consecutive ports from ``p12_blue_port`` and
    ``p12_green_port``.
    """
    return [
        {
            "name": f"{slot}-{number + 1}.{host}",
            "slot": slot,
            "address": hostvars[host]["p12_app_address"],
            "port": int(hostvars[host][f"p12_{slot}_port"]) + number,
        }
        for host in sorted(hosts)
        for slot in ("blue", "green")
        for number in range(int(hostvars[host]["p12_instances_per_slot"]))
    ]


def p12_today(servers: list[str]) -> list[dict[str, Any]]:
    """Return each ``ADDRESS:PORT`` of today's service as a server (``today-1``), shaped as an instance is."""
    found = []
    for number, said in enumerate(servers):
        read = re.fullmatch(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", str(said))
        if not read or not 0 < int(read[2]) < 2**16:
            raise AnsibleFilterError(f"p12_today_servers: {said!r} is no ADDRESS:PORT, such as 10.0.0.5:8000")
        place = {"address": read[1], "port": int(read[2])}
        found.append({"name": f"today-{number + 1}", "slot": "today", **place})
    return found


def p12_commands(instances: list[dict[str, Any]], command: str) -> list[dict[str, str]]:
    """Return each instance as a process: the command with what makes this instance itself."""
    return [
        {
            "name": instance["name"],
            "command": f"/usr/bin/env P12_INSTANCE={instance['name']} "
            f"P12_BIND={instance['address']}:{instance['port']} {command}",
        }
        for instance in instances
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        return {"p12_instances": p12_instances, "p12_commands": p12_commands, "p12_today": p12_today}
