"""The process's one Engine: created at first use, so after any fork, and impossible to have twice."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from psycopg2 import Error as DriverError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, Row
from sqlalchemy.pool import QueuePool

from app.settings import Settings

SLOWEST_CONNECT_SECONDS = 5
SET_TRANSACTION_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"


class SecondEngineError(RuntimeError):
    """A process tried to have two Engines, or to use one that another process opened."""


class Database:
    """The way to Postgres; every statement is its own transaction unless ``transaction`` says otherwise.

    ``on_sqlstate`` is called with each SQLSTATE the database raises, also those that are retried away, and
    ``on_checkout`` with the seconds that each statement waited for its connection.
    """

    _in_this_process: ClassVar["Database | None"] = None

    def __init__(
        self,
        settings: Settings,
        on_sqlstate: Callable[[str], None] = lambda _: None,
        on_checkout: Callable[[float], None] = lambda _: None,
    ) -> None:
        if Database._in_this_process is not None:
            raise SecondEngineError("This process has its Engine already. Use that one, or close it first.")
        Database._in_this_process = self
        self._settings = settings
        self._on_sqlstate = on_sqlstate
        self._on_checkout = on_checkout
        self._engine: Engine | None = None
        self._owner = 0
        self._opening = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The Engine, opened on first use.

        :raises SecondEngineError: in a process forked after the Engine was opened.
        """
        with self._opening:
            if self._engine is None:
                self._engine = self._open()
                self._owner = os.getpid()
        if self._owner != os.getpid():
            raise SecondEngineError(
                "The Engine was opened before the fork; its connections are the parent's."
            )
        return self._engine

    def one(self, sql: str, parameters: Mapping[str, Any]) -> Row[Any] | None:
        """Run one simple query, which may hold several statements, and return the last one's first row."""
        with self._checkout() as connection:
            return connection.exec_driver_sql(sql, dict(parameters)).first()

    def all(self, sql: str, parameters: Mapping[str, Any]) -> list[Row[Any]]:
        """Run one query and return its rows."""
        with self._checkout() as connection:
            return list(connection.exec_driver_sql(sql, dict(parameters)))

    def transaction(self, work: Callable[[Connection], int]) -> int:
        """Run several statements as one transaction, committed when ``work`` returns."""
        with (
            self.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
            connection.begin(),
        ):
            connection.exec_driver_sql(SET_TRANSACTION_LOCK_TIMEOUT)
            return work(connection)

    def pool_status(self) -> dict[str, int]:
        """Say how many connections this process holds and how many of them are in use."""
        pool = self.engine.pool
        if not isinstance(pool, QueuePool):
            return {}
        return {
            "pool_size": pool.size(),
            "pool_open": pool.checkedin() + pool.checkedout(),
            "pool_in_use": pool.checkedout(),
        }

    def in_use(self) -> int | None:
        """How many connections are given out; None before the Engine was opened."""
        return self.pool_status().get("pool_in_use") if self._engine is not None else None

    def close(self) -> None:
        """Give the connections back; another Database may be made after this."""
        if self._engine is not None:
            self._engine.dispose()
        self._engine = None
        Database._in_this_process = None

    def _checkout(self) -> Connection:
        started = time.perf_counter()
        try:
            return self.engine.connect()
        finally:
            self._on_checkout(time.perf_counter() - started)

    def _open(self) -> Engine:
        settings = self._settings
        engine = create_engine(
            settings.database_url,
            isolation_level="AUTOCOMMIT",
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.pool_timeout,
            pool_recycle=settings.pool_recycle,
            pool_pre_ping=True,
            pool_use_lifo=True,
            # What people write and who they are stays out of logs.
            hide_parameters=True,
            # psycopg2 asks each new connection for hstore otherwise: a query the service has no use for.
            use_native_hstore=False,
            connect_args={
                "connect_timeout": SLOWEST_CONNECT_SECONDS,
                "application_name": f"paste12-{settings.instance}",
                "keepalives_idle": 30,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
        )
        event.listen(engine, "handle_error", self._count_error)
        return engine

    def _count_error(self, context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, DriverError):
            self._on_sqlstate(error.pgcode or "none")
