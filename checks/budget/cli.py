"""What the servers of a target say of their connections, and the budget check that holds them together."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from checks.base import command, pgbouncer
from checks.base.errors import CannotMeasure, Misused
from checks.base.postgres import connected, dsn, parse
from checks.base.postgres_tools import Tools
from checks.base.report import Report
from checks.budget import budget
from checks.budget.budget import Connections

RESERVED = ("superuser_reserved_connections", "reserved_connections")
SETTINGS = """
SELECT name, setting::int FROM pg_settings
WHERE name IN ('max_connections', 'server_version_num') OR name = ANY(%s)
"""


def ask(
    url: str,
    console_url: str,
    tools: Tools,
    named: tuple[str, str] = ("DATABASE_URL", pgbouncer.CONSOLE),
    pooled: str = "",
) -> dict[str, Any]:
    """Ask Postgres, the pooler's console and pg_dump for a ``Connections``'s measured numbers.

    ``pooled`` is the database's name as the pooler has it, if it is another.

    ``named`` is where the two DSNs were given, if anywhere; a pooler without a console is not asked. Raises
    CannotMeasure, without a DSN, if one of them does not answer.
    """
    with connected(url, named=named[0]) as postgres, postgres.cursor() as cursor:
        found = of_postgres(cursor) | {"pg_dump_version": pg_dump_version(tools)}
    if not console_url:
        return found
    with pgbouncer.console(console_url, named[1]) as console:
        return found | of_pooler(pgbouncer.limits(console, pooled or str(parse(url).get("dbname", ""))))


def of_postgres(cursor: Any) -> dict[str, Any]:
    """Return Postgres's numbers of a ``Connections``."""
    cursor.execute(SETTINGS, [list(RESERVED)])
    settings: Mapping[str, int] = dict(cursor.fetchall())
    return {
        "max_connections": settings["max_connections"],
        "reserved_connections": sum(settings.get(name, 0) for name in RESERVED),
        "server_version": settings["server_version_num"] // 10000,
    }


def of_pooler(pools: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pooler's numbers of a ``Connections``, from its ``limits``."""
    return {
        "max_client_conn": pools["max_client_conn"],
        "pooler_pool_size": pools["pool_size"],
        "max_db_connections": pools["max_db_connections"],
        "pool_mode": pools["pool_mode"],
    }


def pg_dump_version(tools: Tools) -> int | None:
    """The major version of the pg_dump that backups are made with; None without one."""
    try:
        return tools.version()[0]
    except (CannotMeasure, Misused):
        return None


def report(args: argparse.Namespace) -> Report:
    """Take the numbers from the file and, with ``--ask``, from the servers, and judge them."""
    try:
        given = json.loads(args.site.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Misused(f"{args.site} does not hold the numbers of a site: {error}.") from None
    site = Connections.from_dict(given)
    if args.ask:
        asked = ask(dsn(args.env_file), pgbouncer.url(args.env_file), Tools(args.bin_dir))
        site = replace(site, **asked)
    shown = {**asdict(site), "limiter_storage": (site.limiter_storage or "").split(":")[0]}
    return Report(
        check="budget",
        target=args.target,
        findings=budget.judge(site),
        inputs=shown,
        facts=budget.arithmetic(site),
    )


def main(argv: Sequence[str]) -> int:
    """``p12 check budget --site FILE``: judge a JSON file with the numbers of a ``Connections``."""
    parser = command.parser("budget", "Hold the connections a site can open against what its servers give.")
    names = ", ".join(field.name for field in fields(Connections))
    parser.add_argument("--site", type=Path, required=True, metavar="FILE", help=f"JSON: {names}")
    parser.add_argument(
        "--ask",
        action="store_true",
        help="ask Postgres (DATABASE_URL) and pgbouncer (P12_POOLER_URL) for theirs",
    )
    parser.add_argument("--bin-dir", type=Path, default=Tools().bin_dir, help="with --ask: where pg_dump is")
    parser.add_argument("--env-file", type=Path, help="a 0600 file that holds both DSNs")
    args = parser.parse_args(argv)
    return command.answer(args, "budget", lambda: report(args))
