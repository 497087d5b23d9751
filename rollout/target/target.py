"""One target as its balancer sees it: where things are, and what the inventory decided."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rollout.errors import Refused, RolloutError
from rollout.files import read_json

SLOTS = ("blue", "green")
# Where a Paste12 that is not the kit's serves, and how it is called where a release is named.
TODAY, TODAYS_SERVICE = "today", "today's service"
# Every new request, in percent.
FULL_SHARE = 100


@dataclass(frozen=True)
class Instance:
    """One process of a slot; ``name`` is also its server name in HAProxy."""

    name: str
    slot: str
    address: str
    port: int


@dataclass(frozen=True)
class Target:
    """A target's directory on this host and the settings that ``provision`` left there."""

    name: str
    directory: Path
    settings: Mapping[str, Any] = field(repr=False)

    @classmethod
    def load(cls, name: str, root: Path) -> "Target":
        """Read ``ROOT/NAME/target.json``.

        :raises RolloutError: this host was not provisioned for that target.
        """
        settings = read_json(root / name / "target.json")
        if settings is None:
            known = sorted(path.parent.name for path in root.glob("*/target.json"))
            raise RolloutError(
                f"{name} is not a target of this host. Accepted: {', '.join(known) or 'none yet'}.",
                "Provision it: ./p12 provision",
            )
        return cls(name, root / name, settings)

    @cached_property
    def secrets(self) -> Mapping[str, str]:
        """The target's secrets; the file is 0600 and never leaves the host."""
        secrets = read_json(self.directory / "secrets.json")
        if not isinstance(secrets, dict):
            raise RolloutError(
                f"{self.directory / 'secrets.json'} is missing.", "Provision it: ./p12 provision"
            )
        return secrets

    @cached_property
    def instances(self) -> tuple[Instance, ...]:
        return tuple(Instance(**instance) for instance in self.settings["instances"])

    @cached_property
    def servers(self) -> tuple[Instance, ...]:
        """Everybody whom the balancer can send requests to: the instances, and those of today's service.

        The latter speak HTTP with visitors and nothing with the kit.
        """
        return (*self.instances, *(Instance(**server) for server in self.settings.get("today") or ()))

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots, and what else is beside them."""
        return slots_of(self.servers)

    def instances_of(self, slot: str) -> tuple[Instance, ...]:
        return tuple(server for server in self.servers if server.slot == slot)

    @property
    def is_database_elsewhere(self) -> bool:
        """Whether Postgres and the pooler run where the kit may not log in."""
        return bool(self.settings.get("database_elsewhere"))

    def refuse_elsewhere(self) -> None:
        """Refuse what takes the superuser of a Postgres of the target's own.

        :raises Refused: the database is somebody else's; nothing was changed.
        """
        if self.is_database_elsewhere:
            raise Refused(
                f"{self.name}: its Postgres is somebody else's, where the kit may not log in; "
                "nothing was changed.",
                "What to do instead: docs/how-to/servers-elsewhere.md",
            )

    @property
    def steering(self) -> Path:
        """Where journal, lock, wanted flags and windows live."""
        return self.directory / "steer"

    @property
    def mutex(self) -> Path:
        """Held for the moment of a change, never while waiting for something."""
        return self.steering / "change.lock"

    def path(self, name: str) -> Path:
        """A path that the inventory set, e.g. ``haproxy_socket``."""
        return Path(self.settings[name])


def slots_of(servers: Iterable[Instance]) -> tuple[str, ...]:
    """The slots, and what else these servers are of."""
    return (*dict.fromkeys((*SLOTS, *(server.slot for server in servers))),)


def other(slot: str) -> str:
    """The slot that is idle while this one serves."""
    return SLOTS[0] if slot == TODAY else SLOTS[1 - SLOTS.index(slot)]


def artifact_name(release: str, sha256: str) -> str:
    """The file name of an artifact, on the controller and on hosts alike."""
    return f"{release}-{sha256[:12]}.tar.gz"


def root_directory() -> Path:
    """The directory that ``provision`` filled on this host: ``$P12_ROOT``."""
    return Path(os.environ.get("P12_ROOT", "/var/lib/p12"))


def heartbeat(target: Target) -> Path:
    """The file whose time says when the guard last showed that it does not hang."""
    return target.steering / "guard.alive"


def requests_per_minute(target: Target) -> float | None:
    """What the guard measured at the front door lately, else what simulated visitors are to bring."""
    beat = read_json(target.steering / "guard.json") or {}
    simulated = 60 * target.settings["visitors_rate"]
    return beat.get("requests_per_minute") or simulated or None
