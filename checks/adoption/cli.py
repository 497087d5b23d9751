"""Look at the database and the service that run today: ``p12 adopt --check``, ``p12 check adoption``."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checks.adoption import reading, today
from checks.adoption.address import address, place
from checks.adoption.judge import judge
from checks.adoption.words import as_text
from checks.base import command
from checks.base.report import Report

# What the kit opens to Postgres with its defaults: 30 of pgbouncer's, and 3 past it.
WANTED = 33


def main(argv: Sequence[str]) -> int:
    """``python -m checks adoption``; exits 0 where nothing is in the way, 3 where something is."""
    parser = command.parser("adoption", "Look at what runs today, before it is taken over; change nothing.")
    parser.add_argument(
        "--database-url-file", type=Path, metavar="FILE", help="a 0600 file that holds the database's URL"
    )
    parser.add_argument("--today-url", default="", metavar="URL", help="where today's service is reached")
    parser.add_argument(
        "--wanted", type=int, default=WANTED, metavar="N", help="connections that the kit may open"
    )
    parser.add_argument(
        "--purge-after-days", default="", metavar="DAYS", help="p12_purge_after_days of the site"
    )
    args = parser.parse_args(argv)
    return command.answer(args, "adoption", lambda: report(args), as_text)


def report(args: argparse.Namespace) -> Report:
    """Read what is there, and judge it."""
    url = address(args.database_url_file)
    facts: dict[str, Any] = reading.server_of(url)
    facts["connections"]["wanted"] = args.wanted
    facts |= reading.look(url, args.purge_after_days)
    if args.today_url:
        facts["today"] = today.ask(args.today_url)
    return Report("adoption", args.target, judge(facts), inputs=place(url), facts=facts)
