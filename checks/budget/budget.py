"""Can every connection that a target may open be had from what its servers give? Pure arithmetic.

Both slots of a target run at the same time while a release is rolled out, so there are two answers: before
the overlap, and during it.
"""

from dataclasses import dataclass, fields
from typing import Annotated, Any

import msgspec

from checks.base.errors import Misused
from checks.base.report import Finding, Verdict, compare
from checks.base.validation import Count, validate

SLOTS = 2
# Fewer server connections than this starve a burst; more only make Postgres switch between them.
FEWEST_SERVER_CONNECTIONS = 20
MOST_SERVER_CONNECTIONS = 50
# The rest is for migrations, backups, monitoring and whoever looks into an incident.
SHARE_OF_POSTGRES = 0.8
Positive = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True)
class Connections:
    """The numbers of one target; ``instances`` is per slot and host.

    ``worker_connections`` is what the worker of a slot opens; ``direct_connections`` what goes to Postgres
    past the pooler, such as migrations and checks. What is None was not measured, and is unknown:
    ``pooler_pool_size`` (with the reserve) and ``max_db_connections`` (0: no limit) are pgbouncer's for this
    database, the versions are major ones, ``limiter_storage`` an address or its scheme.
    """

    hosts: Positive
    instances: Positive
    threads: Positive
    pool_size: Positive
    max_overflow: Count
    worker_connections: Count = 1
    direct_connections: Count = 3
    max_client_conn: Positive | None = None
    pooler_pool_size: Positive | None = None
    max_db_connections: Count | None = None
    max_connections: Positive | None = None
    reserved_connections: Count | None = None
    pool_mode: str | None = None
    limiter_storage: str | None = None
    server_version: Positive | None = None
    pg_dump_version: Positive | None = None

    @classmethod
    def from_dict(cls, given: Any) -> "Connections":
        """Take the numbers from JSON or YAML; raises Misused, naming the value, for what is none."""
        known = [field.name for field in fields(cls)]
        for name in given if isinstance(given, dict) else ():
            if name not in known:
                raise Misused(f"{name} is not a number of the budget. Use {', '.join(known)}.")
        try:
            return validate(given, cls, "budget")
        except ValueError as error:
            raise Misused(f"The connections cannot be counted: {error}.") from None

    @property
    def per_slot(self) -> int:
        """What one slot of one host may open to the pooler, its worker included."""
        return self.instances * (self.pool_size + self.max_overflow) + self.worker_connections

    @property
    def server_connections(self) -> int | None:
        """What the pooler may open to Postgres for this database."""
        if self.pooler_pool_size is None or self.max_db_connections is None:
            return None
        return min(self.pooler_pool_size, self.max_db_connections or self.pooler_pool_size)

    @property
    def postgres_connections(self) -> int | None:
        """What the pooler and those who go past it may open to Postgres."""
        served = self.server_connections
        return None if served is None else served + self.direct_connections

    @property
    def postgres_limit(self) -> int | None:
        """The share of Postgres's connections that may be used, in whole connections."""
        if self.max_connections is None or self.reserved_connections is None:
            return None
        return int(SHARE_OF_POSTGRES * (self.max_connections - self.reserved_connections))


def judge(site: Connections) -> tuple[Finding, ...]:
    """Hold a site's numbers against each other; reads nothing but its argument."""
    sums, clients, limit = arithmetic(site), site.hosts * site.per_slot, site.max_client_conn
    fewer = "Raise pgbouncer's max_client_conn, or lower P12_DB_POOL_SIZE, P12_DB_MAX_OVERFLOW or instances."
    before, during = f"{sums['before_overlap']}. {fewer}", f"{sums['during_overlap']}. {fewer}"
    served, pool = site.server_connections, site.pool_size + site.max_overflow
    more = "Raise pgbouncer's pool size or max_db_connections."
    full = f"{sums['to_postgres']}. Raise Postgres's max_connections, or lower pgbouncer's pool size."
    lower, threads = "Lower pgbouncer's pool size.", "Lower P12_THREADS, or a thread waits for a connection."
    mode = "Any other mode gives a client a server connection of its own for too long, or too briefly."
    dump = f"Install Postgres {site.server_version}'s programs where backups are made."
    return (
        compare("client_connections_before_overlap", clients, "<=", limit, before),
        compare("client_connections_during_overlap", SLOTS * clients, "<=", limit, during),
        compare("server_connections_fewest", served, ">=", FEWEST_SERVER_CONNECTIONS, more),
        compare("server_connections_most", served, "<=", MOST_SERVER_CONNECTIONS, lower),
        compare("postgres_connections", site.postgres_connections, "<=", site.postgres_limit, full),
        compare("threads", site.threads, "<=", pool, threads),
        compare("pool_mode", site.pool_mode, "==", "transaction", f"{mode} Set pool_mode = transaction."),
        _limiter(site),
        # An older pg_dump refuses a newer server, and that is no moment to learn it.
        compare("pg_dump_version", site.pg_dump_version, ">=", site.server_version, dump),
    )


def arithmetic(site: Connections) -> dict[str, str]:
    """How each sum was made, for whoever must change one of its parts."""
    before, during = site.hosts * site.per_slot, site.hosts * SLOTS * site.per_slot
    slot = f"({site.instances} instances × ({site.pool_size} + {site.max_overflow})"
    slot += f" + {site.worker_connections} worker)"
    most = site.max_db_connections or "no limit"
    return {
        "before_overlap": f"{site.hosts} hosts × {slot} = {before} of max_client_conn {site.max_client_conn}",
        "during_overlap": f"{site.hosts} hosts × {SLOTS} slots × {slot} = {during}"
        f" of max_client_conn {site.max_client_conn}",
        "to_postgres": f"min(pool size {site.pooler_pool_size}, max_db_connections {most})"
        f" + {site.direct_connections} direct = {site.postgres_connections}"
        f" of {SHARE_OF_POSTGRES:.0%} × (max_connections {site.max_connections}"
        f" − {site.reserved_connections} reserved) = {site.postgres_limit}",
    }


def _limiter(site: Connections) -> Finding:
    """A limiter that counts per process gives every process a count of its own."""
    if site.limiter_storage is None:
        return compare("limiter_storage", None, "!=", "memory", "Say where the limiter counts.")
    # The address may hold a password, so only its scheme is shown.
    scheme = site.limiter_storage.split(":")[0] or "memory"
    alone = site.hosts * site.instances == 1
    verdict = Verdict.PASSED if alone or not scheme.endswith("memory") else Verdict.FAILED
    hint = "Each instance would count apart. Set FLASK_LIMITER_STORAGE_URI to a redis:// address."
    return Finding("limiter_storage", scheme, "!=", "memory", verdict, hint)
