"""Remove notes that have been gone for an hour, with their logs."""

from sqlalchemy import Connection

from app.database import Database

BATCH_NOTES = 500

# An hour, because a view that waited for the note while it vanished must have finished: it would leave
# a log row of a note that is no more. Queued views are counted first: a rollup locks them and then their
# note, so whoever holds the note must want nothing of the queue.
LOCK_GONE = """
SELECT id FROM notes
WHERE least(expires_at, deleted_at) < timezone('utc', now()) - interval '1 hour'
  AND NOT EXISTS (SELECT FROM view_queue WHERE view_queue.note_id = notes.id)
ORDER BY id LIMIT %(rows)s FOR UPDATE SKIP LOCKED
"""
DELETE_LOGS = (
    "DELETE FROM view_log WHERE note_id = ANY(%(notes)s)",
    "DELETE FROM like_log WHERE note_id = ANY(%(notes)s)",
    "DELETE FROM report_log WHERE note_id = ANY(%(notes)s)",
)
DELETE_NOTES = "DELETE FROM notes WHERE id = ANY(%(notes)s)"


def purge_batch(database: Database, rows: int = BATCH_NOTES) -> int:
    """Remove a batch of gone notes in one transaction; return how many.

    A note with a queued view stays until that is counted.
    """

    def work(connection: Connection) -> int:
        notes = list(connection.exec_driver_sql(LOCK_GONE, {"rows": rows}).scalars())
        if notes:
            for statement in (*DELETE_LOGS, DELETE_NOTES):
                connection.exec_driver_sql(statement, {"notes": notes})
        return len(notes)

    return database.transaction(work)
