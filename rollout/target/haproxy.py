"""HAProxy's runtime API: who gets requests, and what the balancer saw of them.

Source: https://docs.haproxy.org/2.6/management.html sections 9.1 (statistics) and 9.3 (socket commands).
"""

import csv
import io
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rollout.errors import RolloutError, Unproven
from rollout.files import write_bytes
from rollout.target.target import Instance, Target, slots_of

HIGHEST_WEIGHT = 256
FRONT = "front"


@dataclass(frozen=True)
class Server:
    """One server line of the balancer. ``requests`` and ``errors`` count up since HAProxy started."""

    name: str
    weight: int
    up: bool
    requests: int
    errors: int


@dataclass(frozen=True)
class LineCounts:
    """What HAProxy counted of its request log since it started as ``pid``: lines, and those it dropped."""

    pid: int
    lines: int
    dropped: int


class Balancer:
    """The HAProxy of one target, over its admin socket."""

    def __init__(self, target: Target, timeout_seconds: float = 2.0) -> None:
        self.instances = target.servers
        self.socket_path: Path = target.path("haproxy_socket")
        self.state_path: Path = target.path("haproxy_state")
        self.weights_path = self.state_path.with_name("0-weights.cfg")
        self.backend: str = target.settings["haproxy_backend"]
        self.timeout_seconds = timeout_seconds

    def command(self, *commands: str) -> str:
        """Send commands in one connection and return the raw answer.

        :raises RolloutError: HAProxy does not answer on its socket.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self.timeout_seconds)
                connection.connect(str(self.socket_path))
                connection.sendall(";".join(commands).encode() + b"\n")
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        except OSError as error:
            raise RolloutError(
                f"HAProxy does not answer on {self.socket_path}: {error}.",
                "Start it again: ./p12 provision",
            ) from error

    def servers(self) -> dict[str, Server]:
        """Return every instance's server line by name."""
        weights = self._weights()
        found = {
            row["svname"]: _server(row, weights[row["svname"]])
            for row in self._statistics()
            if row["svname"] in weights
        }
        missing = [instance.name for instance in self.instances if instance.name not in found]
        if missing:
            raise RolloutError(
                f"HAProxy does not know {', '.join(missing)}.",
                "Its configuration is not this inventory's: ./p12 provision",
            )
        return found

    def requests(self) -> int:
        """Return how many requests the instances have had since HAProxy started."""
        return sum(_server(row, 0).requests for row in self._statistics() if row["svname"] != "BACKEND")

    def line_counts(self) -> LineCounts:
        """Return how many requests HAProxy has logged: each answer of the front is counted with its line."""
        statistics, _, rest = self.command(f"show stat {FRONT} 1 -1", "show info").partition("\n\n")
        (front,) = csv.DictReader(io.StringIO(statistics.removeprefix("# ")))
        info = dict(line.split(": ", 1) for line in rest.splitlines() if ": " in line)
        return LineCounts(int(info["Pid"]), _answered(front), int(info["DroppedLogs"]))

    def shares(self) -> dict[str, int]:
        """Return the percentage of new requests that each slot gets, from the weights now in force."""
        weights = self._weights()
        slots = slots_of(self.instances)
        sums = {slot: sum(weights.get(i.name, 0) for i in self.instances if i.slot == slot) for slot in slots}
        total = sum(sums.values())
        return {slot: round(100 * weight / total) if total else 0 for slot, weight in sums.items()}

    def holds(self, shares: Mapping[str, int]) -> bool:
        """Say whether the weights in force are those that give each slot its share."""
        return self._weights() == weights_for(shares, self.instances)

    def shift(self, shares: Mapping[str, int]) -> None:
        """Give each slot its percentage of new requests, keep it across reloads, and read it back.

        :raises Unproven: HAProxy reports other shares than were set.
        """
        weights = weights_for(shares, self.instances)
        # Raise before lowering: at no moment may every weight be 0.
        for name, weight in sorted(weights.items(), key=lambda item: -item[1]):
            self.command(f"set server {self.backend}/{name} weight {weight}")
        if not self.holds(shares):
            raise Unproven(f"HAProxy was told {dict(shares)} and reports {self.shares()}.", "./p12 status")
        self._wake(weights)
        self.keep()

    def keep(self) -> None:
        """Write what HAProxy starts with: its weights, and its state in case they are missing."""
        weights = self._weights()
        slots = {i.slot.upper(): weights[i.name] for i in self.instances if i.name in weights}
        lines = [f"  setenv P12_WEIGHT_{slot} {weight}\n" for slot, weight in sorted(slots.items())]
        write_bytes(self.weights_path, "".join(["global\n", *lines]).encode(), 0o644)
        write_bytes(self.state_path, self.command(f"show servers state {self.backend}").encode(), 0o644)

    def is_kept(self) -> bool:
        """Say whether what HAProxy would start with is there."""
        return self.weights_path.exists() and self.state_path.exists()

    def _wake(self, weights: Mapping[str, int]) -> None:
        """Have idle servers take from the line of waiting requests, if there is one.

        HAProxy hands a waiting request only to a server that finishes one or comes up, and while anybody
        waits everybody new gets in line: without this, a slot that hangs keeps its visitors after it was
        left. A server told to stop and come up again takes what it can; one that is down is left alone.
        """
        rows = self._statistics()
        if not any(int(row["qcur"] or 0) for row in rows if row["svname"] == "BACKEND"):
            return
        for row in rows:
            if weights.get(row["svname"]) and row["status"].startswith("UP") and not int(row["scur"] or 0):
                health = f"set server {self.backend}/{row['svname']} health"
                self.command(f"{health} stopping", f"{health} up")

    def _statistics(self) -> list[dict[str, str]]:
        rows = csv.DictReader(io.StringIO(self.command("show stat").removeprefix("# ")))
        return [row for row in rows if row["pxname"] == self.backend]

    def _weights(self) -> dict[str, int]:
        lines = self.command(f"show servers state {self.backend}").splitlines()
        header = next((line[2:].split() for line in lines if line.startswith("# ")), [])
        rows = [dict(zip(header, line.split(), strict=False)) for line in lines[2:] if line.strip()]
        names = {instance.name for instance in self.instances}
        return {row["srv_name"]: int(row["srv_uweight"]) for row in rows if row["srv_name"] in names}


