"""Pure arithmetic: can every connection that a site may open be had from what its servers give?

Both slots of a target run at the same time while a release is rolled out, so everything counts twice.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from checks import command
from checks.errors import Misused
from checks.report import Finding, Report, Verdict, compare

SLOTS = 2
# Fewer server connections than this starve a burst; more only make Postgres switch between them.
FEWEST_SERVER_CONNECTIONS = 20
MOST_SERVER_CONNECTIONS = 50
# The rest is for migrations, backups, monitoring and whoever looks into an incident.
SHARE_OF_POSTGRES = 0.8


@dataclass(frozen=True)
class Site:
    """The numbers of one target; ``instances`` is per slot and host.

    ``worker_connections`` is what the worker of a slot opens; ``direct_connections`` what goes to Postgres
    past the pooler, such as migrations and checks.
    """

    hosts: int
    instances: int
    threads: int
    pool_size: int
    max_overflow: int
    max_client_conn: int
    server_connections: int
    max_connections: int
    reserved_connections: int = 3
    worker_connections: int = 1
    direct_connections: int = 3
    pool_mode: str = "transaction"
    limiter_storage: str = ""

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Site":
        """Take a site from JSON or YAML; raises Misused, naming the value, for what is no such number."""
        known = {field.name: field.type for field in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise Misused(f"{name} is not a number of the budget. Use {', '.join(known)}.")
            if known[name] is str:
                if not isinstance(value, str):
                    raise Misused(f"{name}={value!r} is not text.")
            elif not isinstance(value, int) or isinstance(value, bool):
                raise Misused(f"{name}={value!r} is not a whole number.")
            elif value < (0 if name in MAY_BE_ZERO else 1):
                raise Misused(f"{name}={value} leaves nothing to count. Use a number from 1.")
        try:
            return cls(**given)
        except TypeError as error:
            raise Misused(f"The budget lacks a number: {error}.") from None

    @property
    def client_connections(self) -> int:
        """What both slots of all hosts may open to the pooler, workers included."""
        per_slot = self.instances * (self.pool_size + self.max_overflow) + self.worker_connections
        return self.hosts * SLOTS * per_slot

    @property
    def postgres_connections(self) -> int:
        """What the pooler and those who go past it may open to Postgres."""
        return self.server_connections + self.direct_connections

    @property
    def postgres_limit(self) -> int:
        """The share of Postgres's connections that may be used, in whole connections."""
        return int(SHARE_OF_POSTGRES * (self.max_connections - self.reserved_connections))


MAY_BE_ZERO = ("max_overflow", "reserved_connections", "worker_connections", "direct_connections")


def judge(site: Site) -> tuple[Finding, ...]:
    """Hold a site's numbers against each other; reads nothing but its argument."""
    pool = site.pool_size + site.max_overflow
    return (
        compare(
            "client_connections",
            site.client_connections,
            "<=",
            site.max_client_conn,
            "Raise pgbouncer's max_client_conn, or lower P12_DB_POOL_SIZE, P12_DB_MAX_OVERFLOW or instances.",
        ),
        compare(
            "server_connections_fewest",
            site.server_connections,
            ">=",
            FEWEST_SERVER_CONNECTIONS,
            "Raise pgbouncer's pool size.",
        ),
        compare(
            "server_connections_most",
            site.server_connections,
            "<=",
            MOST_SERVER_CONNECTIONS,
            "Lower pgbouncer's pool size.",
        ),
        compare(
            "postgres_connections",
            site.postgres_connections,
            "<=",
            site.postgres_limit,
            "Raise Postgres's max_connections, or lower pgbouncer's pool size.",
        ),
        compare(
            "threads", site.threads, "<=", pool, "Lower P12_THREADS, or a thread waits for a connection."
        ),
        compare(
            "pool_mode",
            site.pool_mode,
            "==",
            "transaction",
            "Session pooling gives every client a server connection of its own; use transaction.",
        ),
        _limiter(site),
    )


def _limiter(site: Site) -> Finding:
    """A limiter that counts per process gives every process a count of its own."""
    # The address may hold a password, so only its scheme is shown.
    scheme = site.limiter_storage.split(":")[0] or "memory"
    alone = site.hosts * site.instances == 1
    verdict = Verdict.PASSED if alone or not scheme.endswith("memory") else Verdict.FAILED
    hint = "Each instance would count apart. Set FLASK_LIMITER_STORAGE_URI to a redis:// address."
    return Finding("limiter_storage", scheme, "!=", "memory", verdict, hint)


def main(argv: Sequence[str]) -> int:
    """``python -m checks budget --site FILE``: judge a JSON file with the numbers of a ``Site``."""
    parser = command.parser("budget", "Hold the connections a site can open against what its servers give.")
    parser.add_argument("--site", type=Path, required=True, metavar="FILE", help="the numbers, as JSON")
    args = parser.parse_args(argv)
    try:
        site = Site.from_dict(json.loads(args.site.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise Misused(f"{args.site} does not hold the numbers of a site: {error}.") from None

    def report() -> Report:
        now = time.time()
        shown = {field.name: getattr(site, field.name) for field in fields(site)}
        shown["limiter_storage"] = site.limiter_storage.split(":")[0]
        return Report("budget", args.target, judge(site), now, now, inputs=shown)

    return command.answer(args, "budget", time.time, report)
