"""``python -m tests.simulation``: play seeds, replay one with its story, or look for planted bugs."""

import argparse
import contextlib
import io
import sys
import time

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.release import plan_of, run, shrunk


def first_failing(seeds: range) -> tuple[int, str] | None:
    """Return the first seed that violates something, and what; ``None`` when none does."""
    with contextlib.redirect_stdout(io.StringIO()):
        return next(((seed, said) for seed in seeds if (said := run(seed)[0])), None)


def found(bug: Bug, seeds: range) -> str:
    """Return a row of the table: what was planted, the first seed that finds it, and what it violates."""
    with bug.planted():
        failing = first_failing(seeds)
    return f"| {bug.words} | {f'{failing[0]} | {failing[1][:90]}' if failing else 'not found |'} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--seed", type=int, help="replay this one and print its story")
    parser.add_argument(
        "--bugs", action="store_true", help="plant each bug and look for it; a Markdown table"
    )
    parser.add_argument("--only", default="", help="plant the bugs whose words hold this")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    if given.bugs:
        print("| planted | first seed | what it violates |\n| --- | ---: | --- |")
        for bug in (bug for bug in BUGS if given.only in bug.words):
            print(found(bug, seeds), flush=True)
        return 0
    started = time.process_time()
    failing = (given.seed, "") if given.seed is not None else first_failing(seeds)
    if failing is None:
        seconds = time.process_time() - started
        print(f"{len(seeds)} seeds, none violates anything; {1000 * seconds / len(seeds):.1f} ms each")
        return 0
    with contextlib.redirect_stdout(io.StringIO()):
        plan = plan_of(failing[0])
        plan = shrunk(failing[0], plan) if run(failing[0])[0] else plan
        said, story = run(failing[0], plan)
    print(*story, f"seed {failing[0]}, {plan}: {said or 'nothing is violated'}", sep="\n")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
