"""Postgres's log across a stretch of time: exact, immediate, and it names who blocked whom."""

import os
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import psycopg2

from checks.base.errors import Misused
from checks.base.postgres import error_text, rows
from checks.base.validation import Count
from checks.base.waiting import wait_until

LONGEST_READ = 16 * 1024 * 1024
QUERY_CHARACTERS = 90
COLLECTOR_SECONDS = 10.0
# The DETAIL of an error is on the next line, and goes on where lines begin with a tab.
INCIDENT = re.compile(r"^.*ERROR.*deadlock detected.*(?:\n.*DETAIL:(?P<detail>.*(?:\n\t.*)*))?", re.MULTILINE)
# Locales in which Postgres says it so; an empty one is its environment's, which nobody tells us.
ENGLISH = re.compile(r"(?:C|POSIX|en)(?:[._@]|$)", re.IGNORECASE)
WAITS = re.compile(r"Process (\d+) waits for (\w+) on (.+?); blocked by process (\d+)\.")
QUERY = re.compile(r"^\s*Process (\d+): (.*(?:\n(?!\s*Process \d+: ).*)*)", re.MULTILINE)
RELATION = re.compile(r"relation (\d+)")
DATABASE = re.compile(r"of database (\d+)")
# Values are visitors' own, and nobody needs them to see which statements met.
# The last one may be cut off: Postgres keeps the first 1024 bytes of a statement.
VALUE = re.compile(r"'(?:[^']|'')*(?:'|$)")
# What only prepares the transaction says nothing about why two of them met.
PREPARES = re.compile(r"^(?:\s*SET LOCAL [^;]*;\s*)+")


class LogCount(msgspec.Struct, omit_defaults=True):
    """The deadlocks that a log tells of, with some of their pairs; or the ``error`` why it does not.

    ``asked`` says that the log was named, or could be read at first: then its silence is unknown, not calm.
    """

    asked: bool
    deadlocks: Count | None = None
    pairs: list[str] = []
    error: str = ""

    def __post_init__(self) -> None:
        if self.deadlocks is None and not self.error:
            raise ValueError("a log has neither deadlocks nor an error")


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
    (found,) = rows(connection, "SELECT setting FROM pg_settings WHERE name = 'lc_messages'")
    language = found["setting"]
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
        found = rows(connection, "SELECT name, (pg_stat_file(name)).size FROM pg_current_logfile() AS name")
    except psycopg2.Error as error:
        return {"asked": False, "error": f"Postgres does not show its log: {error_text(error)}"}
    if not found or found[0]["size"] is None:
        return {"asked": False, "error": "Postgres has no log file of its own; name one with --postgres-log"}
    return {"asked": True, "served": found[0]["name"], "offset": found[0]["size"]}


def since(connection: Any, marked: Mapping[str, Any]) -> LogCount:
    """Read what the log has gained since a mark, as deadlocks; or the ``error`` why that is not known."""
    if "error" in marked:
        return LogCount(**marked)
    try:
        text = _written(connection, marked) if "served" in marked else _read(connection, marked)
    except (OSError, psycopg2.Error, ValueError) as error:
        # Which was readable before, so that its silence is not taken for calm.
        return LogCount(True, error=f"the log cannot be read any more: {str(error).splitlines()[0]}")
    names = rows(connection, "SELECT oid::text, relname FROM pg_class WHERE relkind IN ('r', 'i', 'p')")
    (own,) = rows(connection, "SELECT oid::text FROM pg_database WHERE datname = current_database()")
    found = deadlocks(text, {row["oid"]: row["relname"] for row in names}, own["oid"])
    return LogCount(True, len(found), list(dict.fromkeys(map(str_pairs, found)))[:3])


def deadlocks(text: str, relations: Mapping[str, str], database: str = "") -> list[tuple[Wait, ...]]:
    """The deadlocks in a log, each as its waits; those that name another database are not ours."""
    told = [incident["detail"] or "" for incident in INCIDENT.finditer(text)]
    ours = [detail for detail in told if not database or {*DATABASE.findall(detail)} <= {database}]
    return [_waits(detail, relations) for detail in ours]


def str_pairs(waits: Iterable[Wait]) -> str:
    """Say who blocked whom."""
    return "; ".join(dict.fromkeys(map(str, waits))) or "the log does not say who"


def _waits(detail: str, relations: Mapping[str, str]) -> tuple[Wait, ...]:
    queries = dict(QUERY.findall(detail))
    waits = []
    for process, mode, held, by in WAITS.findall(detail):
        named = RELATION.sub(lambda oid: f"relation {relations.get(oid[1], oid[1])}", held)
        waits.append(
            Wait(process, mode, DATABASE.sub("", named).strip(), by, _shown(queries.get(process, "")))
        )
    return tuple(waits)


def _shown(query: str) -> str:
    return " ".join(PREPARES.sub("", VALUE.sub("'…'", query)).split())[:QUERY_CHARACTERS]


def _written(connection: Any, marked: Mapping[str, Any]) -> str:
    """What the log gained until now: Postgres's own collector writes late, and in turn for everybody."""
    word = f"p12 reads the log {uuid.uuid4().hex}"
    rows(connection, f"DO $$ BEGIN RAISE LOG '{word}'; END $$")

    def whole() -> str:
        text = _read(connection, marked)
        return text if word in text else ""

    if text := wait_until(whole, COLLECTOR_SECONDS, 0.05):
        return text
    raise ValueError(f"what was logged last is not in it within {COLLECTOR_SECONDS:g} s")


def _read(connection: Any, marked: Mapping[str, Any]) -> str:
    """What the log gained; raises ValueError if that is not the same log, or more than is read."""
    offset = int(marked["offset"])
    if served := marked.get("served"):
        (now,) = rows(connection, "SELECT pg_current_logfile() AS name, (pg_stat_file(%s)).size", [served])
        wanted = [served, offset, _gained(now["name"] == served, offset, now["size"])]
        (read,) = rows(connection, "SELECT pg_read_binary_file(%s, %s, %s) AS content", wanted)
        return bytes(read["content"]).decode("utf-8", errors="replace")
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
