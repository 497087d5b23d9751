"""Findings from what was read: an obstacle is what the migrations say is one; here are only the numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

from checks.base.report import Finding, Verdict, compare
from checks.budget.budget import SHARE_OF_POSTGRES

# Of an obstacle's weight: the rest is told, and nothing breaks.
IN_THE_WAY = ("stops", "harms")


def judge(facts: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Judge what ``reading`` and ``today`` gave; reads nothing but its argument."""
    return (*_obstacles(facts), *_connections(facts["connections"]), *_today(facts.get("today")))


def _obstacles(facts: Mapping[str, Any]) -> Iterator[Finding]:
    for each in facts["obstacles"]:
        verdict = Verdict.FAILED if each["weight"] in IN_THE_WAY else Verdict.PASSED
        yield Finding(each["kind"], each["count"], "==", 0, verdict, each["mend"], each["error"])
    for each in facts["not_seen"]:
        said = f"{each['what']} could not be looked at: {each['error']}"
        yield Finding(each["what"], None, "==", 0, Verdict.UNKNOWN, sentence=said)


def _connections(has: Mapping[str, Any]) -> Iterator[Finding]:
    limit = int(SHARE_OF_POSTGRES * (has["max"] - has["reserved"]))
    sums = f"{has['used']} in use + {has['wanted']} that the kit wants, of {SHARE_OF_POSTGRES:.0%} × "
    sums += f"({has['max']} max_connections − {has['reserved']} reserved)"
    hint = f"{sums}. Raise max_connections, or lower p12_pgbouncer_pool_size."
    yield compare("postgres_connections", has["used"] + has["wanted"], "<=", limit, hint)
    if has["most_of_role_or_database"] is not None:
        hint = "ALTER ROLE … CONNECTION LIMIT, or ALTER DATABASE … CONNECTION LIMIT, or a smaller pool"
        yield compare("connection_limit", has["wanted"], "<=", has["most_of_role_or_database"], hint)


def _today(asked: Mapping[str, Any] | None) -> Iterator[Finding]:
    if asked is None:
        return
    failed = [f"{each['path']}: {each['error']}" for each in asked["answers"] if each["error"]]
    said = f"today's service at {asked['url']} does not answer as it should: {'; '.join(failed)}"
    hint = "Start it, or give its address as it is reached from here: p12_today_url"
    yield compare("today_failed", asked["failed"], "==", 0, hint, said if failed else "")
