"""Take over the tables of an older Paste12 as they are, or create them."""

from alembic import context, op

from app.store.migrations.adoption.stopping import obstacles
from app.store.migrations.online import index_concurrently
from app.store.migrations.tables import COLUMNS, UNIQUE, Existing, look

revision = "0001"
down_revision = None


def upgrade() -> None:
    if not context.is_offline_mode():
        for obstacle in obstacles(op.get_bind()):
            raise obstacle
    for table in COLUMNS:
        existing = _look(table)
        if existing.is_there:
            _add_missing_columns(existing)
        else:
            _create(table)
    # Room in each page keeps counter updates on it, without touching an index.
    op.execute("ALTER TABLE notes SET (fillfactor = 80)")
    for table in UNIQUE:
        if not _look(table).is_unique:
            # A half-built one of an earlier try is built anew.
            index_concurrently(f"{table}_once", f"{table} ({', '.join(UNIQUE[table])})", unique=True)


def _look(table: str) -> Existing:
    """Look at a table; where there is no database to look at, everything is still to be made."""
    return Existing(table) if context.is_offline_mode() else look(op.get_bind(), table)


def _create(table: str) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS[table].items())
    op.execute(f"CREATE TABLE {table} ({columns})")


def _add_missing_columns(existing: Existing) -> None:
    for name, kind in existing.missing_columns.items():
        op.execute(f"ALTER TABLE {existing.table} ADD COLUMN {name} {kind}")
