"""Count a view in a function, whose plan each connection of the pooler keeps: planning was half of the work.

A released function never changes. Another way to count is another function, so that the releases before
and after a migration each call their own.
"""

from alembic import op

from app.store.migrations.view_functions import count_view, queue_view

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(count_view("p12_count_view_1", "notes.views"))
    op.execute(queue_view("p12_queue_view_1", "notes.views"))
