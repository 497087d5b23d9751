"""What the checks' commands share: options, showing the report, and the exit status."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from checks.base import formats
from checks.base.errors import CannotMeasure, Misused
from checks.base.files import write_atomically
from checks.base.report import EXIT_STATUS, Report, unmeasurable

USAGE_STATUS = 2
STDOUT = Path("-")


def parser(name: str, summary: str) -> argparse.ArgumentParser:
    """Make a check's option parser with the options that every check has."""
    made = argparse.ArgumentParser(
        prog=f"p12 check {name}",
        description=(summary or "").split("\n")[0],
        epilog="Exit status: 0 passed, 3 failed, 4 unknown; 1 crash, 2 usage.",
    )
    made.add_argument("--target", default="dev", help="the target's name in the report")
    shown = made.add_argument_group("the report, besides one screen of text")
    shown.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="as JSON; without FILE instead of text",
    )
    shown.add_argument("--junit", type=Path, metavar="FILE", help="as JUnit XML, for CI's test tab")
    shown.add_argument("--markdown", type=Path, metavar="FILE", help="as Markdown, for CI's summary page")
    return made


def answer(
    args: argparse.Namespace,
    name: str,
    measure: Callable[[], Report],
    as_text: Callable[[Report], str] = formats.as_text,
) -> int:
    """Run a check, show its report and return the exit status; what could not be measured is unknown.

    A report of an earlier run never outlives the start of this one.
    """
    started_at = time.time()
    try:
        clear(path for _, path in _files(args))
        report = measure()
    except Misused as error:
        sys.stderr.write(f"{error}\n")
        return USAGE_STATUS
    except CannotMeasure as error:
        report = Report(name, args.target, (unmeasurable(error),))
    if not report.finished_at:
        report = replace(report, started_at=started_at, finished_at=time.time())
    for show, path in _files(args):
        write_atomically(path, show(report) + "\n")
    sys.stdout.write((report.to_json() if args.json == STDOUT else as_text(report)) + "\n")
    return EXIT_STATUS[report.verdict]


def _files(args: argparse.Namespace) -> Iterator[tuple[Callable[[Report], str], Path]]:
    """The files that were asked for, each with what writes its text."""
    asked = (
        (Report.to_json, args.json),
        (formats.as_junit, args.junit),
        (formats.as_markdown, args.markdown),
    )
    yield from ((show, path) for show, path in asked if path is not None and path != STDOUT)


def clear(paths: Iterable[Path]) -> None:
    """Remove reports that are about to be written; raises Misused for a place that takes none."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
            writable = os.access(path.parent, os.W_OK) and path.parent.is_dir()
        except OSError as error:
            raise Misused(
                f"{path} cannot be written: {error}. Name a file in a writable directory."
            ) from None
        if not writable:
            raise Misused(f"{path.parent} takes no files. Name a file in a writable directory.")
