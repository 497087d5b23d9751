"""Measure the day an owner moves in: today's service → adopted → released beside → back → released again.

    .venv/bin/python -m benchmarks.take_over [--rate 100] [--markdown FILE]

A whole local site whose production has somebody else's Postgres, pgbouncer and Redis, by TLS, and today's
service on them. Visitors come all the time. It takes about six minutes. Exit status 0 when no visitor failed,
no view was lost or doubled, and what nobody wrote is what it was.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rollout.host.installed_servers import ensure
from tests.take_over import WHY, Move, move
from tests.whole_site import QUICK


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rate", type=int, default=100, help="visitors' requests a second")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    ensure()
    with move(QUICK, options.rate) as moved:
        rows = story(moved)
    table = "\n".join(
        ["| what | figure |", "|---|--:|", *(f"| {what} | {figure} |" for what, figure in rows)]
    )
    print(table)
    if options.markdown:
        options.markdown.write_text(table + "\n")
    return 0 if moved.failed_at_the_end == 0 else 1


def story(moved: Move) -> list[tuple[str, str]]:
    """Play it, and return what it came to; raises AssertionError where something was lost."""
    moved.do("provision", "provision")
    moved.take_triggers_away()
    assert moved.look()["status"] == 0
    before = moved.untouched()
    moved.do("adopt", "adopt")
    # Whoever came before had nobody to ask.
    moved.begin()
    moved.await_visits()
    moved.do("release", "release", "--why", WHY)
    moved.await_visits()
    assert moved.servers() != ["today"]
    back = moved.back()
    moved.await_visits()
    assert moved.servers() == ["today"]
    moved.do("release again", "release", "--why", "once more, after the way back was tried")
    moved.await_visits()
    counted = moved.site.host("production", "counters")
    moved.do("finish", "adopt", "--finish")
    moved.end()
    ((notes,),) = moved.sql("SELECT count(*) FROM notes WHERE id <= 400")
    assert counted["verdict"] == "passed", counted["summary"]
    assert notes == 400
    assert moved.untouched() == before
    return [
        ("visitors' requests", str(moved.requests)),
        ("failed", str(moved.failed_at_the_end)),
        ("views lost or doubled", f"0 ({counted['summary'].partition(': ')[2]})"),
        ("notes lost", str(400 - notes)),
        ("old notes, their counts and logs", "the same, by digest"),
        ("every request to today's service", f"{moved.seconds['adopt']:.1f} s"),
        ("first release, good", f"{moved.seconds['release']:.0f} s"),
        ("back to today's service, from Enter", f"{back:.1f} s"),
        ("released again, good", f"{moved.seconds['release again']:.0f} s"),
        ("measured", time.strftime("%Y-%m-%d", time.gmtime())),
    ]


if __name__ == "__main__":
    sys.exit(main())
