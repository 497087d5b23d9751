"""The functions that count a view. Released ones never change: what differs in the next one is given."""

# Returns the note's views and whether this one is the first of its day; no views where no note is seen.
FUNCTION = """
CREATE OR REPLACE FUNCTION {name}(
    a_note integer, a_fingerprint text, OUT views integer, OUT is_first boolean
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH note AS (
        SELECT id, {views} AS views FROM notes
        WHERE id = a_note AND deleted_at IS NULL
          AND (expires_at IS NULL OR expires_at > timezone('utc', now()))
    ), logged AS (
        INSERT INTO view_log (note_id, fingerprint, day, created_at)
        SELECT id, a_fingerprint, to_char(timezone('utc', now()), 'YYYY-MM-DD'), timezone('utc', now())
        FROM note
        ON CONFLICT (note_id, fingerprint, day) DO NOTHING
        RETURNING note_id
    ), done AS (
        {do}
    )
    SELECT {seen}, EXISTS (SELECT FROM logged) INTO views, is_first FROM note;
END
$$
"""


def count_view(name: str, views: str) -> str:
    """Return the function that counts at once; ``views`` is what a note's views are read as."""
    counted = "FROM logged WHERE notes.id = logged.note_id RETURNING notes.views"
    do = f"UPDATE notes SET views = {views} + 1 {counted}"  # noqa: S608 - a migration's own words
    seen = "coalesce((SELECT done.views FROM done), note.views)"
    return FUNCTION.format(name=name, views=views, do=do, seen=seen)


def queue_view(name: str, views: str) -> str:
    """Return the function that leaves the counting to the worker."""
    do = "INSERT INTO view_queue (note_id) SELECT note_id FROM logged RETURNING note_id"
    return FUNCTION.format(name=name, views=views, do=do, seen="note.views + (SELECT count(*) FROM done)")
