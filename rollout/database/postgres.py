"""The Postgres of a target on its database host: where it is, and how its superuser gets in."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from rollout.errors import RolloutError
from rollout.target.target import Target


@dataclass(frozen=True)
class Cluster:
    """A Postgres that somebody keeps running: its data directory, and how its superuser gets in."""

    data: Path
    dsn: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, target: Target) -> "Cluster":
        target.refuse_elsewhere()
        settings = target.settings
        place = {"host": settings["postgres_socket_directory"], "port": settings["postgres_port"]}
        return cls(target.directory / "postgres", {**place, "dbname": "postgres"})

    @contextmanager
    def cursor(self, dbname: str = "") -> Iterator[Any]:
        """A cursor in autocommit, straight to the server.

        :raises RolloutError: it does not answer, or refuses what it is asked.
        """
        try:
            dsn = {**self.dsn, **({"dbname": dbname} if dbname else {})}
            with closing(psycopg2.connect(**dsn, connect_timeout=3)) as connection:
                connection.autocommit = True
                yield connection.cursor()
        except psycopg2.Error as error:
            reason = str(error).strip().partition("\n")[0]
            raise RolloutError(f"Postgres: {reason}", "See its log, and ./p12 provision") from error

    def answers(self) -> bool:
        try:
            with self.cursor():
                return True
        except RolloutError:
            return False

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])
