"""Postgres's own programs: found in one directory, told where to connect by their environment."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2.extensions

from checks.database import parse
from checks.errors import CannotMeasure, Misused

# libpq takes all of these from the environment, so nothing of a DSN needs to be on a command line.
VARIABLES: Mapping[str, str] = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "application_name": "PGAPPNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
}
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "PGPASSFILE", "PGSSLROOTCERT")


@dataclass(frozen=True)
class Tools:
    """The programs in one ``bin`` directory. ``seconds`` is how long any of them may take."""

    bin_dir: Path = Path("/usr/lib/postgresql/15/bin")
    seconds: float = 3600.0

    def version(self) -> tuple[int, str]:
        """Return the major and the full version; raises Misused if a program is not there."""
        for name in ("pg_dump", "pg_restore", "initdb", "postgres"):
            if not os.access(self.bin_dir / name, os.X_OK):
                raise Misused(f"{self.bin_dir} has no {name}. Install Postgres, or set --bin-dir.")
        said = self.run("pg_dump", ["--version"], environment()).stdout
        found = re.search(r"(\d+)\.\S+", said)
        if not found:
            raise CannotMeasure(f"pg_dump --version said {said.strip()!r}. Set --bin-dir anew.")
        return int(found[1]), found[0]

    def run(
        self, name: str, arguments: Sequence[str | Path], variables: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; raises CannotMeasure with what it said if it did not succeed."""
        command = [str(self.bin_dir / name), *map(str, arguments)]
        try:
            done = subprocess.run(
                command,
                env=dict(variables),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CannotMeasure(f"{name} took more than {self.seconds:g} s and was stopped.") from None
        except OSError as error:
            raise CannotMeasure(f"{name} cannot be run: {error}.") from None
        if done.returncode:
            raise CannotMeasure(f"{name} failed: {ending(done.returncode, done.stderr)}")
        return done


def ending(status: int, stderr: str) -> str:
    """Say how a program ended, with the first error it named."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}."
    lines = [line for line in stderr.splitlines() if "error:" in line.lower()] or stderr.splitlines()
    return f"{lines[0].strip() if lines else 'it said nothing'} (exit {status})"


def environment(url: str = "", **more: str) -> dict[str, str]:
    """The environment of a program that connects to a DSN; raises Misused for a DSN it cannot carry."""
    made = {name: os.environ[name] for name in KEPT if name in os.environ}
    made |= {"LC_MESSAGES": "C", "PGAPPNAME": "p12 backup", "PGCONNECT_TIMEOUT": "10"}
    for name, value in parse(url).items():
        if name not in VARIABLES:
            raise Misused(f"DATABASE_URL has {name}=…, which cannot be handed on. Leave it out.")
        made[VARIABLES[name]] = str(value)
    return made | more


def for_database(url: str, dbname: str) -> str:
    """The same server and user, another database."""
    return str(psycopg2.extensions.make_dsn(**parse(url) | {"dbname": dbname}))
