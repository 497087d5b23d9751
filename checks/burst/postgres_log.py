"""Postgres's log across a stretch of time: exact, immediate, and it names who blocked whom."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import psycopg2

from checks.base.errors import Misused

LONGEST_READ = 16 * 1024 * 1024
QUERY_CHARACTERS = 90
DEADLOCK = "deadlock detected"
# Locales in which Postgres says it so; an empty one is its environment's, which nobody tells us.
ENGLISH = re.compile(r"(?:C|POSIX|en)(?:[._@]|$)", re.IGNORECASE)
WAITS = re.compile(
    r"Process (?P<waiter>\d+) waits for (?P<mode>\w+) on (?P<object>.+?); blocked by process (?P<by>\d+)\."
)
QUERY = re.compile(r"^\s*Process (?P<process>\d+): (?P<query>.*)$")
RELATION = re.compile(r"relation (\d+)")
DATABASE = re.compile(r"of database (\d+)")
# Values are visitors' own, and nobody needs them to see which statements met.
# The last one may be cut off: Postgres keeps the first 1024 bytes of a statement.
VALUE = re.compile(r"'(?:[^']|'')*(?:'|$)")
# What only prepares the transaction says nothing about why two of them met.
PREPARES = re.compile(r"^(?:\s*SET LOCAL [^;]*;\s*)+")


@dataclass(frozen=True)
class Wait:
    """One process of a deadlock: what it waited for, who held that, and its statement without values."""

    process: str
    mode: str
    object: str
    blocked_by: str
    query: str

    def __str__(self) -> str:
        return f"{self.query or 'process ' + self.process} waits for {self.mode} on {self.object}"


def mark(connection: Any, path: Path | None) -> dict[str, Any]:
    """Remember where the log ends now: of a file, or else of the one that Postgres itself can read to us.

    A log that cannot be read, or may be in another language than English, has an ``error`` instead; raises
    Misused for a file that was named and cannot be read.
    """
    marked = _named(path) if path is not None else _served(connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting FROM pg_settings WHERE name = 'lc_messages'")
        (language,) = cursor.fetchone() or ("",)
    if "error" in marked or ENGLISH.match(language):
        return marked
    reason = f"the log may be in another language than English, for lc_messages is {language!r}"
    return {"asked": path is not None, "error": reason}


def _named(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return {"asked": True, "file": str(path), "offset": file.seek(0, 2), "identity": _identity(file)}
    except OSError as error:
        message = f"{path} cannot be read: {error}. Name Postgres's log, or leave --postgres-log out."
        raise Misused(message) from None


def _served(connection: Any) -> dict[str, Any]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT name, (pg_stat_file(name)).size FROM pg_current_logfile() AS name")
            name, size = cursor.fetchone() or (None, None)
    except psycopg2.Error as error:
        return {"asked": False, "error": f"Postgres does not show its log: {str(error).splitlines()[0]}"}
    if name is None or size is None:
        return {"asked": False, "error": "Postgres has no log file of its own; name one with --postgres-log"}
    return {"asked": True, "served": name, "offset": size}


def since(connection: Any, marked: Mapping[str, Any]) -> dict[str, Any]:
    """Read what the log has gained since a mark, as deadlocks; or the ``error`` why that is not known."""
    if "error" in marked:
        return dict(marked)
    try:
        text = _read(connection, marked)
    except (OSError, psycopg2.Error, ValueError) as error:
        # Which was readable before, so that its silence is not taken for calm.
        return {"asked": True, "error": f"the log cannot be read any more: {str(error).splitlines()[0]}"}
    with connection.cursor() as cursor:
        cursor.execute("SELECT oid::text, relname FROM pg_class WHERE relkind IN ('r', 'i', 'p')")
        relations = dict(cursor.fetchall())
        cursor.execute("SELECT oid::text FROM pg_database WHERE datname = current_database()")
        (database,) = cursor.fetchone()
    found = [str_pairs(pair) for pair in deadlocks(text, relations, database)]
    return {"asked": True, "deadlocks": len(found), "pairs": list(dict.fromkeys(found))[:3]}


def deadlocks(text: str, relations: Mapping[str, str], database: str = "") -> list[tuple[Wait, ...]]:
    """The deadlocks in a log, each as its waits; those that name another database are not ours."""
    found = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if DEADLOCK in line and "ERROR" in line:
            told = list(_details(lines[number + 1 :]))
            others = {oid for detail in told for oid in DATABASE.findall(detail)} - {database}
            if not (database and others):
                found.append(_waits(told, relations))
    return found


def str_pairs(waits: Iterable[Wait]) -> str:
    """Say who blocked whom."""
    return "; ".join(dict.fromkeys(map(str, waits))) or "the log does not say who"


def _details(lines: Iterable[str]) -> Iterable[str]:
    """The lines that belong to the error before them: its DETAIL, which Postgres goes on with a tab."""
    inside = False
    for line in lines:
        if not inside and "DETAIL:" not in line:
            return
        if inside and not line.startswith("\t"):
            return
        inside = True
        yield line.partition("DETAIL:")[2] if "DETAIL:" in line else line


def _waits(lines: Iterable[str], relations: Mapping[str, str]) -> tuple[Wait, ...]:
    queries: dict[str, str] = {}
    waits = []
    process = ""
    for line in lines:
        if found := WAITS.search(line):
            named = RELATION.sub(lambda oid: f"relation {relations.get(oid[1], oid[1])}", found["object"])
            waits.append((found["waiter"], found["mode"], DATABASE.sub("", named).strip(), found["by"]))
        elif said := QUERY.match(line):
            process = said["process"]
            queries[process] = said["query"]
        elif process:
            queries[process] += f" {line}"
    return tuple(Wait(*wait, query=_shown(queries.get(wait[0], ""))) for wait in waits)


def _shown(query: str) -> str:
    return " ".join(PREPARES.sub("", VALUE.sub("'…'", query)).split())[:QUERY_CHARACTERS]


def _read(connection: Any, marked: Mapping[str, Any]) -> str:
    """What the log gained; raises ValueError if that is not the same log, or more than is read."""
    offset = int(marked["offset"])
    if "served" in marked:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_logfile(), (pg_stat_file(%s)).size", [marked["served"]])
            current, size = cursor.fetchone()
            gained = _gained(current == marked["served"], offset, size)
            cursor.execute("SELECT pg_read_binary_file(%s, %s, %s)", [marked["served"], offset, gained])
            (content,) = cursor.fetchone()
            return bytes(content).decode("utf-8", errors="replace")
    with Path(marked["file"]).open("rb") as file:
        gained = _gained(_identity(file) == marked["identity"], offset, file.seek(0, 2))
        file.seek(offset)
        return file.read(gained).decode("utf-8", errors="replace")


def _identity(file: BinaryIO) -> tuple[int, int]:
    """What a file keeps when it is renamed, and its successor of the same name has not."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def _gained(is_same: bool, offset: int, size: int) -> int:
    if not is_same or size < offset:
        raise ValueError("it was rotated meanwhile")
    if size - offset > LONGEST_READ:
        raise ValueError(f"it gained {size - offset} bytes, and no more than {LONGEST_READ} are read")
    return size - offset
