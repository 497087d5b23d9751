"""An archive as it is stored, plain or encrypted, and the way it is read: never by way of a plain file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from checks.backup.age import decrypting, encrypting
from checks.base.errors import CannotMeasure
from checks.base.pipeline import Program, run
from checks.base.postgres_tools import Tools, environment

# Restoring with several jobs needs a file to jump about in; what is decrypted is read once, as it comes.
JOBS = "2"
LAST_LINE_OF_GLOBALS = "-- PostgreSQL database cluster dump complete"


@dataclass(frozen=True)
class Archive:
    """A stored file; ``identity`` is the private key that opens it, empty for a plain one."""

    path: Path
    identity: str = field(default="", repr=False)

    def read_to_its_end(self, tools: Tools) -> None:
        """Raise CannotMeasure if the archive was cut short or changed.

        Listing an archive reads only its head: one cut short or changed further in lists well.
        """
        self._feed(tools, ["-f", os.devnull], environment())

    def restore(self, tools: Tools, options: Sequence[str], variables: Mapping[str, str]) -> None:
        """Restore into a database that is there and empty; the first error ends it."""
        jobs = [] if self.identity else [f"--jobs={JOBS}"]
        self._feed(tools, ["--exit-on-error", *jobs, *options], variables)

    def require_globals(self, tools: Tools) -> str:
        """Return the text of a ``pg_dumpall --globals-only``; raises CannotMeasure unless it is whole."""
        text = (
            run([decrypting(self.path, self.identity)], tools.seconds)
            if self.identity
            else self.path.read_text(encoding="utf-8", errors="replace")
        )
        if LAST_LINE_OF_GLOBALS not in text[-500:]:
            raise CannotMeasure(f"{self.path.name} is not a whole dump of the roles. Back up again.")
        return text

    def _feed(self, tools: Tools, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        if self.identity:
            reading = tools.program("pg_restore", arguments, variables)
            run([decrypting(self.path, self.identity), reading], tools.seconds)
        else:
            tools.run("pg_restore", [*arguments, self.path], variables)


def store(writing: Program, to: Path, recipients: Sequence[str], seconds: float) -> None:
    """Store what a program writes in a private file, encrypted to ``recipients`` where there are any.

    What is to be encrypted goes from one program to the other and touches no disk.
    """
    os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    if recipients:
        run([writing, encrypting(recipients, to)], seconds)
    else:
        run([Program([*writing.words, "-f", str(to)], writing.variables)], seconds)
