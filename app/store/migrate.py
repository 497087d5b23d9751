"""Move the schema forward: ``python -m app.migrate upgrade|current|look``, with JSON as the answer.

``DATABASE_URL`` must lead straight to Postgres, past any pooler. ``P12_MIGRATION_SECONDS`` (60) is how long
migrations wait for locks in all; ``P12_MONITOR_URL`` leads to the same database as a role that may see what
others do there. Each wait is told on stderr. ``look`` only reads, and tells all that stands in the way of
taking over what is there. Exit statuses: 0 done, 1 not, 2 usage.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from psycopg2 import Error as DriverError
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from app.settings import SETTINGS, SettingsError
from app.store.migrations.adoption.look import look
from app.store.migrations.adoption.obstacle import AdoptionError
from app.store.migrations.adoption.stopping import obstacles
from app.store.upgrade import LockedOutError, Patience, all_scripts, revision_of, upgrade
from app.values import BadValueError, Reader, postgres_url, seconds

LONGEST_SECONDS = 86400

Answer = Mapping[str, Any]


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    verbs: Mapping[str, Callable[[], tuple[Answer, bool]]] = {
        "upgrade": lambda: _answered(lambda: _upgraded(environ)),
        "current": lambda: _answered(lambda: _current(environ)),
        "look": lambda: _answered(lambda: _looked(environ)),
    }
    if len(arguments) != 1 or arguments[0] not in verbs:
        print(f"usage: python -m app.migrate {'|'.join(verbs)}", file=sys.stderr)
        return 2
    answer, is_done = verbs[arguments[0]]()
    print(json.dumps(answer, ensure_ascii=False))
    return 0 if is_done else 1


def current(connection: Connection) -> Answer:
    """Return the database's revision, this release's, and what stands in the way of a first upgrade."""
    revision = revision_of(connection)
    in_the_way = [] if revision else [{"error": str(o), "hint": o.hint} for o in obstacles(connection)]
    return {"revision": revision, "head": all_scripts().get_current_head(), "obstacles": in_the_way}


def _upgraded(environ: Mapping[str, str]) -> Answer:
    longest = _read(environ, "P12_MIGRATION_SECONDS", seconds(0, LONGEST_SECONDS), "60")
    patience = Patience(longest, lambda line: print(line, file=sys.stderr, flush=True))
    return upgrade(_engine(environ, "DATABASE_URL"), _engine(environ, "P12_MONITOR_URL"), patience)


def _current(environ: Mapping[str, str]) -> Answer:
    with _engine(environ, "DATABASE_URL").connect() as connection:
        return current(connection)


def _looked(environ: Mapping[str, str]) -> Answer:
    days = SETTINGS["purge_after_days"].value(environ)
    return {"head": all_scripts().get_current_head(), **look(_engine(environ, "DATABASE_URL"), days)}


def _engine(environ: Mapping[str, str], name: str) -> Engine:
    """Return an Engine of this process, which lives for one command: the service's is not in it."""
    url = _read(environ, name, postgres_url, environ.get("DATABASE_URL", ""))
    level = "AUTOCOMMIT" if name == "P12_MONITOR_URL" else "READ COMMITTED"
    return create_engine(url, poolclass=NullPool, isolation_level=level, use_native_hstore=False)


def _read(environ: Mapping[str, str], name: str, read: Reader, default: str) -> Any:
    try:
        return read(environ.get(name) or default)
    except BadValueError as error:
        raise BadValueError(f"{name} is not an accepted value", str(error)) from None


def _answered(act: Callable[[], Answer]) -> tuple[Answer, bool]:
    try:
        return act(), True
    except BadValueError as error:
        return {"error": error.args[0], "hint": error.args[1]}, False
    except SettingsError as error:
        return {"error": str(error), "hint": "P12_PURGE_AFTER_DAYS is whole days; unset: never"}, False
    except AdoptionError as error:
        return {"error": str(error), "hint": error.hint}, False
    except LockedOutError as error:
        return {"error": str(error), "hint": error.hint, "holders": list(map(asdict, error.holders))}, False
    except (SQLAlchemyError, DriverError) as error:
        cause = str(getattr(error, "orig", None) or error).strip()
        return {
            "error": cause,
            "hint": "What was done is found again: run this again once the cause is gone.",
        }, False
