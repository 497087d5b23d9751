"""Notes: their shape, and how they are written, read and listed."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from app.errors import BadRequestError, NotFoundError
from app.service import Service

LARGEST_ID = 2**31 - 1
DEFAULT_HOURS, FEWEST_HOURS, MOST_HOURS = 24, 1, 168
DEFAULT_PAGE, LARGEST_PAGE = 20, 100

INSERT_NOTE = """
INSERT INTO notes (text, timestamp, expires_at, likes, views, reports, author_fp)
SELECT %(text)s, utc, utc + make_interval(hours => %(hours)s), 0, 0, 0, %(author)s
FROM timezone('utc', now()) AS utc
RETURNING id, text, timestamp, expires_at, likes, views, reports, author_fp
"""

# An older Paste12 left counters without a value; they count from 0.
SELECT_NOTES = """
SELECT id, text, timestamp, expires_at, coalesce(likes, 0) AS likes, coalesce(views, 0) AS views,
       coalesce(reports, 0) AS reports, author_fp
FROM notes
"""

SELECT_NOTE = f"""{SELECT_NOTES}
WHERE id = %(note_id)s AND deleted_at IS NULL
  AND (expires_at IS NULL OR expires_at > timezone('utc', now()))
"""

SELECT_PAGE = f"""{SELECT_NOTES}
WHERE id < %(before_id)s AND deleted_at IS NULL
  AND (expires_at IS NULL OR expires_at > timezone('utc', now()))
ORDER BY id DESC LIMIT %(rows)s
"""


@dataclass(frozen=True)
class Page:
    """One page of notes, newest first; ``next_before_id`` is None on the last one."""

    items: list[dict[str, Any]]
    next_before_id: int | None


def create_note(service: Service, text: str, hours: int, author: str) -> dict[str, Any]:
    """Write a note that lives for some hours and return it."""
    parameters = {"text": text, "hours": hours, "author": author}
    row = service.transact("create", lambda: service.database.one(INSERT_NOTE, parameters))
    if row is None:
        raise AssertionError("INSERT … RETURNING gave no row")
    return as_json(row)


def find_note(service: Service, note_id: int) -> dict[str, Any]:
    """Return a note.

    :raises NotFoundError: when there is none, or it expired or was removed.
    """
    row = service.transact("read", lambda: service.database.one(SELECT_NOTE, {"note_id": note_id}))
    if row is None:
        raise NotFoundError
    return as_json(row)


def list_notes(service: Service, size: int, before_id: int | None) -> Page:
    """Return the notes before an id, newest first. One row too many is read, so that "more" is exact."""
    # The largest id is one below the first that does not exist, and ids are compared as bigint.
    parameters = {"before_id": LARGEST_ID + 1 if before_id is None else before_id, "rows": size + 1}
    rows = service.transact("list", lambda: service.database.all(SELECT_PAGE, parameters))
    items = [as_json(row) for row in rows[:size]]
    return Page(items, items[-1]["id"] if len(rows) > size else None)


def as_json(row: Row[Any]) -> dict[str, Any]:
    """Shape a note as clients know it: flat, naive UTC times in ISO 8601."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row._mapping.items()
    }


def read_text(given: object, longest: int) -> str:
    """Return a note's text, trimmed.

    :raises BadRequestError: ``text required``, or the code that says what is wrong with it.
    """
    if given is None:
        raise BadRequestError("text required")
    if not isinstance(given, str):
        raise BadRequestError("text_not_a_string")
    text = given.strip()
    if not text:
        raise BadRequestError("text required")
    if len(text) > longest:
        raise BadRequestError("text_too_long")
    if "\0" in text:
        raise BadRequestError("text_has_nul")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BadRequestError("text_not_unicode")
    return text


def read_hours(given: object) -> int:
    """Return how long a note lives, in hours: 1 to 168, and 24 for zero or nonsense."""
    try:
        hours = float(given) if isinstance(given, int | float | str) and not isinstance(given, bool) else 0.0
    except (ValueError, OverflowError):
        hours = 0.0
    if not math.isfinite(hours) or hours == 0:
        return DEFAULT_HOURS
    return int(min(max(hours, FEWEST_HOURS), MOST_HOURS))


def read_page_size(given: str | None) -> int:
    """Return how many notes a page holds: 1 to 100, and 20 for nonsense."""
    number = _whole(given)
    return DEFAULT_PAGE if number is None else min(max(number, 1), LARGEST_PAGE)


def read_before_id(given: str | None) -> int | None:
    """Return where a page starts, None for the newest; out of range means the nearest end."""
    number = _whole(given)
    return None if number is None else min(max(number, 0), LARGEST_ID + 1)


def _whole(given: str | None) -> int | None:
    try:
        return int(given[:20]) if given else None
    except ValueError:
        return None
