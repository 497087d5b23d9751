"""Ship the fault catalogue, or good releases, and show which gate stopped what, after how long.

    python -m tests.faults [NAME …] [--good TIMES [--stalls]] [--step-seconds SECONDS] [--markdown FILE]

A whole local site of its own, with real servers and 100 requests of visitors a second. The whole catalogue
takes about half an hour. Exit status 0 when every fault was stopped by the gate that should, and every good
release went through.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rollout.host.installed_servers import ensure
from tests.faults.catalogue import BY_NAME, CATALOGUE
from tests.faults.shipping import Outcome, ship, ship_again, ship_good
from tests.whole_site import whole_site

# Steps of two minutes at a hundred requests a second can see half a percent of errors.
STEP_SECONDS = 120
SETTINGS = """\
p12_start_seconds: 60
p12_steps: [50, 100]
p12_windows:
  step:
    {seconds: %d, max_seconds: 180, min_requests: 500, max_error_ratio: 0.01,
      warmup_seconds: 5, baseline_requests: 200, by_request: true, cold_seconds: 10, %s}
  monitor:
    {seconds: 15, max_seconds: 60, min_requests: 500, max_error_ratio: 0.01,
      warmup_seconds: 3, max_slow_ratio: 0.5, by_request: true, cold_seconds: 10, %s}
"""
# Harm in both slots is a fault of the catalogue's after so long. Where the database stalls all the time it is
# nothing unusual, and windows are long enough for what a site tolerates that lives with it.
SHARED, STALLING = "shared_seconds: 8", "shared_seconds: 25, tolerable_errors: 0.01"
VISITORS = "p12_visitors_rate: 100\n"
# A gate that stops a release names everything that is wrong; a table has room for the first.
FIRST_FINDING = re.compile(r".*?\(limit [^)]*\)")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BY_NAME)}; all of them")
    parser.add_argument("--good", type=int, default=0, metavar="TIMES", help="ship good releases first")
    parser.add_argument("--stalls", action="store_true", help="all but the first while the database stalls")
    parser.add_argument("--step-seconds", type=int, default=STEP_SECONDS, help="how long a step is watched")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BY_NAME]
    if unknown:
        parser.error(f"{unknown[0]} is not in the catalogue. Accepted: {', '.join(BY_NAME)}")
    ensure()
    lives_with = STALLING if options.stalls else SHARED
    settings = SETTINGS % (options.step_seconds, lives_with, lives_with)
    with whole_site(settings, production=VISITORS) as site:
        first = site.p12("release")
        if first.returncode:
            sys.stderr.write(first.stdout + first.stderr)
            return 1
        outcomes, is_right = [], True
        for number in range(1, options.good + 1):
            again = options.stalls and number > 1
            outcomes.append(ship_again(site, number) if again else ship_good(site, number))
            is_right &= not outcomes[-1].is_stopped
            show(outcomes[-1])
            if options.stalls and outcomes[0].is_stopped:
                break
        chosen = [BY_NAME[name] for name in options.names]
        for fault in chosen or (() if options.good else CATALOGUE):
            outcomes.append(ship(site, fault))
            is_right &= is_caught(outcomes[-1], fault.gate, fault.says)
            show(outcomes[-1])
    print(table(outcomes))
    if options.markdown:
        options.markdown.write_text(table(outcomes) + "\n")
    return 0 if is_right else 1


def is_caught(outcome: Outcome, gate: str, says: str) -> bool:
    """Tell whether a fault was stopped by its gate, in its words, and production is as it was."""
    named = bool(re.search(says, outcome.says))
    return outcome.is_stopped and outcome.is_back and outcome.gate == gate and named


def show(outcome: Outcome) -> None:
    how = f"stopped by {outcome.gate}" if outcome.is_stopped else "went through"
    print(f"{outcome.name}: {how} after {outcome.seconds:.0f} s: {outcome.says}", file=sys.stderr, flush=True)


def table(outcomes: Sequence[Outcome]) -> str:
    lines = ["| fault | stopped by | after | visitors failed | it says |", "|---|---|--:|--:|---|"]
    for each in outcomes:
        what = BY_NAME[each.name].what if each.name in BY_NAME else each.name
        gate = each.gate if each.is_stopped else "nothing"
        says = FIRST_FINDING.match(each.says)
        said = (says[0] if says else each.says).replace("|", "\\|")
        failed = f"{each.failed_requests} of {each.requests}"
        lines.append(f"| {what} | {gate} | {each.seconds:.0f} s | {failed} | {said} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
