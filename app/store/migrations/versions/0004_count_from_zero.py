"""Count from 0 where an older Paste12 left a counter without a value: new functions, and defaults.

The functions of 0003 stay as they are, since the release before calls them.
"""

from alembic import context, op

from app.store.migrations.tables import COLUMNS, look
from app.store.migrations.view_functions import count_view, queue_view

revision = "0004"
down_revision = "0003"

COUNTERS = ("likes", "views", "reports")


def upgrade() -> None:
    op.execute(count_view("p12_count_view_2", "coalesce(notes.views, 0)"))
    op.execute(queue_view("p12_queue_view_2", "coalesce(notes.views, 0)"))
    # A default is written down and changes no row; the tables of 0001 have theirs.
    defaulted = COLUMNS["notes"] if context.is_offline_mode() else look(op.get_bind(), "notes").defaulted
    if missing := [name for name in COUNTERS if name not in defaulted]:
        defaults = ", ".join(f"ALTER COLUMN {name} SET DEFAULT 0" for name in missing)
        op.execute(f"ALTER TABLE notes {defaults}")
