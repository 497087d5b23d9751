"""The migrations of a checkout, held against the release before: ``p12 check migrations``."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from checks.base import command
from checks.base.report import Report
from checks.migrations.judge import Judged, judge


def options(argv: Sequence[str]) -> argparse.Namespace:
    parser = command.parser("migrations", "Say which migrations the release before might not survive.")
    parser.add_argument("--tree", type=Path, default=Path.cwd(), help="the checkout; here, if not given")
    parser.add_argument("--live", default="", metavar="REVISION", help="in service; what is newer is judged")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """``python -m checks migrations``; under GitHub Actions each refusal is an annotation as well."""
    args = options(argv)
    return command.answer(args, "migrations", lambda: report(args))


def report(args: argparse.Namespace) -> Report:
    """Judge, and say what came of it."""
    head, judged = judge(args.tree.resolve(), args.live)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        sys.stdout.write("".join(annotations(judged)))
    return Report(
        check="migrations",
        target=args.target,
        findings=tuple(migration.finding for migration in judged),
        inputs={"tree": str(args.tree), "live": args.live},
        facts={"head": head},
    )


def annotations(judged: Iterable[Judged]) -> list[str]:
    """Return GitHub's workflow commands; a line break or ``::`` in a statement stays text."""
    return [
        f"::error file={migration.file},title=Not safe for the release before::{_escaped(str(refusal))}\n"
        for migration in judged
        for refusal in migration.refusals
    ]


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