def weights_for(shares: Mapping[str, int], instances: Iterable[Instance]) -> dict[str, int]:
    """Return the weights (0 to 256) that come nearest to each slot's share, however many instances it has.

    A slot with any share has at least weight 1, so the smallest true share is about 1/256.
    """
    instances = tuple(instances)
    counts = {slot: sum(1 for i in instances if i.slot == slot) for slot in slots_of(instances)}
    ideal = {slot: shares.get(slot, 0) / count for slot, count in counts.items() if count}
    largest = max(ideal.values(), default=0)

    def scaled(highest: int) -> dict[str, int]:
        return {
            slot: max(1, round(value * highest / largest)) if value > 0 else 0
            for slot, value in ideal.items()
        }

    def distance(weights: Mapping[str, int]) -> float:
        total = sum(weights[slot] * counts[slot] for slot in weights)
        wanted = sum(shares.get(slot, 0) for slot in weights)
        return max(abs(weights[s] * counts[s] / total - shares.get(s, 0) / wanted) for s in weights)

    candidates = [scaled(highest) for highest in range(HIGHEST_WEIGHT, 0, -1)] if largest > 0 else []
    weights = min(candidates, key=distance, default=dict.fromkeys(ideal, 0))
    return {i.name: weights[i.slot] for i in instances}


def _answered(row: Mapping[str, str]) -> int:
    return sum(int(row[f"hrsp_{kind}"] or 0) for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))


def _server(row: Mapping[str, str], weight: int) -> Server:
    lost = int(row["econ"] or 0) + int(row["eresp"] or 0)
    return Server(
        name=row["svname"],
        weight=weight,
        up=row["status"].startswith("UP"),
        requests=_answered(row) + lost,
        errors=int(row["hrsp_5xx"] or 0) + lost,
    )
