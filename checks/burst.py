"""A burst of truly concurrent views: no deadlock, no lost or doubled view, few refusals, known latency."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from checks import command, firing, statistics
from checks.burst_judge import BurstLimits, facts, judge
from checks.database import dsn
from checks.door import allow_many_connections
from checks.environment import secret
from checks.errors import CannotMeasure, Misused
from checks.rehearsal import Pass
from checks.report import Report

__all__ = ["BurstLimits", "judge", "main"]


def options(argv: Sequence[str]) -> argparse.Namespace:
    parser = command.parser("burst", "Fire truly concurrent views and count what they did.")
    parser.add_argument("--base-url", help="the front door, such as http://127.0.0.1:12100")
    parser.add_argument("--levels", default="100,200,300", help="how many requests at once, in turn")
    parser.add_argument("--rounds", type=int, default=2, help="how often each level is fired")
    parser.add_argument("--instances", default="", help="base URLs of the instances, for their own metrics")
    parser.add_argument("--timeout-seconds", type=float, default=10.0, help="when a request has failed")
    parser.add_argument("--settle-seconds", type=float, default=statistics.SETTLE_SECONDS)
    parser.add_argument("--drain-seconds", type=float, default=60.0, help="the view queue's time to drain")
    parser.add_argument("--p99-ms", type=float, default=BurstLimits.p99_ms, help="limit of each level's p99")
    parser.add_argument("--busy-ratio", type=float, default=BurstLimits.busy_ratio, help="limit of 503s")
    parser.add_argument("--release", help="the 12 hex digits of the release that must answer")
    parser.add_argument("--env-file", type=Path, help="a 0600 file with P12_REHEARSAL_SECRET, DATABASE_URL")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="keep what was measured there")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="judge kept samples again; fire nothing")
    return parser.parse_args(argv)


def plan(args: argparse.Namespace) -> firing.Plan:
    """Make the plan from options and environment; raises Misused."""
    if not args.base_url:
        raise Misused("--base-url is missing. Name the front door, such as http://127.0.0.1:12100.")
    levels = tuple(int(level) for level in args.levels.split(",") if level.strip().isdigit())
    if not levels or len(levels) != args.levels.count(",") + 1 or min(*levels, args.rounds) < 1:
        asked = f"--levels {args.levels} --rounds {args.rounds}"
        raise Misused(f"{asked} cannot be fired. Use such as --levels 100,200,300 --rounds 2.")
    return firing.Plan(
        base_url=args.base_url.rstrip("/"),
        target=args.target,
        levels=levels,
        rounds=args.rounds,
        instances=tuple(url for url in args.instances.split(",") if url),
        timeout_seconds=args.timeout_seconds,
        settle_seconds=args.settle_seconds,
        drain_seconds=args.drain_seconds,
        database=dsn(args.env_file),
        shown=Pass(secret("P12_REHEARSAL_SECRET", args.env_file), args.target),
    )


def report(args: argparse.Namespace) -> Report:
    """Fire, or read what was kept, and judge it."""
    limits = BurstLimits(p99_ms=args.p99_ms, busy_ratio=args.busy_ratio, release=args.release)
    started_at = time.time()
    kept = read(args.replay) if args.replay else fired(plan(args), args.samples)
    measured, samples = kept["measured"], args.replay or args.samples
    return Report(
        check="burst",
        target=kept["inputs"]["target"],
        findings=judge(measured, limits),
        started_at=started_at,
        finished_at=time.time(),
        inputs={**kept["inputs"], "limits": asdict(limits)},
        samples=str(samples) if samples else None,
        facts=facts(measured),
    )


def fired(planned: firing.Plan, samples: Path | None) -> dict[str, Any]:
    """Fire a plan, keeping what it measured if there is a file for it."""
    allow_many_connections()
    measured = asyncio.run(firing.fire(planned, lambda line: print(line, file=sys.stderr, flush=True)))
    kept = {"inputs": planned.inputs(), "measured": measured}
    if samples is not None:
        command.write_atomically(samples, json.dumps(kept) + "\n")
    return kept


def read(path: Path) -> dict[str, Any]:
    """Read kept samples; raises CannotMeasure if they are none."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {"inputs": kept["inputs"], "measured": kept["measured"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} holds no kept burst ({error!r}). Name a file that --samples wrote."
        raise CannotMeasure(message) from error


def main(argv: Sequence[str]) -> int:
    """``python -m checks burst``: fire a burst at a target and judge it."""
    args = options(argv)
    return command.answer(args, "burst", time.time, lambda: report(args))
