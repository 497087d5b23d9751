"""What is noted at the databases of restores, in their own comments: so a stage that was killed is found.

A note is the comment's last line; what somebody else wrote there stands above it and stays.

``unfinished`` and ``scratch_of`` name the backup of a copy beside the live database; a copy that may be
swapped in has ``backup`` and ``restoration``; the live one has these with ``replaced`` after a swap, and in
``given_up`` the newest restore that may not be swapped in any more.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2.errors
from psycopg2 import sql

from rollout.database.postgres import Cluster
from rollout.errors import Refused

COPY = "p12_copy_"
NOTED = {"unfinished", "scratch_of", "backup", "restoration", "replaced", "given_up"}
TURN_SECONDS = 3.0
BESIDE = """
SELECT datname, pg_database_size(oid), shobj_description(oid, 'pg_database')
FROM pg_database WHERE datname <> %s ORDER BY 1
"""


def copy_name(backup_id: str, prefix: str = COPY) -> str:
    """Name the database that a backup is restored into."""
    return prefix + re.sub(r"[^a-z0-9]", "_", backup_id.lower())[:50]


def mark_of(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return what we noted at a database, empty when nothing or when it is not there."""
    with cluster.cursor() as cursor:
        return split(_comment(cursor, name))[1]


def _comment(cursor: Any, name: str) -> str:
    cursor.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name])
    (comment,) = cursor.fetchone() or ("",)
    return comment or ""


def set_mark(cursor: Any, name: str, mark: dict[str, Any]) -> None:
    comment = sql.SQL("COMMENT ON DATABASE {} IS {}")
    text, _ = split(_comment(cursor, name))
    cursor.execute(comment.format(sql.Identifier(name), sql.Literal(written(mark, text))))


def written(mark: dict[str, Any], text: str = "") -> str:
    """A comment of a text and what we note below it."""
    return "\n".join([*([text] if text else []), json.dumps(mark, sort_keys=True)])


def split(comment: str) -> tuple[str, dict[str, Any]]:
    """Take a comment apart into somebody's text and what we noted."""
    text, _, last = comment.rpartition("\n")
    try:
        noted = json.loads(last)
    except ValueError:
        return comment, {}
    return (text, noted) if isinstance(noted, dict) and noted.keys() <= NOTED else (comment, {})


def beside(cluster: Cluster, live: str) -> dict[str, tuple[int, bool]]:
    """Return the databases that restores left beside the live one: size in bytes, and whether it is whole."""
    with cluster.cursor() as cursor:
        cursor.execute(BESIDE, [live])
        found = [(name, int(size), split(comment or "")[1]) for name, size, comment in cursor.fetchall()]
    return {
        name: (size, "unfinished" not in mark)
        for name, size, mark in found
        if {"scratch_of", "unfinished"} & mark.keys() or name.startswith((COPY, f"{live}_replaced_"))
    }


@contextmanager
def restore_lock(cluster: Cluster, name: str) -> Iterator[None]:
    """Be the only one that restores into a database of this name; the lock goes when its holder does.

    :raises Refused: somebody else is at it.
    """
    with cluster.cursor() as cursor:
        # A holder that has just ended, or was killed, keeps it until its server process has seen that.
        cursor.execute(f"SET lock_timeout = {TURN_SECONDS * 1000:.0f}")
        try:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 12))", [name])
        except psycopg2.errors.LockNotAvailable:
            hint = "Wait for it, or name another: --into NAME"
            raise Refused(f"{name} is being restored by somebody else.", hint) from None
        yield


def drop_database(cluster: Cluster, name: str) -> None:
    with cluster.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
