"""Postgres's own programs: found in one directory, told where to connect by their environment."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2.extensions

from checks.base.errors import CannotMeasure, Misused
from checks.base.pipeline import Program, run
from checks.base.postgres import parse
from checks.base.secrets import SECRET_PLACES

# libpq takes all of these from the environment, so nothing of a DSN needs to be on a command line.
NAMED_ALIKE = (
    *("host", "hostaddr", "port", "user", "password", "passfile", "service", "sslmode", "sslrootcert"),
    *("sslcert", "sslkey", "target_session_attrs", "channel_binding", "gssencmode"),
)
VARIABLES = {name: f"PG{name.replace('_', '').upper()}" for name in NAMED_ALIKE} | {
    **{"dbname": "PGDATABASE", "application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT"}
}
KEPT = ("PATH", "HOME", *SECRET_PLACES)


@dataclass(frozen=True)
class Tools:
    """The programs in one ``bin`` directory. ``seconds`` is how long any of them may take."""

    bin_dir: Path = Path("/usr/lib/postgresql/15/bin")
    seconds: float = 3600.0

    def version(self) -> tuple[int, str]:
        """Return the major and the full version; raises Misused if a program is not there."""
        for name in ("pg_dump", "pg_dumpall", "pg_restore", "initdb", "postgres"):
            if not os.access(self.bin_dir / name, os.X_OK):
                raise Misused(f"{self.bin_dir} has no {name}. Install Postgres, or set --bin-dir.")
        said = self.run("pg_dump", ["--version"], environment())
        found = re.search(r"(\d+)\.\S+", said)
        if not found:
            raise CannotMeasure(f"pg_dump --version said {said.strip()!r}. Set --bin-dir anew.")
        return int(found[1]), found[0]

    def program(self, name: str, arguments: Sequence[str | Path], variables: Mapping[str, str]) -> Program:
        """One of the programs, with its arguments, to be run alone or in a pipe."""
        return Program([str(self.bin_dir / name), *map(str, arguments)], variables)

    def run(self, name: str, arguments: Sequence[str | Path], variables: Mapping[str, str]) -> str:
        """Run a program to its end and return what it wrote; raises CannotMeasure if it did not succeed."""
        return run([self.program(name, arguments, variables)], self.seconds)


def environment(url: str = "", **more: str) -> dict[str, str]:
    """The environment of a program that connects to a DSN; raises Misused for a DSN it cannot carry."""
    made = {name: os.environ[name] for name in KEPT if name in os.environ}
    made |= {"LC_ALL": "C.UTF-8", "PGAPPNAME": "p12 backup", "PGCONNECT_TIMEOUT": "10"}
    for name, value in parse(url).items():
        if name not in VARIABLES:
            raise Misused(f"DATABASE_URL has {name}=…, which cannot be handed on. Leave it out.")
        made[VARIABLES[name]] = str(value)
    return made | more


def for_database(url: str, dbname: str) -> str:
    """The same server and user, another database."""
    return str(psycopg2.extensions.make_dsn(**parse(url) | {"dbname": dbname}))
