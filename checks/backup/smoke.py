"""What the service asks of a database: a read that a copy must answer alike, and writes it must take."""

import hashlib
from collections.abc import Mapping
from typing import Any

import psycopg2
import psycopg2.extensions

from checks.base.postgres import error_text, rows
from checks.base.report import Finding, compare

COLUMNS = (
    "id", "text", "timestamp", "expires_at", "likes", "views", "reports", "author_fp", "deleted_at",
)  # fmt: skip
IS_SERVICE = """
SELECT count(*) = %s AS is_there FROM pg_attribute
WHERE attrelid = to_regclass('notes') AND attname = ANY(%s) AND NOT attisdropped
"""
NOW = "SELECT coalesce(nullif(%s, '')::timestamp, timezone('utc', now()))::text AS now"
# The service's own page of newest notes, at a time that does not pass.
PAGE = f"""
SELECT {", ".join(COLUMNS[:-1])} FROM notes
WHERE deleted_at IS NULL AND (expires_at IS NULL OR expires_at > %s::timestamp)
ORDER BY id DESC LIMIT 20
"""  # noqa: S608
NOTE = """
INSERT INTO notes (text, timestamp, expires_at, likes, views, reports)
VALUES ('smoke', timezone('utc', now()), timezone('utc', now()) + interval '1 hour', 0, 0, 0) RETURNING id
"""
VIEW = """
WITH logged AS (
    INSERT INTO view_log (note_id, fingerprint, day, created_at)
    VALUES (%s, 'smoke', to_char(timezone('utc', now()), 'YYYY-MM-DD'), timezone('utc', now()))
    RETURNING note_id
)
UPDATE notes SET views = notes.views + 1 FROM logged WHERE notes.id = logged.note_id RETURNING notes.views
"""


def read(connection: psycopg2.extensions.connection, at: str = "") -> Mapping[str, Any]:
    """Read the page of newest notes as of ``at`` (UTC; empty is now).

    Returns ``{"at", "notes", "digest"}``, and nothing where the service's columns are not all there yet.
    """
    (service,) = rows(connection, IS_SERVICE, [len(COLUMNS), list(COLUMNS)])
    if not service["is_there"]:
        return {}
    now = rows(connection, NOW, [at])[0]["now"]
    with connection.cursor() as cursor:
        cursor.execute(PAGE, [now])
        found = cursor.fetchall()
    digest = hashlib.sha256(repr(found).encode()).hexdigest()[:16]
    return {"at": now, "notes": len(found), "digest": digest}


def write(connection: psycopg2.extensions.connection) -> str:
    """Write a note and view it as the service does, and take both back; return what went wrong, or "".

    The sequence of notes moves on by one.
    """
    with connection.cursor() as cursor:
        try:
            cursor.execute("BEGIN READ WRITE")
            cursor.execute("SELECT coalesce(max(id), 0) FROM notes")
            (newest,) = cursor.fetchone() or (0,)
            cursor.execute(NOTE)
            (note,) = cursor.fetchone() or (0,)
            if note <= newest:
                return f"A new note got id {note}, and {newest} is there already."
            cursor.execute(VIEW, [note])
            (views,) = cursor.fetchone() or (0,)
            return "" if views == 1 else f"A first view was counted as {views}."
        except psycopg2.Error as error:
            return f"{error_text(error)}."
        finally:
            cursor.execute("ROLLBACK")


def same(source: Mapping[str, Any], copy: Mapping[str, Any], wrong: str) -> tuple[Finding, ...]:
    """Hold a copy's answers against its source's; nothing where the service has not been there yet."""
    if not source:
        return ()
    return (
        compare("newest_notes", copy.get("digest"), "==", source["digest"], "The page of notes differs."),
        compare("writes_refused", int(bool(wrong)), "==", 0, wrong),
    )
