"""Could every connection still be had with settings that are about to come into force?"""

from collections.abc import Mapping
from typing import Any

from checks.base.errors import CannotMeasure, Misused
from checks.base.pgbouncer import limits_in
from checks.base.report import Verdict
from checks.budget import budget, cli
from rollout.database.pgbouncer import Pooler
from rollout.database.postgres import Cluster
from rollout.errors import Refused
from rollout.target.target import Target
from rollout.text import command_hint


def require(target: Target, coming: Mapping[str, int]) -> dict[str, Any]:
    """Judge the budget with ``coming`` numbers of a ``budget.Connections``; all others are those in force.

    What is over the budget already and would not change is no reason to refuse: preflight says it.

    :raises Refused: a number would be over the budget; nothing was restarted or reloaded.
    :raises RolloutError: a server does not say what it runs with.
    """
    given = {**target.settings["budget"], **in_force(target)}
    try:
        now = budget.judge(budget.Connections.from_dict(given))
        then = budget.judge(budget.Connections.from_dict({**given, **coming}))
    except Misused as error:
        raise Refused(f"{target.name}: {error}", "Mend it in the inventory's group_vars") from error
    over = [finding for finding in then if finding.verdict != Verdict.PASSED and finding not in now]
    if over:
        raise Refused(
            f"{target.name}: connections would run out, so nothing was restarted or reloaded: "
            f"{' '.join(str(finding) for finding in over)}",
            "Set other values in the site's group_vars, then: "
            + command_hint("maintenance apply", target.name),
        )
    return {"say": f"{target.name}: connections stay within the budget"}


def in_force(target: Target) -> dict[str, Any]:
    """Ask the servers as those who always get in, for others may find every connection taken.

    :raises RolloutError: one does not answer, or pgbouncer does not know the database.
    """
    console = Pooler.of(target)
    with Cluster.of(target).cursor() as cursor:
        found = cli.of_postgres(cursor)
    config, databases = console.command("SHOW CONFIG"), console.command("SHOW DATABASES")
    try:
        pools = limits_in(config, databases, target.settings["database"])
    except CannotMeasure as error:
        raise Refused(f"{target.name}: {error}", "./p12 provision") from error
    return found | cli.of_pooler(pools)
