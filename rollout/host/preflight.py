"""See that a host is ready for a release. Measures only; changes nothing."""

import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from checks.base.errors import CannotMeasure
from checks.base.postgres import connected, rows
from checks.base.postgres_tools import Tools
from checks.base.report import Verdict
from checks.budget import budget, cli
from rollout.errors import Refused, RolloutError
from rollout.files import read_json
from rollout.target.dsn import MONITOR, OWNER, console_url, database_url, pooled_database, redis_url
from rollout.target.haproxy import Balancer
from rollout.target.target import Target
from rollout.text import unread_words

FREE_BYTES = 500_000_000
GUARD_SILENT_SECONDS = 15.0


def preflight(target: Target, kit: str) -> dict[str, Any]:
    """Return what was seen, or say everything that is wrong at once.

    :raises Refused: something that a release needs is not there.
    """
    roles: Mapping[str, Callable[[Target], Iterator[str]]] = {
        **{"balancer": _balancer, "database": _database, "backup": _database, "cache": _cache},
        **({"app": _cache} if target.settings.get("redis_elsewhere") else {}),
    }
    problems = list(_kit(kit)) + list(_space(target))
    for role in target.settings["roles"]:
        if role in roles:
            problems += roles[role](target)
    if problems:
        raise Refused(
            f"{target.name} is not ready: {' '.join(problems)}",
            "./p12 provision, then the same command again",
        )
    said = f"{target.name}: {', '.join(target.settings['roles'])} ready"
    if "backup" in target.settings["roles"] and (unseen := _unseen(target)):
        said += f"; not seen here: {unseen}"
    return {"roles": target.settings["roles"], "say": said}


def _kit(wanted: str) -> Iterator[str]:
    installed = Path(__file__).resolve().parents[3].name
    if wanted and installed != wanted:
        yield f"The kit here is {installed}, the checkout's is {wanted}."


def _space(target: Target) -> Iterator[str]:
    for name in ("artifacts", "backups"):
        directory = target.directory / name
        free = shutil.disk_usage(directory).free
        if free < FREE_BYTES:
            yield f"{directory} has {free / 1e6:.0f} MB free (limit >= {FREE_BYTES / 1e6:.0f} MB)."


def _balancer(target: Target) -> Iterator[str]:
    try:
        Balancer(target).servers()
    except RolloutError as error:
        yield str(error)
    beat = read_json(target.steering / "guard.json")
    silent = time.time() - beat["at"] if beat else float("inf")
    if silent > GUARD_SILENT_SECONDS:
        yield "The guard is not running, so nobody would judge a window."


def _database(target: Target) -> Iterator[str]:
    numbers: dict[str, Any] = {**target.settings["budget"]}
    try:
        with connected(database_url(target, OWNER), named=""):
            pass
        tools = Tools(Path(target.settings["postgres_bin"]))
        places = database_url(target, MONITOR), console_url(target)
        numbers |= cli.ask(*places, tools, ("", ""), pooled_database(target))
    except CannotMeasure as error:
        yield f"The database cannot be reached: {error}"
        return
    site = budget.Connections.from_dict(numbers)
    yield from (f"{finding}" for finding in budget.judge(site) if finding.verdict != Verdict.PASSED)


def _unseen(target: Target) -> str:
    """What nobody can read of somebody else's servers."""
    with connected(database_url(target, MONITOR), named="") as monitor:
        (seen,) = rows(monitor, "SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS others")
    unread = [] if seen["others"] else ["transaction_seconds"]
    return unread_words([*unread, *([] if console_url(target) else ["pooler_waiting"]), "Postgres's log"])


def _cache(target: Target) -> Iterator[str]:
    place = urlsplit(redis_url(target))
    at = f"{place.hostname}:{place.port or 6379}"
    login = [unquote(word) for word in (place.username, place.password) if word]
    try:
        with socket.create_connection((place.hostname, place.port or 6379), timeout=2) as plain:
            authority = dict(parse_qsl(place.query)).get("ssl_ca_certs")
            tls = ssl.create_default_context(cafile=authority) if place.scheme == "rediss" else None
            with tls.wrap_socket(plain, server_hostname=place.hostname) if tls else plain as connection:
                connection.settimeout(2)
                connection.sendall(_spoken("AUTH", *login) * bool(login) + _spoken("PING"))
                answer = connection.recv(200)
    except OSError as error:
        yield f"Redis does not answer on {at}: {error}; rate limits would not be shared."
        return
    if b"PONG" not in answer:
        yield f"Redis on {at} answers {answer.decode(errors='replace').strip()!r}."


def _spoken(*words: str) -> bytes:
    """A command as Redis takes it, whatever is in its words."""
    said = [word.encode() for word in words]
    return b"*%d\r\n" % len(said) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in said)
