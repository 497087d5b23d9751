"""See that a host is ready for a release. Measures only; changes nothing."""

import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from checks.base.errors import CannotMeasure
from checks.base.postgres import connected
from checks.base.postgres_tools import Tools
from checks.base.report import Verdict
from checks.budget import budget, cli
from rollout.errors import Refused, RolloutError
from rollout.files import read_json
from rollout.target.dsn import MONITOR, OWNER, console_url, database_url
from rollout.target.haproxy import Balancer
from rollout.target.target import Target

FREE_BYTES = 500_000_000
GUARD_SILENT_SECONDS = 15.0


def preflight(target: Target, kit: str) -> dict[str, Any]:
    """Return what was seen, or say everything that is wrong at once.

    :raises Refused: something that a release needs is not there.
    """
    roles: Mapping[str, Callable[[Target], Iterator[str]]] = {
        "balancer": _balancer,
        "database": _database,
        "cache": _cache,
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
    return {
        "roles": target.settings["roles"],
        "say": f"{target.name}: {', '.join(target.settings['roles'])} ready",
    }


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
        numbers |= cli.ask(database_url(target, MONITOR), console_url(target), tools, named=("", ""))
    except CannotMeasure as error:
        yield f"The database cannot be reached: {error}"
        return
    site = budget.Connections.from_dict(numbers)
    yield from (f"{finding}" for finding in budget.judge(site) if finding.verdict != Verdict.PASSED)


def _cache(target: Target) -> Iterator[str]:
    place = (target.settings["cache_address"], int(target.settings["ports"]["redis"]))
    try:
        with socket.create_connection(place, timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(f"AUTH {target.secrets['redis']}\r\nPING\r\n".encode())
            answer = connection.recv(200)
    except OSError as error:
        yield f"Redis does not answer on {place[0]}:{place[1]}: {error}; rate limits would not be shared."
        return
    if b"PONG" not in answer:
        yield f"Redis on {place[0]}:{place[1]} answers {answer.decode(errors='replace').strip()!r}."
