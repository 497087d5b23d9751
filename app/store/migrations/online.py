"""Changes of a table that visitors use: an index built beside them, a column filled in batches.

Both commit by themselves, so a migration with one of them does nothing else, and may be run again.
"""

import time
from contextlib import suppress

from alembic import context, op
from sqlalchemy.exc import DBAPIError

# Waits for others and makes nobody wait: the runner lets it wait for as long as it does itself.
MAY_WAIT = {"may_wait": True}
PARAMETERLESS = {"no_parameters": True}
BATCH_ROWS = 200


def index_concurrently(name: str, on: str, *, unique: bool = False) -> None:
    """Build an index while others write; ``on`` is ``table (columns)``.

    What an interrupted build leaves is invalid and costs every writer: it is taken away first, and at once
    when this build fails.
    """
    with op.get_context().autocommit_block():
        drop = f"DROP INDEX CONCURRENTLY IF EXISTS {name}"
        op.execute(drop, execution_options=MAY_WAIT)
        try:
            kind = "UNIQUE INDEX" if unique else "INDEX"
            op.execute(f"CREATE {kind} CONCURRENTLY {name} ON {on}", execution_options=MAY_WAIT)
        except DBAPIError:
            with suppress(DBAPIError):
                op.execute(drop)
            raise


def in_batches(table: str, assignments: str, todo: str, *, key: str = "id", rows: int = BATCH_ROWS) -> None:
    """Fill rows a batch at a time, each in a transaction of its own: ``UPDATE table SET … WHERE todo``.

    ``todo`` must be false for a row once it is filled: so it goes on where an earlier run stopped. ``key`` is
    a unique whole number; rows are locked in its order, as the worker does. It rests as long as it works.
    """
    if context.is_offline_mode():
        op.execute(_batch(table, assignments, todo, key, rows))
        return
    with op.get_context().autocommit_block():
        done: list[int] = []
        while True:
            started = time.monotonic()
            unseen = f"{key} > {done[-1]} AND ({todo})" if done else todo
            statement = f"{_batch(table, assignments, unseen, key, rows)} RETURNING {key}"
            filled = op.get_bind().exec_driver_sql(statement, execution_options=PARAMETERLESS)
            done = sorted(filled.scalars())
            if not done:
                return
            time.sleep(time.monotonic() - started)


def _batch(table: str, assignments: str, todo: str, key: str, rows: int) -> str:
    return (
        f"UPDATE {table} SET {assignments} WHERE {key} IN ("  # noqa: S608 - a migration's own words
        f"SELECT {key} FROM {table} WHERE {todo} ORDER BY {key} LIMIT {rows} FOR NO KEY UPDATE)"
    )
