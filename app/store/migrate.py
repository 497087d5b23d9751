"""Move the schema forward: ``python -m app.migrate upgrade|current|check``, with JSON as the answer.

``DATABASE_URL`` must lead straight to Postgres, past any pooler. Exit statuses: 0 done, 1 not, 2 usage.
"""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from app.store.migrations.adoption import AdoptionError, obstacles
from app.values import BadValueError, postgres_url

MIGRATIONS = Path(__file__).with_name("migrations")

# What the release before could miss, or what takes rows away. Indexes hold no rows.
DESTRUCTIVE = re.compile(
    r"\b(DROP\s+(?!INDEX\b)\w+(\s+\w+)?|TRUNCATE\b|DELETE\s+FROM\b|RENAME\b|"
    r"ALTER\s+COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE\b|SET\s+NOT\s+NULL\b|SET\s+SCHEMA\b|"
    r"ADD\s+COLUMN\s+\w+\s+(?!.*\bDEFAULT\b)[^;,]*\bNOT\s+NULL\b)",
    re.IGNORECASE,
)

Answer = Mapping[str, Any]


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    verbs: Mapping[str, Callable[[], tuple[Answer, bool]]] = {
        "upgrade": lambda: _connected(environ, upgrade),
        "current": lambda: _connected(environ, current),
        "check": check,
    }
    if len(arguments) != 1 or arguments[0] not in verbs:
        print(f"usage: python -m app.migrate {'|'.join(verbs)}", file=sys.stderr)
        return 2
    answer, is_done = verbs[arguments[0]]()
    print(json.dumps(answer))
    return 0 if is_done else 1


def upgrade(connection: Connection) -> Answer:
    """Run every migration that is missing.

    :raises AdoptionError: before anything changed, when an old database cannot be taken over.
    """
    before = _revision(connection)
    configuration = _configuration()
    configuration.attributes["connection"] = connection
    if not _is_ahead(before):
        command.upgrade(configuration, "head")
    after = _revision(connection)
    return {"before": before, "after": after, "changed": before != after}


def current(connection: Connection) -> Answer:
    """Return the database's revision, this release's, and what stands in the way of a first upgrade."""
    revision = _revision(connection)
    in_the_way = [] if revision else [{"error": str(o), "hint": o.hint} for o in obstacles(connection)]
    return {"revision": revision, "head": _scripts().get_current_head(), "obstacles": in_the_way}


def check() -> tuple[Answer, bool]:
    """Read all migrations without a database and name each statement that takes something away."""
    scripts = _scripts()
    destructive = [
        f"{script.revision}: {found}"
        for script in reversed(list(scripts.walk_revisions()))
        for found in destructive_statements(_sql_of(script.revision, str(script.down_revision or "base")))
    ]
    return {
        "ok": not destructive,
        "head": scripts.get_current_head(),
        "destructive": destructive,
    }, not destructive


def destructive_statements(sql: str) -> list[str]:
    """Return the statements, shortened to what makes them so, that do not just expand a schema."""
    without_comments = re.sub(r"--[^\n]*", "", sql)
    return [" ".join(found[0].split()) for found in DESTRUCTIVE.finditer(without_comments)]


def _connected(environ: Mapping[str, str], act: Callable[[Connection], Answer]) -> tuple[Answer, bool]:
    try:
        # A process of its own that lives for one command: the service's Engine is not in it.
        engine = create_engine(postgres_url(environ.get("DATABASE_URL", "")), poolclass=NullPool)
        with engine.connect() as connection:
            return act(connection), True
    except BadValueError as error:
        return {"error": "DATABASE_URL is not an accepted value", "hint": str(error)}, False
    except AdoptionError as error:
        return {"error": str(error), "hint": error.hint}, False
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip()
        return {
            "error": cause,
            "hint": "What was done is found again: run this again once the cause is gone.",
        }, False


def _configuration(output: io.StringIO | None = None) -> Config:
    configuration = Config(output_buffer=output) if output else Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    configuration.set_main_option("path_separator", "os")
    return configuration


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_configuration())


def _sql_of(revision: str, before: str) -> str:
    output = io.StringIO()
    command.upgrade(_configuration(output), f"{before}:{revision}", sql=True)
    # The bookkeeping around a migration is Alembic's, not the migration's.
    return re.sub(
        r"^(CREATE TABLE|INSERT INTO|UPDATE) alembic_version.*?;", "", output.getvalue(), flags=re.S | re.M
    )


def _revision(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()  # Alembic manages transactions only on a connection that is in none.
    return revision


def _is_ahead(revision: str | None) -> bool:
    """Say whether a newer release has migrated already; its schema serves this one too."""
    return revision is not None and revision > str(_scripts().get_current_head())
