"""The look as an engineer reads it: what is there, what is in the way and mends it, what else to know."""

from collections.abc import Iterator, Mapping
from typing import Any

from checks.adoption.judge import IN_THE_WAY
from checks.base.report import Finding, Report, Verdict

LONGEST = 400


def as_text(report: Report) -> str:
    """Return all of it, however long: rows and code that strangers wrote cannot steer a terminal."""
    facts = report.facts
    if "obstacles" not in facts:
        return _plain(report.summary)
    blocking = [each for each in facts["obstacles"] if each["weight"] in IN_THE_WAY]
    others = [found for found in report.findings if found.verdict is not Verdict.PASSED and _is_own(found)]
    lines = [_head(report, len(blocking) + sum(found.verdict is Verdict.FAILED for found in others))]
    lines += [f"  {name:<12} {words}" for name, words in _there(facts)]
    lines += _section("In the way", [*_numbered(blocking), *(line for f in others for line in _found(f))])
    lines += _section(
        "Good to know: nothing breaks", [*_numbered([e for e in facts["obstacles"] if e not in blocking])]
    )
    return "\n".join(map(_plain, [*lines, *_next(report)]))


def _is_own(found: Finding) -> bool:
    """Whether it is a finding of numbers, or of what was not seen: obstacles are told with their rows."""
    return found.verdict is Verdict.UNKNOWN or found.name in (
        *("postgres_connections", "connection_limit", "today_failed"),
    )


def _head(report: Report, count: int) -> str:
    port = f":{report.inputs['port']}" if report.inputs["port"] else ""
    where = f"{report.inputs['dbname']} at {report.inputs['host'] or 'a socket'}{port}"
    said = {0: "nothing is", 1: "1 obstacle is"}.get(count, f"{count} obstacles are")
    unseen = "; not everything could be seen" if report.verdict is Verdict.UNKNOWN else ""
    return f"{report.target}: {where}: {said} in the way{unseen}. Nothing was changed."


def _there(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    server, role, connections = facts["server"], facts["role"], facts["connections"]
    extensions = ", ".join(f"{each['name']} {each['version']}" for each in facts["extensions"])
    safe = "over TLS" if server["is_encrypted"] else "not over TLS"
    yield "server", f"Postgres {server['version']}, {server['encoding']}, {_size(server['bytes'])}, {safe}"
    yield "extensions", extensions or "none"
    yield "tables", ", ".join(f"{e['table']} {_size(e['bytes'])}" for e in facts["tables"]) or "none yet"
    yield "role", f"{role['name']}{_rights(role, server)}"
    if facts["other_databases"]:
        yield "also there", f"databases {', '.join(facts['other_databases'])}: is it the right one?"
    used = f"{connections['used']} of {connections['max']} in use, {connections['reserved']} reserved"
    yield "connections", f"{used}; the kit wants {connections['wanted']} more"
    yield "room", "SQL cannot tell what is free: see df -h where Postgres keeps its data"
    if notes := facts["notes"]:
        yield "notes", f"{notes['notes']}: {notes['expired']} expired, {notes['removed']} removed"
        yield "purge", _purge(notes["purge"])
    yield "today", _today(facts.get("today"))


def _rights(role: Mapping[str, Any], server: Mapping[str, Any]) -> str:
    said = ", superuser" if role["is_superuser"] else ""
    said += ", owns the database" if server["owner"] == role["name"] else f", the owner is {server['owner']}"
    said += f", {'may' if role['may_create_tables'] else 'may not'} create in {role['schema'] or 'no schema'}"
    return said + (f", member of {', '.join(role['member_of'])}" if role["member_of"] else "")


def _purge(purge: Mapping[str, Any]) -> str:
    logs = sum(count for name, count in purge.items() if name.endswith("_log"))
    takes = f"{purge['notes']} notes and {logs} rows of their logs for good"
    if purge["is_on"]:
        return f"ON after {purge['days']} days (p12_purge_after_days): the first one deletes {takes}"
    return f"off; after {purge['days']} days it would delete {takes} (p12_purge_after_days)"


def _today(asked: Mapping[str, Any] | None) -> str:
    if asked is None:
        return "not asked: no p12_today_url is given"
    said = [
        f"{each['path']} {each['status']} in {each['median_ms']:g} ms" if each["status"] else each["error"]
        for each in asked["answers"]
    ]
    return f"{asked['url']}: {', '.join(said)}"


def _numbered(obstacles: list[Mapping[str, Any]]) -> Iterator[str]:
    for number, each in enumerate(obstacles, 1):
        yield f"{number:>3}. {each['kind']} ({each['weight']}): {each['error']}"
        for row in each["rows"]:
            yield f"       row    {', '.join(f'{name}={value}' for name, value in row.items())}"[:LONGEST]
        if each["count"] > len(each["rows"]) > 0:
            yield f"       …      and {each['count'] - len(each['rows'])} more"
        if each["query"]:
            yield f"       shows  {each['query']}"
        yield f"       mends  {each['mend']}"
        yield from (f"       text   {line}" for line in each["text"].splitlines())


def _found(found: Finding) -> Iterator[str]:
    yield f"   - {found.name} ({found.verdict}): {found.sentence or found}"
    if found.hint:
        yield f"       mends  {found.hint}"


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", f"{title}:", *lines] if lines else []


def _next(report: Report) -> list[str]:
    if report.verdict is Verdict.PASSED:
        return ["", "next     a backup and the first release: ./p12 release"]
    return ["", "next     mend what is in the way, then the same command again"]


def _size(count: int) -> str:
    units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    return next((f"{count / size:.1f} {unit}" for size, unit in units if count >= size), f"{count} bytes")


def _plain(text: str) -> str:
    """A line without what a terminal obeys instead of showing it."""
    return "".join(each if each.isprintable() else "�" for each in text)
