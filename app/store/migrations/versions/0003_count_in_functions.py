"""Count a view in a function, whose plan each connection of the pooler keeps: planning was half of the work.

A released function never changes. Another way to count is another function, so that the releases before
and after a migration each call their own.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

# Returns the note's views and whether this one is the first of its day; no views where no note is seen.
FUNCTION = """
CREATE OR REPLACE FUNCTION {name}(
    a_note integer, a_fingerprint text, OUT views integer, OUT is_first boolean
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH note AS (
        SELECT id, views FROM notes
        WHERE id = a_note AND deleted_at IS NULL
          AND (expires_at IS NULL OR expires_at > timezone('utc', now()))
    ), logged AS (
        INSERT INTO view_log (note_id, fingerprint, day, created_at)
        SELECT id, a_fingerprint, to_char(timezone('utc', now()), 'YYYY-MM-DD'), timezone('utc', now())
        FROM note
        ON CONFLICT (note_id, fingerprint, day) DO NOTHING
        RETURNING note_id
    ), {done} AS (
        {do}
    )
    SELECT {views}, EXISTS (SELECT FROM logged) INTO views, is_first FROM note;
END
$$
"""
COUNT_VIEW = FUNCTION.format(
    name="p12_count_view_1",
    done="counted",
    do="UPDATE notes SET views = notes.views + 1 FROM logged WHERE notes.id = logged.note_id "
    "RETURNING notes.views",
    views="coalesce((SELECT counted.views FROM counted), note.views)",
)
QUEUE_VIEW = FUNCTION.format(
    name="p12_queue_view_1",
    done="queued",
    do="INSERT INTO view_queue (note_id) SELECT note_id FROM logged RETURNING note_id",
    views="note.views + (SELECT count(*) FROM queued)",
)


def upgrade() -> None:
    op.execute(COUNT_VIEW)
    op.execute(QUEUE_VIEW)
