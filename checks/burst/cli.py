"""A burst of truly concurrent requests: no deadlock, no lost or doubled view, few refusals, known latency."""

import argparse
import asyncio
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from checks.base import command, pgbouncer
from checks.base.errors import Misused
from checks.base.postgres import dsn
from checks.base.report import Report
from checks.base.secrets import find, secret
from checks.burst import deadlock_counts, run, samples, shapes
from checks.burst.facts import facts
from checks.burst.judge import judge
from checks.burst.limits import BurstLimits
from checks.visitors.http_client import allow_many_connections
from checks.visitors.limit_pass import Pass

LIMITS = {
    "p50_ms": (float, "of each level, from the moment it was due (p95's)"),
    "p95_ms": (float, "(p99's)"),
    "p99_ms": (float, ""),
    "busy_ratio": (float, "the share of 503s"),
    "deadlocks": (int, ""),
    "lock_timeout_ratio": (float, ""),
    "in_flight_share": (float, "of a level that must be in flight together"),
    "wanted_ratio": (float, "of errors, to be shown"),
    "release": (str, "the 12 hex digits of the release that must answer"),
}


def options(argv: Sequence[str]) -> argparse.Namespace:
    parser = command.parser("burst", "Fire truly concurrent requests and count what they did.")
    parser.add_argument("--base-url", help="the front door, such as http://127.0.0.1:12100")
    parser.add_argument("--levels", default="100,200,300", help="how many requests at once, in turn")
    parser.add_argument("--rounds", type=int, default=2, help="how often each level is fired in each shape")
    parser.add_argument("--shapes", default=",".join(shapes.SHAPES), help="one hot note, ten notes, a mix")
    parser.add_argument("--visitors", default="distinct,duplicate", help="or both: the two in one volley")
    parser.add_argument("--instances", default="", help="base URLs of the instances, for their own metrics")
    parser.add_argument("--timeout-seconds", type=float, default=10.0, help="when a request has failed")
    parser.add_argument("--settle-seconds", type=float, default=deadlock_counts.SETTLE_SECONDS)
    parser.add_argument("--drain-seconds", type=float, default=60.0, help="the view queue's time to drain")
    parser.add_argument("--postgres-log", type=Path, metavar="FILE", help="Postgres's log, if it is here")
    parser.add_argument(
        "--env-file", type=Path, help="a 0600 file: P12_REHEARSAL_SECRET, DATABASE_URL, P12_POOLER_URL"
    )
    parser.add_argument("--samples", type=Path, metavar="FILE", help="keep what was measured there")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="judge kept samples again; fire nothing")
    limits = parser.add_argument_group("limits")
    for name, (kind, summary) in LIMITS.items():
        default = getattr(BurstLimits, name)
        limits.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=summary)
    return parser.parse_args(argv)


def limits_of(args: argparse.Namespace) -> BurstLimits:
    """Take the limits from the options; raises Misused where they contradict each other."""
    timeout = math.inf if args.replay else args.timeout_seconds
    return BurstLimits(**{name: getattr(args, name) for name in LIMITS}, timeout_seconds=timeout)


def plan(args: argparse.Namespace) -> run.BurstPlan:
    """Make the plan from options and environment; raises Misused."""
    if not args.base_url:
        raise Misused("--base-url is missing. Name the front door, such as http://127.0.0.1:12100.")
    levels = tuple(int(level) for level in args.levels.split(",") if level.strip().isdigit())
    if not levels or len(levels) != args.levels.count(",") + 1 or min(*levels, args.rounds) < 1:
        asked = f"--levels {args.levels} --rounds {args.rounds}"
        raise Misused(f"{asked} cannot be fired. Use such as --levels 100,200,300 --rounds 2.")
    for name, known in (("shapes", shapes.SHAPES), ("visitors", shapes.VISITORS)):
        asked = getattr(args, name)
        if not set(asked.split(",")) <= set(known):
            raise Misused(f"--{name} {asked} cannot be fired. Use some of {','.join(known)}.")
    for name in ("timeout_seconds", "settle_seconds", "drain_seconds"):
        if not 0 <= getattr(args, name) < math.inf or not args.timeout_seconds:
            raise Misused(f"--{name.replace('_', '-')} {getattr(args, name)} is no time. Use such as 10.")
    console = pgbouncer.url(args.env_file) if find(pgbouncer.CONSOLE, args.env_file) else None
    same = ("target", "rounds", "timeout_seconds", "settle_seconds", "drain_seconds", "postgres_log")
    return run.BurstPlan(
        base_url=args.base_url.rstrip("/"),
        levels=levels,
        shapes=tuple(args.shapes.split(",")),
        visitors=tuple(args.visitors.split(",")),
        instances=tuple(url for url in args.instances.split(",") if url),
        database=dsn(args.env_file),
        console=console,
        shown=Pass(secret("P12_REHEARSAL_SECRET", args.env_file), args.target),
        **{name: getattr(args, name) for name in same},
    )


def report(args: argparse.Namespace) -> Report:
    """Fire, or read what was kept, and judge it."""
    limits = limits_of(args)
    kept = samples.read(args.replay) if args.replay else fired(plan(args), args.samples)
    file = args.replay or args.samples
    return Report(
        check="burst",
        target=kept["inputs"]["target"],
        findings=judge(kept["measured"], limits),
        inputs={**kept["inputs"], "limits": asdict(limits)},
        samples=str(file) if file else None,
        facts=facts(kept["measured"], limits),
    )


def fired(planned: run.BurstPlan, file: Path | None) -> dict[str, Any]:
    """Fire a plan, keeping what it measured if there is a file for it."""
    if file is not None:
        command.clear([file])
    allow_many_connections()
    measured = asyncio.run(run.fire(planned, lambda line: print(line, file=sys.stderr, flush=True)))
    if file is not None:
        samples.write(file, planned.inputs(), measured)
    return {"inputs": planned.inputs(), "measured": measured}


def main(argv: Sequence[str]) -> int:
    """``p12 check burst``: fire a burst at a target and judge it."""
    args = options(argv)
    return command.answer(args, "burst", lambda: report(args))
