"""Read the addresses of servers that are somebody else's; none is ever shown, for each holds a password."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ansible.errors import AnsibleFilterError


def p12_postgres_url(url: str, name: str, ca: str = "") -> str:
    """Return a DSN as libpq and SQLAlchemy take it, by TLS unless it says itself how.

    With ``ca``, the path of a certificate authority on the hosts, the server must be who it says it is.
    """
    given = urlsplit(str(url))
    if given.scheme.partition("+")[0] not in ("postgres", "postgresql") or not given.hostname:
        raise AnsibleFilterError(f"{name} is no postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    if not given.path.strip("/"):
        raise AnsibleFilterError(f"{name} names no database: postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    options = dict(parse_qsl(given.query))
    options.setdefault("sslmode", "verify-full" if ca else "require")
    if ca and options["sslmode"].startswith("verify"):
        options.setdefault("sslrootcert", ca)
    return urlunsplit(given._replace(scheme="postgresql", query=urlencode(options, safe="/")))


def p12_url_database(url: str) -> str:
    """Return the database that a DSN names."""
    return urlsplit(str(url)).path.strip("/")


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        return {"p12_postgres_url": p12_postgres_url, "p12_url_database": p12_url_database}
