"""Count queued views: several workers may do so at once, and none waits for another."""

from sqlalchemy import Connection

from app.store.database import Database

BATCH_ROWS = 5000

TAKE_BATCH = """
WITH taken AS (
    DELETE FROM view_queue WHERE id IN (
        SELECT id FROM view_queue ORDER BY id LIMIT %(rows)s FOR UPDATE SKIP LOCKED
    ) RETURNING note_id
)
SELECT note_id, count(*) AS views FROM taken GROUP BY note_id
"""
# Always in the order of ids: two batches that update notes in different orders deadlock.
LOCK_NOTES = "SELECT id FROM notes WHERE id = ANY(%(notes)s) ORDER BY id FOR NO KEY UPDATE"
ADD_VIEWS = """
UPDATE notes SET views = coalesce(notes.views, 0) + counted.views
FROM unnest(%(notes)s, %(views)s) AS counted (note_id, views) WHERE notes.id = counted.note_id
"""


def count_batch(database: Database, rows: int = BATCH_ROWS) -> int:
    """Take a batch off the queue and add it to the notes, in one transaction.

    Views of notes that are gone by now are dropped. Return how many queued views were taken.
    """

    def work(connection: Connection) -> int:
        taken = connection.exec_driver_sql(TAKE_BATCH, {"rows": rows}).all()
        if taken:
            counted = {"notes": [row.note_id for row in taken], "views": [row.views for row in taken]}
            connection.exec_driver_sql(LOCK_NOTES, counted)
            connection.exec_driver_sql(ADD_VIEWS, counted)
        return sum(row.views for row in taken)

    return database.transaction(work)
