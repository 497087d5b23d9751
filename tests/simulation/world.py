"""A world of one seed: its clock, disk, HAProxy, instances and network, and what befalls them.

The kit's own code runs in it. What that code calls of the system is replaced, and every call is a *point*: a
fault of the seed's plan happens there. Files are real and lie in memory; what of them was made durable is
kept beside, so that a loss of power leaves what a disk might.
"""

import errno
import os
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from rollout.guard import loop
from rollout.target import haproxy, instances
from rollout.target.journal import Entry, Journal
from rollout.target.target import SLOTS, Instance
from tests.simulation.servers import Connection, SimulatedInstance, Socket

EPOCH = 1_800_000_000.0
real_replace, real_unlink, real_weights_for = Path.replace, Path.unlink, haproxy.weights_for


def weights_for(shares: Mapping[str, int], servers: Iterable[Instance]) -> dict[str, int]:
    """Return what the kit's own function does; it is asked for the same few shares again and again."""
    return dict(_weights_for(tuple(shares.items()), tuple(servers)))


@cache
def _weights_for(shares: tuple[tuple[str, int], ...], servers: tuple[Instance, ...]) -> dict[str, int]:
    return real_weights_for(dict(shares), servers)


class Crash(BaseException):
    """The process that was at work is gone; ``power`` says that its host went with it."""

    def __init__(self, power: bool) -> None:
        super().__init__("power" if power else "kill")
        self.power = power


class Violated(AssertionError):
    """Something was true that must never be."""


class Inline:
    """Puts a question to one instance after the other: the order is the seed's."""

    def __init__(self, **_: int) -> None:
        self.map = map

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None:
        return None


@dataclass
class World:
    """What there is, and what is to befall it: ``plan`` maps the number of a point to a fault."""

    seed: int
    home: Path
    plan: dict[int, str]
    servers: dict[str, SimulatedInstance]
    now: float = EPOCH
    points: int = 0
    is_dead: bool = False
    story: list[str] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    synced: dict[int, bytes] = field(default_factory=dict)
    names: dict[Path, dict[str, int]] = field(default_factory=dict)
    on_weight: Callable[[str, int], None] = lambda *_: None
    others: dict[str, Callable[[], None]] = field(default_factory=dict)
    is_nested: bool = False
    # The last journal entry that somebody was told is written.
    acknowledged: str = ""
    # The weights that HAProxy was said to start with, and those that somebody began to write since.
    kept: list[dict[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def say(self, words: str) -> None:
        words = words.replace(str(self.home), "").replace(self.home.name, "target")
        self.story.append(f"{self.points:>4} {self.now - EPOCH:9.2f} {words}")

    def point(self, words: str) -> str:
        """Pass a point; return the fault that the caller is to feel, empty for none."""
        if self.is_dead:
            raise Crash(power=False)
        self.points += 1
        fault = self.plan.get(self.points, "")
        if fault:
            self.say(f"{fault} at: {words}")
        if fault in ("kill", "power"):
            self.is_dead = True
            raise Crash(fault == "power")
        if fault in self.others and not self.is_nested:
            self.is_nested = True
            try:
                self.others[fault]()
            finally:
                self.is_nested = False
        if fault.startswith("away"):
            self.servers[sorted(self.servers)[int(fault[-1])]].up = False
        if fault == "slow":
            self.now += 1000.0
        return fault

    def fsync(self, descriptor: int) -> None:
        """Make durable what a descriptor names, unless the disk is full."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if self.point(f"fsync {path.name}") == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if path.is_dir():
            self.names[path] = {each.name: each.inode() for each in os.scandir(path) if each.is_file()}
        else:
            self.synced[os.fstat(descriptor).st_ino] = path.read_bytes()

    def replace(self, draft: Path, path: Path) -> Path:
        self.point(f"rename {path.name}")
        return real_replace(draft, path)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        self.point(f"unlink {path.name}")
        real_unlink(path, missing_ok)

    def settle(self) -> None:
        """Take all that there is for durable."""
        for directory in {path.parent for path in self.home.rglob("*") if path.is_file()}:
            self.names[directory] = {e.name: e.inode() for e in os.scandir(directory) if e.is_file()}
            for path in (directory / name for name in self.names[directory]):
                self.synced[path.stat().st_ino] = path.read_bytes()

    def lose_power(self) -> None:
        """Leave of each file what a disk might: the old name or the new one, and what is not synced torn."""
        for directory, durable in self.names.items():
            now = {
                e.name: (e.inode(), Path(e.path).read_bytes()) for e in os.scandir(directory) if e.is_file()
            }
            for name in sorted({*durable, *now}):
                inode, content = now.get(name, (0, b""))
                kept = self.synced.get(inode, b"")
                if inode != durable.get(name, 0) and self.random.random() < 0.5:
                    inode, kept = durable.get(name, 0), self.synced.get(durable.get(name, 0), b"")
                elif content.startswith(kept):
                    kept = content[: self.random.randint(len(kept), len(content))]
                if inode:
                    (directory / name).write_bytes(kept)
                elif name in now:
                    real_unlink(directory / name)
        self.settle()
        self.start_haproxy()
        if self.kept and self.weights not in self.kept:
            raise Violated(f"HAProxy starts with {self.weights}, and was to keep {self.kept[0]}")

    def start_haproxy(self) -> None:
        """Start HAProxy with the shares that it finds on file."""
        try:
            lines = (self.home / "0-weights.cfg").read_text().splitlines()
            found = {line.split("_")[2].split()[0].lower(): int(line.split()[2]) for line in lines[1:]}
            found = {slot: found[slot] for slot in SLOTS}
        except (LookupError, ValueError, OSError) as error:
            raise Violated(f"HAProxy does not start with what is on file: {error!r}") from error
        self.weights = {name: found[server.slot] for name, server in self.servers.items()}

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @contextmanager
    def entered(self) -> Iterator["World"]:
        """Have whatever the kit calls of the system be this world's."""
        world = self
        http = SimpleNamespace(
            HTTPConnection=lambda _, port, timeout: Connection(world, port, timeout),
            HTTPException=instances.http.client.HTTPException,
        )
        sockets = SimpleNamespace(AF_UNIX=1, SOCK_STREAM=1, socket=lambda *_: Socket(world))
        append = Journal.append

        def appended(*given: Any, **data: Any) -> Entry:
            entry = append(*given, **data)
            self.acknowledged = entry.hash
            return entry

        keep = haproxy.Balancer.keep

        def kept(balancer: haproxy.Balancer) -> None:
            self.kept.append(dict(self.weights))
            keep(balancer)
            self.kept = self.kept[-1:]

        with ExitStack() as stack:
            for where, name, what in (
                (os, "fsync", self.fsync),
                (Path, "replace", lambda draft, path: world.replace(draft, path)),
                (Path, "unlink", lambda path, missing_ok=False: world.unlink(path, missing_ok)),
                (time, "time", lambda: world.now),
                (time, "monotonic", lambda: world.now),
                (time, "sleep", self.sleep),
                (uuid, "uuid4", lambda: SimpleNamespace(hex=f"{world.random.getrandbits(128):032x}")),
                (haproxy, "socket", sockets),
                (haproxy, "weights_for", weights_for),
                (loop, "_say", self.say),
                (Journal, "append", appended),
                (haproxy.Balancer, "keep", kept),
                (instances, "http", SimpleNamespace(client=http)),
                (instances, "ThreadPoolExecutor", Inline),
            ):
                stack.enter_context(patch.object(where, name, what))
            yield self
