"""Remove notes that have been gone for long: first their logs, a chunk at a time, then themselves."""

from sqlalchemy import Connection

from app.store.database import Database

BATCH_NOTES = 500
# Few enough for the statement timeout also where each row is a page that has to come from a slow disk.
CHUNK_ROWS = 1000

GONE = "least(expires_at, deleted_at) < timezone('utc', now()) - make_interval(days => %(days)s)"
# Days are long enough for a view that waited for the note while it vanished: unfinished, it would leave a
# log row of a note that is no more. Queued views are counted first: a rollup locks them and then their
# note, so whoever locks a note must want nothing of the queue.
SELECT_GONE = f"""
SELECT id FROM notes
WHERE {GONE}
  AND NOT EXISTS (SELECT FROM view_queue WHERE view_queue.note_id = notes.id)
ORDER BY id LIMIT %(notes)s
"""  # noqa: S608 - its own words
# The statistics still tell of the rows that are deleted already. Believing them, the planner would read a
# whole log, or gather all rows of a note, to find one chunk.
SET_CHUNKED = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"
# Several workers purge at once; what another one holds is left to it.
DELETE_CHUNK = """
DELETE FROM {log} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {log} WHERE note_id = ANY(%(notes)s) LIMIT %(rows)s FOR UPDATE SKIP LOCKED
))
"""
DELETE_NOTES = """
DELETE FROM notes WHERE id = ANY(ARRAY(
    SELECT id FROM notes WHERE id = ANY(%(notes)s)
      AND NOT EXISTS (SELECT FROM view_log WHERE view_log.note_id = notes.id)
      AND NOT EXISTS (SELECT FROM like_log WHERE like_log.note_id = notes.id)
      AND NOT EXISTS (SELECT FROM report_log WHERE report_log.note_id = notes.id)
    ORDER BY id FOR UPDATE SKIP LOCKED
))
"""
STATEMENTS = (*(DELETE_CHUNK.format(log=log) for log in ("view_log", "like_log", "report_log")), DELETE_NOTES)


def purge_batch(database: Database, days: int, rows: int = CHUNK_ROWS) -> int:
    """Remove at most ``rows`` of each log of some notes gone for ``days``, and those that have none left.

    Each chunk is a transaction of its own, so what was removed stays removed if the next one fails. A note
    with a queued view stays until that is counted. Return how many rows went; 0 when all is done, or what
    is left is in another worker's hands.
    """
    gone = [row.id for row in database.all(SELECT_GONE, {"notes": BATCH_NOTES, "days": days})]
    if not gone:
        return 0
    parameters = {"notes": gone, "rows": rows}
    return sum(_delete(database, statement, parameters) for statement in STATEMENTS)


def _delete(database: Database, statement: str, parameters: dict[str, object]) -> int:
    def work(connection: Connection) -> int:
        connection.exec_driver_sql(SET_CHUNKED)
        return connection.exec_driver_sql(statement, parameters).rowcount

    return database.transaction(work)
