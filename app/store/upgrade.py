"""Run each missing migration until it has its locks: for a while, and never in the visitors' way.

A statement that waits for a lock makes everybody behind it wait. So each waits for less than a request of the
service does; then the migration gives up, lets the visitors pass, and is tried again as a whole.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from app.store.lock_holders import Holder, LockWatch, told
from app.store.migrations.adoption.obstacle import AdoptionError
from app.store.migrations.adoption.strangers import other_revision
from app.store.retry import CONTENTION, sqlstate

MIGRATIONS = Path(__file__).with_name("migrations")
# Below the lock timeout of the service's requests, 250 ms: what queues behind a migration still gets through.
LOCK_TIMEOUT_SECONDS = 0.2
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 5.0
UNFINISHED = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"


class LockedOutError(RuntimeError):
    """A migration that did not get its locks in time, who has them, and what to do."""

    def __init__(self, error: str, holders: tuple[Holder, ...]) -> None:
        super().__init__(error)
        self.holders = holders
        pid = next((holder.pid for holder in holders if holder.pid), None)
        ending = f", or end it: SELECT pg_terminate_backend({pid})" if pid else ""
        self.hint = f"wait until that has ended{ending}; then run this again"


@dataclass(frozen=True)
class Patience:
    """How long all migrations of a run may wait for locks, and whom to tell of each try that failed."""

    seconds: float
    say: Callable[[str], None]
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def upgrade(engine: Engine, watching: Engine, patience: Patience) -> Mapping[str, Any]:
    """Run every migration that is missing, each in a transaction and with a revision of its own.

    ``engine`` is for this alone; ``watching`` leads to the same database, as a role that may see what others
    do where there is one. A newer release's schema is left as it is, for it serves this one too.

    :raises AdoptionError: before anything changed, when an old database cannot be taken over.
    :raises LockedOutError: when the time is up; the migrations before that one are done, and it is not.
    """
    deadline = patience.monotonic() + patience.seconds
    event.listen(
        engine, "before_cursor_execute", partial(_bound_wait, lambda: deadline - patience.monotonic())
    )
    for stranger in _on_its_own(engine, lambda connection: list(other_revision(connection))):
        raise AdoptionError(stranger.error, stranger.hint)
    before = _on_its_own(engine, revision_of)
    waited: list[str] = []
    with LockWatch(watching) as watch:
        for revision in _missing(before):
            waited += _insist(engine, revision, watch, patience, deadline)
    after = _on_its_own(engine, revision_of)
    answer = {"before": before, "after": after, "changed": before != after}
    return {**answer, "waited_for": waited} if waited else answer


def _insist(
    engine: Engine, revision: str, watch: LockWatch, patience: Patience, deadline: float
) -> Iterator[str]:
    """Try one migration until it is done; give what each try waited for in vain."""
    pause = FIRST_PAUSE_SECONDS
    while not _try(engine, revision, watch):
        left = deadline - patience.monotonic()
        if left < pause:
            raise _locked_out(engine, revision, watch, patience.seconds)
        waits = f"{revision} waits: {told(watch.holders)}"
        patience.say(f"{waits}. Trying again in {pause:g} s, for {left:.0f} s more.")
        yield waits
        patience.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _try(engine: Engine, revision: str, watch: LockWatch) -> bool:
    """Run one migration, or leave nothing of it where somebody is in the way."""
    # A connection of its own: what a migration sets for its session ends with it.
    with engine.connect() as connection:
        scripts = configuration()
        scripts.attributes["connection"] = connection
        watch.watch(connection.connection.dbapi_connection.info.backend_pid)  # type: ignore[union-attr]
        try:
            command.upgrade(scripts, revision)
        except DBAPIError as error:
            if sqlstate(error) in CONTENTION:
                return False
            raise
    return True


def _bound_wait(
    left: Callable[[], float],
    _: Connection,
    cursor: Any,
    _statement: str,
    _values: Any,
    about: Any,
    _many: bool,
) -> None:
    """Before each statement: bound its wait for locks, whatever a migration set."""
    may_wait = about.execution_options.get("may_wait", False)
    seconds = max(left(), LOCK_TIMEOUT_SECONDS) if may_wait else LOCK_TIMEOUT_SECONDS
    cursor.execute(f"SET lock_timeout = {seconds * 1000:.0f}")


def _locked_out(engine: Engine, revision: str, watch: LockWatch, seconds: float) -> LockedOutError:
    at = _on_its_own(engine, revision_of)
    unfinished = _on_its_own(
        engine, lambda connection: connection.exec_driver_sql(UNFINISHED).scalars().all()
    )
    left = f"; the next run takes away what is unfinished: {', '.join(unfinished)}" if unfinished else ""
    return LockedOutError(
        f"{revision} did not get its lock within {seconds:g} s: {told(watch.holders)}. "
        f"The schema stays at {at or 'none'}{left}",
        watch.holders,
    )


def configuration() -> Config:
    """Return what Alembic has to know."""
    found = Config()
    found.set_main_option("script_location", str(MIGRATIONS))
    found.set_main_option("path_separator", "os")
    return found


def all_scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(configuration())


def revision_of(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _missing(before: str | None) -> list[str]:
    """Return the revisions to run, in order; none where a newer release has migrated already."""
    scripts = all_scripts()
    if before is not None and before > str(scripts.get_current_head()):
        return []
    return [script.revision for script in scripts.iterate_revisions("head", before or "base")][::-1]


def _on_its_own(engine: Engine, ask: Callable[[Connection], Any]) -> Any:
    with engine.connect() as connection:
        return ask(connection)
