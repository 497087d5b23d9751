"""Find the servers a local site runs, and have Debian install the ones that are missing.

Standard library only. As a program, with [--install] [--need PROGRAM …], it prints what was found
as JSON and exits 0 when nothing is missing, else 1.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rollout.errors import RolloutError
from rollout.host import apt

POSTGRES_PROGRAMS = ("postgres", "initdb", "pg_ctl", "pg_dump", "pg_restore", "psql")
PACKAGES: Mapping[str, str] = dict.fromkeys(POSTGRES_PROGRAMS, "postgresql") | {
    "pgbouncer": "pgbouncer",
    "redis-server": "redis-server",
    "haproxy": "haproxy",
}
PROGRAMS = tuple(PACKAGES)
# Only where the inventory asks for what they do.
EXTRAS: Mapping[str, str] = {"age": "age"}
POSTGRES_HOME = Path("/usr/lib/postgresql")
# Debian keeps servers out of an ordinary user's PATH.
SBIN = ("/usr/sbin", "/usr/local/sbin")


@dataclass(frozen=True)
class Servers:
    """Where each program is. The six of Postgres always come from one directory, so their versions agree."""

    paths: Mapping[str, Path]

    def missing(self, needed: Iterable[str] = PROGRAMS) -> tuple[str, ...]:
        """Return the needed programs that were not found, in the order of ``PROGRAMS``."""
        wanted = set(needed)
        return tuple(name for name in (*PROGRAMS, *EXTRAS) if name in wanted and name not in self.paths)

    def path(self, program: str) -> Path:
        """Return where ``program`` is; raise ``RolloutError`` naming it when it was not found."""
        if program not in self.paths:
            raise RolloutError(f"{program} is not installed here.", apt.command_to_type([_package(program)]))
        return self.paths[program]

    @property
    def postgres_bin(self) -> Path:
        """The directory that holds all six programs of Postgres; raises like ``path``."""
        return self.path("postgres").parent


def find(
    search_path: str | None = None, postgres_home: Path = POSTGRES_HOME, sbin: Iterable[str] = SBIN
) -> Servers:
    """Look on ``PATH``, then where Debian puts servers: the newest Postgres, and the sbin directories."""
    on_path = os.environ.get("PATH", os.defpath) if search_path is None else search_path
    places = os.pathsep.join([on_path, *sbin])
    alone = [name for name in (*PROGRAMS, *EXTRAS) if name not in POSTGRES_PROGRAMS]
    found = {name: shutil.which(name, path=places) for name in alone}
    paths = {name: Path(where) for name, where in found.items() if where}
    home = _postgres_bin(on_path, postgres_home)
    return Servers(paths | ({name: home / name for name in POSTGRES_PROGRAMS} if home else {}))


def install(missing: Iterable[str]) -> Servers:
    """Install the packages of these programs and return what is there then.

    The services that come with them are neither started nor enabled, and no cluster is created. Raises
    ``RolloutError`` with the one command to type where neither root nor sudo is to be had, with apt's own
    words when it fails, and when a program is still missing afterwards.
    """
    wanted = tuple(missing)
    apt.install(sorted({_package(name) for name in wanted}), wanted_for=wanted)
    servers = find()
    absent = servers.missing(wanted)
    if absent:
        raise RolloutError(f"apt installed the packages, but {', '.join(absent)} cannot be found.")
    return servers


def ensure(needed: Iterable[str] = PROGRAMS) -> Servers:
    """Find the needed programs, installing what is missing; raises like ``install``."""
    servers, needed = find(), tuple(needed)
    missing = servers.missing(needed)
    return install(missing) if missing else servers


def _package(program: str) -> str:
    return {**PACKAGES, **EXTRAS}[program]


def _postgres_bin(search_path: str, postgres_home: Path) -> Path | None:
    """Return the first directory with all six: Debian's wrappers on PATH have only the client programs."""
    numbered = [d for d in postgres_home.glob("*/bin") if d.parent.name.replace(".", "", 1).isdigit()]
    newest_first = sorted(numbered, key=lambda d: float(d.parent.name), reverse=True)
    for directory in [*(Path(d) for d in search_path.split(os.pathsep) if d), *newest_first]:
        if all(shutil.which(name, path=str(directory)) for name in POSTGRES_PROGRAMS):
            return directory
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m rollout.host.installed_servers", description=__doc__)
    parser.add_argument("--install", action="store_true", help="install what is missing")
    parser.add_argument("--need", nargs="+", choices=PROGRAMS, default=PROGRAMS, help="look for these only")
    parser.add_argument("--also", action="append", choices=tuple(EXTRAS), default=[], help="look for it too")
    options = parser.parse_args(arguments)
    needed = (*options.need, *options.also)
    try:
        servers = ensure(needed) if options.install else find()
    except RolloutError as error:
        sys.stderr.write(f"{error} {error.hint}".rstrip() + "\n")
        return 1
    missing = servers.missing(needed)
    answer = asdict(servers) | {"missing": missing}
    sys.stdout.write(json.dumps(answer, indent=2, default=str) + "\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
