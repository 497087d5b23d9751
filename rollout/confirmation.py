"""Ask before a database is replaced: the target's name, typed on a terminal or with ``--confirm``."""

import argparse
import sys
from collections.abc import Callable

from rollout.errors import Refused


def restore_over(
    options: argparse.Namespace,
    play: Callable[[], int],
    typed: Callable[[str], str] = input,
    is_terminal: Callable[[], bool] = lambda: sys.stdin.isatty(),
) -> int:
    """Say what a restore over the live database would lose, have it confirmed, and do it.

    ``play`` runs the playbook with the options as they are then.

    :raises Refused: no backup was named, nobody is there to ask, or what was typed is not the target's name;
        nothing was changed.
    """
    again = f"./p12 restore --target {options.target} --backup {options.backup or 'ID'} --over"
    again += f" --identity {options.identity}" if options.identity else ""
    if not options.backup:
        raise Refused("Which backup? Nothing was changed.", f"See them: ./p12 restore; then: {again}")
    if not options.confirm:
        if not is_terminal():
            raise Refused(
                f"This replaces the database of {options.target}, and nobody is there to confirm it. "
                "Nothing was changed.",
                f"{again} --confirm {options.target}",
            )
        options.ask = True
        if status := play():
            return status
        options.ask = False
        options.confirm = typed(f"Type {options.target} to replace its database: ").strip()
    if options.confirm != options.target:
        raise Refused(f"{options.confirm!r} is not {options.target}. Nothing was changed.", again)
    status = play()
    if status:
        sys.stderr.write("         Where it stands, and how to go on: ./p12 status\n")
    return status
