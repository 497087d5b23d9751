"""``p12 check NAME …``, which is ``python -m checks NAME …``, runs one check.

Exits 0 passed, 3 failed, 4 unknown; 1 crash, 2 usage.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from checks.base.command import USAGE_STATUS
from checks.base.errors import CannotMeasure, Misused
from checks.base.report import EXIT_STATUS, Verdict
from checks.base.secrets import SECRET_PLACES

CHECKS: Mapping[str, tuple[str, str]] = {
    "adoption": ("checks.adoption.cli", "look at what runs today, before it is taken over"),
    "backup": ("checks.backup.cli", "dump the database, prove the dump by restoring it, keep it"),
    "budget": ("checks.budget.cli", "hold the connections a site can open against what its servers give"),
    "burst": ("checks.burst.cli", "fire truly concurrent views and count what they did"),
    "counters": (
        "checks.visitors.view_counts",
        "hold every note's counter against the ledger of accepted views",
    ),
    "migrations": ("checks.migrations.cli", "say which migrations the release before might not survive"),
    "replay": ("checks.window.samples", "judge a kept window again, offline"),
    "visitors": ("checks.visitors.cli", "be the visitors of a target and keep a ledger of what they saw"),
}


def main(argv: Sequence[str]) -> int:
    """Run the check named first; only its own module is imported."""
    if argv and argv[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if not argv or argv[0] not in CHECKS:
        # Not a success: a script whose name of a check is empty has checked nothing.
        meant = get_close_matches(argv[0], CHECKS, 1) if argv else []
        said = f"{argv[0]} is not a check.{f' Did you mean {meant[0]}?' if meant else ''}\n" if argv else ""
        sys.stderr.write(said + usage())
        return USAGE_STATUS
    # Where a check connects to and how, its DSN says alone; libpq would ask the environment, too.
    for name in [name for name in os.environ if name.startswith("PG") and name not in SECRET_PLACES]:
        del os.environ[name]
    module = importlib.import_module(CHECKS[argv[0]][0])
    try:
        return int(module.main(argv[1:]))
    except Misused as error:
        sys.stderr.write(f"{error}\n")
        return USAGE_STATUS
    except CannotMeasure as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_STATUS[Verdict.UNKNOWN]


def usage() -> str:
    """Every check with one line each."""
    width = max(map(len, CHECKS))
    names = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in CHECKS.items())
    return f"usage: p12 check NAME …   (each has --help)\n{names}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
