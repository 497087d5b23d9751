"""Count from 0 where an older Paste12 left a counter without a value: new functions, and defaults.

The functions of 0003 stay as they are, since the release before calls them.
"""

from alembic import context, op

from app.store.migrations.tables import COLUMNS, look

revision = "0004"
down_revision = "0003"

COUNTERS = ("likes", "views", "reports")
# Returns the note's views and whether this one is the first of its day; no views where no note is seen.
FUNCTION = """
CREATE OR REPLACE FUNCTION {name}(
    a_note integer, a_fingerprint text, OUT views integer, OUT is_first boolean
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH note AS (
        SELECT id, coalesce(views, 0) AS views FROM notes
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
    name="p12_count_view_2",
    done="counted",
    do="UPDATE notes SET views = coalesce(notes.views, 0) + 1 FROM logged WHERE notes.id = logged.note_id "
    "RETURNING notes.views",
    views="coalesce((SELECT counted.views FROM counted), note.views)",
)
QUEUE_VIEW = FUNCTION.format(
    name="p12_queue_view_2",
    done="queued",
    do="INSERT INTO view_queue (note_id) SELECT note_id FROM logged RETURNING note_id",
    views="note.views + (SELECT count(*) FROM queued)",
)


def upgrade() -> None:
    op.execute(COUNT_VIEW)
    op.execute(QUEUE_VIEW)
    # A default is written down and changes no row; the tables of 0001 have theirs.
    defaulted = COLUMNS["notes"] if context.is_offline_mode() else look(op.get_bind(), "notes").defaulted
    if missing := [name for name in COUNTERS if name not in defaulted]:
        defaults = ", ".join(f"ALTER COLUMN {name} SET DEFAULT 0" for name in missing)
        op.execute(f"ALTER TABLE notes {defaults}")
