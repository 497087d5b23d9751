"""Stalls of production's database, at random: everybody's trouble, which must fail no release."""

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil
import psycopg2

from tests.whole_site import Site

PAUSE_SECONDS = (10.0, 40.0)
STALL_SECONDS = (1.0, 10.0)


@dataclass(frozen=True)
class Stall:
    """What was done to the database, and for how long."""

    kind: str
    seconds: float


@contextlib.contextmanager
def stalling(site: Site, chance: Random) -> Iterator[list[Stall]]:
    """Stall production's database now and then until the block ends; what was done is in the list."""
    stop, done = threading.Event(), list[Stall]()
    thread = threading.Thread(target=_stall_on, args=(site.root / "production", chance, stop, done))
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def _stall_on(target: Path, chance: Random, stop: threading.Event, done: list[Stall]) -> None:
    kinds = {"its backends are stopped": _freeze, "the table of notes is locked": _lock}
    while not stop.wait(chance.uniform(*PAUSE_SECONDS)):
        kind, seconds = chance.choice([*kinds]), chance.uniform(*STALL_SECONDS)
        with contextlib.suppress(psycopg2.Error, psutil.Error):
            kinds[kind](target, seconds, stop)
            done.append(Stall(kind, round(seconds, 1)))


def _freeze(target: Path, seconds: float, stop: threading.Event) -> None:
    """Stop the processes of Postgres that serve clients, as a disk that hangs would."""
    postmaster = int((target / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    children = psutil.Process(postmaster).children()
    serving = [each for each in children if "paste12" in " ".join(each.cmdline())]
    try:
        for each in serving:
            each.send_signal(signal.SIGSTOP)
        stop.wait(seconds)
    finally:
        for each in serving:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)


def _lock(target: Path, seconds: float, stop: threading.Event) -> None:
    """Have a session keep the notes to itself, as a careless migration by hand would."""
    settings = json.loads((target / "target.json").read_text())
    with (
        contextlib.closing(
            psycopg2.connect(
                host=settings["database_address"],
                port=settings["postgres_port"],
                dbname=settings["database"],
                user="paste12",
                password=json.loads((target / "secrets.json").read_text())["database"],
                application_name="somebody else",
            )
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
        stop.wait(seconds)
        connection.rollback()
