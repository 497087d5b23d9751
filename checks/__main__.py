"""``python -m checks NAME …`` runs one check. Exits 0 passed, 3 failed, 4 unknown; 1 crash, 2 usage."""

import importlib
import sys
from collections.abc import Mapping, Sequence

from checks.command import USAGE_STATUS
from checks.errors import CannotMeasure, Misused
from checks.report import EXIT_STATUS, Verdict

CHECKS: Mapping[str, tuple[str, str]] = {
    "backup": ("checks.backup", "dump the database, prove the dump by restoring it, keep it"),
    "budget": ("checks.budget", "hold the connections a site can open against what its servers give"),
    "burst": ("checks.burst", "fire truly concurrent views and count what they did"),
    "counters": ("checks.counters", "hold every note's counter against the ledger of accepted views"),
    "replay": ("checks.kept", "judge a kept window again, offline"),
    "visitors": ("checks.visitors", "be the visitors of a target and keep a ledger of what they saw"),
}


def main(argv: Sequence[str]) -> int:
    """Run the check named first; only its own module is imported."""
    if not argv or argv[0] not in CHECKS:
        names = "\n".join(f"  {name:<9} {summary}" for name, (_, summary) in CHECKS.items())
        sys.stderr.write(f"usage: python -m checks NAME …\n{names}\n")
        return USAGE_STATUS
    module = importlib.import_module(CHECKS[argv[0]][0])
    try:
        return int(module.main(argv[1:]))
    except Misused as error:
        sys.stderr.write(f"{error}\n")
        return USAGE_STATUS
    except CannotMeasure as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_STATUS[Verdict.UNKNOWN]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
