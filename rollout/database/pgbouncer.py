"""pgbouncer's console, and a pause that ends whatever becomes of who asked for it.

The console is reached through pgbouncer's own Unix socket, where it knows who runs it: no password.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from checks.base import pgbouncer
from checks.base.errors import CannotMeasure
from rollout.errors import Refused, RolloutError
from rollout.target.target import Target

KIT = Path(__file__).resolve().parents[2]

# Between the end of a pause and the moment pgbouncer gives up on who has waited since its start.
MARGIN_SECONDS = 1.0
READY_SECONDS = 10.0


@dataclass(frozen=True)
class Pooler:
    """Where pgbouncer's console is, in words of libpq."""

    console: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, target: Target) -> "Pooler":
        target.refuse_elsewhere()
        port = target.settings["ports"]["pgbouncer"]
        return cls({"host": target.settings["run"], "port": port, "user": "pgbouncer", "dbname": "pgbouncer"})

    def command(self, words: str, seconds: float = 5.0) -> list[dict[str, Any]]:
        """Give one command and return its rows by column name.

        :raises RolloutError: the console is away or refuses.
        :raises TimeoutError: it did not answer in time; what was asked for may still happen.
        """
        try:
            with pgbouncer.console(named="", **self.console) as console:
                return pgbouncer.ask(console, words, seconds)
        except pgbouncer.TooLate as error:
            raise TimeoutError(str(error)) from error
        except CannotMeasure as error:
            raise RolloutError(f"{words}: {error}", "See that it runs: ./p12 provision") from error

    def setting(self, name: str) -> str:
        return next(str(row["value"]) for row in self.command("SHOW CONFIG") if row["key"] == name)

    def resume(self) -> bool:
        """Let clients go on; ``False`` when they were not held.

        :raises RolloutError: the console is away.
        """
        try:
            self.command("RESUME")
        except RolloutError as error:
            if "not paused" not in str(error):
                raise
            return False
        return True


@dataclass
class Pause:
    """How long clients were held, in seconds; told at its end."""

    started: float
    seconds: float = 0.0


@contextlib.contextmanager
def paused(pooler: Pooler, seconds: float) -> Iterator[Pause]:
    """Hold every client of pgbouncer during the block, for ``seconds`` at most, and let go after it.

    A process of its own lets go at that deadline, or as soon as this one is gone, killed or not. Inside,
    pgbouncer has no connection to Postgres.

    :raises Refused: what runs does not end in time, or clients would be sent away while they wait.
    """
    _refuse_too_long(pooler, seconds)
    with _resumer(pooler, seconds) as resumer:
        pause = Pause(time.monotonic())
        try:
            try:
                # Half of the time is for what still runs, half for what the pause is for.
                pooler.command("PAUSE", seconds / 2)
            except TimeoutError:
                raise Refused(
                    f"Transactions still run after {seconds / 2:g} s, so nothing was restarted or swapped.",
                    "See them: SELECT * FROM pg_stat_activity WHERE state <> 'idle'; then the same again",
                ) from None
            yield pause
        finally:
            pooler.resume()
            pause.seconds = round(time.monotonic() - pause.started, 3)
            _dismiss(resumer)


def _refuse_too_long(pooler: Pooler, seconds: float) -> None:
    patience = float(pooler.setting("query_wait_timeout"))
    if patience and seconds > patience - MARGIN_SECONDS:
        raise Refused(
            f"A pause of {seconds:g} s is too long: pgbouncer sends clients away after {patience:g} s "
            f"(query_wait_timeout). Accepted: up to {patience - MARGIN_SECONDS:g} s.",
            "Set p12_pause_seconds in the inventory, then: ./p12 provision",
        )


@contextlib.contextmanager
def _resumer(pooler: Pooler, seconds: float) -> Iterator[IO[str]]:
    # In a session of its own: what kills ours, a lost terminal included, does not reach it.
    process = subprocess.Popen(
        [sys.executable, "-P", "-s", "-m", "rollout.database.pgbouncer_resume"],
        env={**os.environ, "PYTHONPATH": str(KIT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        told, said = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        told.write(json.dumps({"console": dict(pooler.console), "seconds": seconds}) + "\n")
        told.flush()
        ready, _, _ = select.select([said], [], [], READY_SECONDS)
        if not ready or said.readline() != "ready\n":
            process.kill()
            raise RolloutError("Nobody is there to end the pause, so it was not begun.", "./p12 provision")
        yield told


def _dismiss(resumer: IO[str]) -> None:
    # Past the deadline it has let go and is gone; closing within, so that nothing is left to be written.
    with contextlib.suppress(OSError), resumer:
        resumer.write("done\n")
