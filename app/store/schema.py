"""Which schema this release knows, and which one the database has."""

from sqlalchemy.exc import ProgrammingError

from app.errors import BusyError, UnavailableError
from app.service import Service

HEAD = "0004"

SELECT_REVISION = "SELECT version_num FROM alembic_version"


def database_revision(service: Service) -> str | None:
    """Return the database's schema revision, None when it has none or cannot be asked."""
    try:
        row = service.retry.run(lambda: service.database.one(SELECT_REVISION, {}))
    except (BusyError, UnavailableError, ProgrammingError):
        return None
    return str(row[0]) if row else None


def is_served(revision: str | None) -> bool:
    """Say whether this release runs on that schema: its own or a newer one, as migrations only expand."""
    return revision is not None and revision >= HEAD
