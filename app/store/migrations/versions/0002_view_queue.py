"""Add the queue of views that are logged and not counted yet, and the index that finds expired notes."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        "CREATE TABLE view_queue ("
        "id bigserial PRIMARY KEY, note_id integer NOT NULL, queued_at timestamptz NOT NULL DEFAULT now())"
    )
    # A queue is emptied all the time: vacuum by its traffic, not by its size.
    op.execute(
        "ALTER TABLE view_queue SET ("
        "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, "
        "autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000)"
    )
