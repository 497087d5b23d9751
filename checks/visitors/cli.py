"""Simulated visitors: they create, view and read notes at a given rate and keep a ledger of the answers.

They stop for nothing but SIGTERM, SIGINT or the end of their time, and finish what is in flight first. A
failed request is a connection error, a timeout, or a status that the contract does not give for a valid
request, 503 included.
"""

import argparse
import asyncio
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from checks.base import command
from checks.base.errors import Misused
from checks.base.files import write_atomically
from checks.base.report import Report, compare
from checks.base.secrets import secret
from checks.visitors import ledger
from checks.visitors.http_client import (
    Door,
    allow_many_connections,
    loopback_sources,
    opened,
    sessions,
)
from checks.visitors.ledger import Ledger
from checks.visitors.limit_pass import Pass
from checks.visitors.pacer import Pacer
from checks.visitors.visitor import Mix, Visits

WRITE_SECONDS = 1.0
CREATE_SECONDS = 5.0
FEWEST_REQUESTS_PER_NOTE = 20


def main(argv: Sequence[str]) -> int:
    """``python -m checks visitors``: visit a target until told to stop."""
    args = options(argv)
    shown = Pass(secret("P12_REHEARSAL_SECRET", args.env_file), args.target)
    with ledger.sole_writer(args.state):
        return command.answer(args, "visitors", lambda: asyncio.run(visit(args, shown)))


def options(argv: Sequence[str]) -> argparse.Namespace:
    parser = command.parser("visitors", "Be a target's visitors and keep a ledger of what they saw.")
    parser.add_argument("--base-url", required=True, help="the front door, such as http://127.0.0.1:12200")
    parser.add_argument("--rate", type=float, default=10.0, help="requests per second, whatever is answered")
    parser.add_argument("--state", type=Path, required=True, metavar="FILE", help="the ledger; continued")
    parser.add_argument("--seconds", type=float, help="stop after so long; without it, run until SIGTERM")
    parser.add_argument("--views-share", type=float, default=0.7, help="how many of the requests view a note")
    parser.add_argument("--duplicates-share", type=float, default=0.1, help="of the views, by known visitors")
    parser.add_argument("--timeout-seconds", type=float, default=10.0, help="when a request has failed")
    parser.add_argument("--env-file", type=Path, help="a 0600 file that holds P12_REHEARSAL_SECRET")
    args = parser.parse_args(argv)
    if not args.rate > 0 or not math.isfinite(args.rate):
        raise Misused(f"--rate {args.rate} is not a rate. Use a number of requests per second, such as 10.")
    args.base_url = args.base_url.rstrip("/")
    return args


async def visit(args: argparse.Namespace, shown: Pass) -> Report:
    """Visit until stopped, then say what it came to."""
    allow_many_connections()
    book = Ledger({}, time.time())
    if args.state.exists():
        book = ledger.continued(args.state, math.ceil(args.rate * 2 * WRITE_SECONDS))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    writing = asyncio.create_task(keep_writing(book, args.state))
    try:
        async with sessions(args.timeout_seconds, loopback_sources(args.base_url)) as http:
            door = Door(args.base_url, http, shown)
            if await opened(door, stop):
                await pace(Visits(door, book, mix(args)), Pacer(args.rate), stop, args.seconds)
    finally:
        writing.cancel()
        write(book, args.state, stopped=True)
    return report(args, book)


async def pace(visits: Visits, pacer: Pacer, stop: asyncio.Event, seconds: float | None) -> None:
    """Start each visit when it is due and wait for none of them, until the end."""
    under_way: set[asyncio.Task[None]] = set()
    async for due in pacer.due(stop, seconds):
        task = asyncio.create_task(visits.one(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way)


def mix(args: argparse.Namespace) -> Mix:
    create_every = max(FEWEST_REQUESTS_PER_NOTE, round(args.rate * CREATE_SECONDS))
    return Mix(create_every, args.views_share, args.duplicates_share)


def report(args: argparse.Namespace, book: Ledger) -> Report:
    """Show the ledger; visitors themselves judge nothing but that somebody answered."""
    hint = f"Is the front door up? Try: curl {args.base_url}/api/health"
    return Report(
        check="visitors",
        target=args.target,
        findings=(compare("answered", book.requests or None, ">=", 1, hint),),
        inputs={"base_url": args.base_url, "rate": args.rate, "seconds": args.seconds},
        samples=str(args.state),
        facts={
            "requests": book.requests,
            "failed": book.failed,
            "failed_by": book.failed_by,
            "read_only": book.read_only,
            "unknown_outcomes": book.unknown_outcomes,
            "latency_ms": book.latencies(),
            "releases": book.releases,
        },
    )


async def keep_writing(book: Ledger, path: Path) -> None:
    while True:
        write(book, path, stopped=False)
        await asyncio.sleep(WRITE_SECONDS)


def write(book: Ledger, path: Path, stopped: bool) -> None:
    """Replace the ledger file; a full disk is said, and survived."""
    try:
        write_atomically(path, book.to_json(time.time(), stopped))
    except OSError as error:
        sys.stderr.write(f"{path} cannot be written: {error}. The visitors go on; free some space.\n")
