"""What the checks' commands share: options, showing the report, and the exit status."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from checks.errors import CannotMeasure, Misused
from checks.report import EXIT_STATUS, Finding, Report, Verdict

USAGE_STATUS = 2


def parser(name: str, summary: str) -> argparse.ArgumentParser:
    """Make a check's option parser with the options that every check has."""
    made = argparse.ArgumentParser(
        prog=f"python -m checks {name}", description=(summary or "").split("\n")[0]
    )
    made.add_argument("--target", default="dev", help="the target's name in the report")
    made.add_argument("--json", action="store_true", help="print the report as JSON")
    made.add_argument("--report", type=Path, metavar="FILE", help="also write the report there, as JSON")
    return made


def answer(
    args: argparse.Namespace, name: str, now: Callable[[], float], measure: Callable[[], Report]
) -> int:
    """Run a check, show its report and return the exit status; what could not be measured is unknown."""
    started_at = now()
    try:
        report = measure()
    except Misused as error:
        sys.stderr.write(f"{error}\n")
        return USAGE_STATUS
    except CannotMeasure as error:
        finding = Finding("measurable", None, "==", 1, Verdict.UNKNOWN, str(error))
        report = Report(name, args.target, (finding,), started_at, now())
    if args.report is not None:
        write_atomically(args.report, report.to_json() + "\n")
    sys.stdout.write((report.to_json() if args.json else as_text(report)) + "\n")
    return EXIT_STATUS[report.verdict]


def as_text(report: Report) -> str:
    """The summary, then a line for each finding."""
    width = max((len(finding.verdict) for finding in report.findings), default=0)
    lines = [f"  {finding.verdict:<{width}}  {finding}" for finding in report.findings]
    lines += [f"  {name}: {value}" for name, value in report.facts.items()]
    return "\n".join([report.summary, *lines])


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file in one step, so that a reader sees the old text or the new."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)
