"""Count views, likes and reports: one statement, one round trip, exact under any concurrency.

Each count inserts into its log and updates the note only if that insert happened, in a single statement
in autocommit. ``SET LOCAL`` in the same simple query belongs to the same implicit transaction, so the
lock timeout holds, leaks nowhere, and costs no round trip, also through a transaction pooler. A view's
statement is kept in a function, so that it is planned once a connection, not once a view.
"""

import time
from dataclasses import dataclass
from typing import Any

from app.errors import NotFoundError
from app.flags import ADVISORY_LOCKS, Arm, FlagSet
from app.service import Service

LOCK_SPACE = 12  # Keeps our advisory locks apart from anyone else's in the same database.
LONGEST_REASON = 500

SET_LOCK_TIMEOUT = "SET LOCAL lock_timeout = %(lock_timeout_ms)s;\n"
TAKE_ADVISORY_LOCK = "SELECT pg_advisory_xact_lock(%(lock_space)s, %(note_id)s);\n"

COUNT_VIEW = "SELECT views, is_first FROM p12_count_view_2(%(note_id)s, %(fingerprint)s)"
QUEUE_VIEW = "SELECT views, is_first FROM p12_queue_view_2(%(note_id)s, %(fingerprint)s)"

VIEW_BY = {Arm.INLINE: COUNT_VIEW, Arm.ADVISORY: TAKE_ADVISORY_LOCK + COUNT_VIEW, Arm.QUEUE: QUEUE_VIEW}

COUNT_LIKE = """
WITH note AS (
    SELECT id, coalesce(likes, 0) AS likes FROM notes
    WHERE id = %(note_id)s AND deleted_at IS NULL
      AND (expires_at IS NULL OR expires_at > timezone('utc', now()))
), logged AS (
    INSERT INTO like_log (note_id, fingerprint, created_at)
    SELECT id, %(fingerprint)s, timezone('utc', now()) FROM note
    ON CONFLICT (note_id, fingerprint) DO NOTHING
    RETURNING note_id
), counted AS (
    UPDATE notes SET likes = coalesce(notes.likes, 0) + 1 FROM logged WHERE notes.id = logged.note_id
    RETURNING notes.likes
)
SELECT coalesce((SELECT likes FROM counted), note.likes) FROM note
"""

COUNT_REPORT = """
WITH note AS (
    SELECT id, coalesce(reports, 0) AS reports FROM notes
    WHERE id = %(note_id)s AND deleted_at IS NULL
      AND (expires_at IS NULL OR expires_at > timezone('utc', now()))
), logged AS (
    INSERT INTO report_log (note_id, fingerprint, reason, created_at)
    SELECT id, %(fingerprint)s, %(reason)s, timezone('utc', now()) FROM note
    ON CONFLICT (note_id, fingerprint) DO NOTHING
    RETURNING note_id
), counted AS (
    UPDATE notes
    SET reports = coalesce(notes.reports, 0) + 1,
        deleted_at = CASE WHEN coalesce(notes.reports, 0) + 1 >= %(threshold)s
                          THEN coalesce(notes.deleted_at, timezone('utc', now())) ELSE notes.deleted_at END
    FROM logged WHERE notes.id = logged.note_id
    RETURNING notes.reports, notes.deleted_at IS NOT NULL AS removed
)
SELECT coalesce((SELECT reports FROM counted), note.reports),
       coalesce((SELECT removed FROM counted), false) FROM note
"""


@dataclass(frozen=True)
class Reported:
    """A note's reports, and whether this one removed it."""

    reports: int
    removed: bool


def count_view(service: Service, flags: FlagSet, note_id: int, fingerprint: str) -> int:
    """Count a view once per note, fingerprint and UTC day; return the note's views.

    :raises NotFoundError: when there is no such note to see.
    :raises BusyError: when the note's lock could not be had in time.
    """
    arm = flags.arm(note_id)
    views, is_first = _run(
        service, "view", SET_LOCK_TIMEOUT + VIEW_BY[arm], note_id, arm, fingerprint=fingerprint
    )
    if is_first:
        service.metrics.count_view(arm)
    return int(views)


def count_like(service: Service, flags: FlagSet, note_id: int, fingerprint: str) -> int:
    """Count a like once per note and fingerprint; return the note's likes. Raises as ``count_view``."""
    sql = SET_LOCK_TIMEOUT + _guarded(COUNT_LIKE, flags, note_id)
    (likes,) = _run(service, "like", sql, note_id, fingerprint=fingerprint)
    return int(likes)


def count_report(service: Service, flags: FlagSet, note_id: int, fingerprint: str, reason: str) -> Reported:
    """Count a report once per note and fingerprint; enough remove the note. Raises as ``count_view``."""
    reports, removed = _run(
        service,
        "report",
        SET_LOCK_TIMEOUT + _guarded(COUNT_REPORT, flags, note_id),
        note_id,
        fingerprint=fingerprint,
        reason=reason[:LONGEST_REASON],
        threshold=service.settings.report_threshold,
    )
    return Reported(int(reports), bool(removed))


def _guarded(sql: str, flags: FlagSet, note_id: int) -> str:
    return TAKE_ADVISORY_LOCK + sql if flags.on(ADVISORY_LOCKS, note_id) else sql


def _run(
    service: Service, kind: str, sql: str, note_id: int, view_arm: Arm | None = None, **parameters: Any
) -> tuple[Any, ...]:
    bound = {
        "note_id": note_id,
        "lock_timeout_ms": service.settings.lock_timeout_ms,
        "lock_space": LOCK_SPACE,
        **parameters,
    }

    def transaction() -> Any:
        started = time.perf_counter()
        try:
            return service.database.one(sql, bound)
        finally:
            if view_arm:
                service.metrics.time_view(view_arm, time.perf_counter() - started)

    row = service.transact(kind, transaction)
    if row is None or row[0] is None:
        raise NotFoundError
    return tuple(row)
