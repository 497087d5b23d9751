"""Can every connection that a target may open be had from what its servers give? Pure arithmetic.

Both slots of a target run at the same time while a release is rolled out, so there are two answers: before
the overlap, and during it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from checks.base.errors import Misused
from checks.base.report import Finding, Verdict, compare

SLOTS = 2
# Fewer server connections than this starve a burst; more only make Postgres switch between them.
FEWEST_SERVER_CONNECTIONS = 20
MOST_SERVER_CONNECTIONS = 50
# The rest is for migrations, backups, monitoring and whoever looks into an incident.
SHARE_OF_POSTGRES = 0.8
MAY_BE_ZERO = (
    "max_overflow",
    "reserved_connections",
    "worker_connections",
    "direct_connections",
    "max_db_connections",
)


@dataclass(frozen=True)
class Site:
    """The numbers of one target; ``instances`` is per slot and host.

    ``worker_connections`` is what the worker of a slot opens; ``direct_connections`` what goes to Postgres
    past the pooler, such as migrations and checks. What is None was not measured, and is unknown:
    ``pooler_pool_size`` (with the reserve) and ``max_db_connections`` (0: no limit) are pgbouncer's for this
    database, the versions are major ones, ``limiter_storage`` an address or its scheme.
    """

    hosts: int
    instances: int
    threads: int
    pool_size: int
    max_overflow: int
    worker_connections: int = 1
    direct_connections: int = 3
    max_client_conn: int | None = None
    pooler_pool_size: int | None = None
    max_db_connections: int | None = None
    max_connections: int | None = None
    reserved_connections: int | None = None
    pool_mode: str | None = None
    limiter_storage: str | None = None
    server_version: int | None = None
    pg_dump_version: int | None = None

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Site":
        """Take a site from JSON or YAML; raises Misused, naming the value, for what is no such number."""
        known = {field.name: str(field.type) for field in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise Misused(f"{name} is not a number of the budget. Use {', '.join(known)}.")
            _refuse_unless_number(name, value, known[name])
        try:
            return cls(**given)
        except TypeError as error:
            raise Misused(f"The budget lacks a number: {error}.") from None

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


def _refuse_unless_number(name: str, value: Any, kind: str) -> None:
    if value is None and kind.endswith("None"):
        return
    if kind.startswith("str"):
        if not isinstance(value, str):
            raise Misused(f"{name}={value!r} is not text.")
    elif not isinstance(value, int) or isinstance(value, bool):
        raise Misused(f"{name}={value!r} is not a whole number.")
    elif value < (0 if name in MAY_BE_ZERO else 1):
        raise Misused(f"{name}={value} leaves nothing to count. Use a number from 1.")


def judge(site: Site) -> tuple[Finding, ...]:
    """Hold a site's numbers against each other; reads nothing but its argument."""
    return (
        *_clients(site),
        *_servers(site),
        _threads(site),
        _pool_mode(site),
        _limiter(site),
        _pg_dump(site),
    )


def arithmetic(site: Site) -> dict[str, str]:
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


def _clients(site: Site) -> tuple[Finding, ...]:
    shown = arithmetic(site)
    less = "Raise pgbouncer's max_client_conn, or lower P12_DB_POOL_SIZE, P12_DB_MAX_OVERFLOW or instances."
    limit = site.max_client_conn
    before, during = site.hosts * site.per_slot, site.hosts * SLOTS * site.per_slot
    return (
        compare(
            "client_connections_before_overlap", before, "<=", limit, f"{shown['before_overlap']}. {less}"
        ),
        compare(
            "client_connections_during_overlap", during, "<=", limit, f"{shown['during_overlap']}. {less}"
        ),
    )


def _servers(site: Site) -> tuple[Finding, ...]:
    served = site.server_connections
    more = "Raise pgbouncer's pool size or max_db_connections."
    less = "Raise Postgres's max_connections, or lower pgbouncer's pool size."
    less = f"{arithmetic(site)['to_postgres']}. {less}"
    fewest, most = FEWEST_SERVER_CONNECTIONS, MOST_SERVER_CONNECTIONS
    return (
        compare("server_connections_fewest", served, ">=", fewest, more),
        compare("server_connections_most", served, "<=", most, "Lower pgbouncer's pool size."),
        compare("postgres_connections", site.postgres_connections, "<=", site.postgres_limit, less),
    )


def _threads(site: Site) -> Finding:
    pool = site.pool_size + site.max_overflow
    hint = "Lower P12_THREADS, or a thread waits for a connection."
    return compare("threads", site.threads, "<=", pool, hint)


def _pool_mode(site: Site) -> Finding:
    hint = "Any other mode gives a client a server connection of its own for too long, or too briefly."
    return compare("pool_mode", site.pool_mode, "==", "transaction", f"{hint} Set pool_mode = transaction.")


def _limiter(site: Site) -> Finding:
    """A limiter that counts per process gives every process a count of its own."""
    if site.limiter_storage is None:
        return compare("limiter_storage", None, "!=", "memory", "Say where the limiter counts.")
    # The address may hold a password, so only its scheme is shown.
    scheme = site.limiter_storage.split(":")[0] or "memory"
    alone = site.hosts * site.instances == 1
    verdict = Verdict.PASSED if alone or not scheme.endswith("memory") else Verdict.FAILED
    hint = "Each instance would count apart. Set FLASK_LIMITER_STORAGE_URI to a redis:// address."
    return Finding("limiter_storage", scheme, "!=", "memory", verdict, hint)


def _pg_dump(site: Site) -> Finding:
    """An older pg_dump refuses a newer server, and that is no moment to learn it."""
    hint = f"Install Postgres {site.server_version}'s programs where backups are made."
    return compare("pg_dump_version", site.pg_dump_version, ">=", site.server_version, hint)
