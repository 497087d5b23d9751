"""The SQLSTATEs that a slot's workers met, kept beside its flags file: a worker has no HTTP to tell them by.

The slot's instances on the same host export them. The counts outlive a worker, so they only rise.
"""

import fcntl
import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

NAME = "worker-errors.json"

log = logging.getLogger("app.worker")


class WorkerErrors:
    """The counts of one slot on one host; without a flags file there is no place for them."""

    def __init__(self, flags_file: str) -> None:
        self._path = Path(flags_file).with_name(NAME) if flags_file else None

    def add(self, sqlstate: str) -> None:
        """Count one more; a disk that does not take it is logged, for work must go on."""
        if self._path is None:
            return
        try:
            with self._path.open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                counts = _read(file)
                counts[sqlstate] += 1
                file.truncate(0)
                file.write(json.dumps(counts))
        except OSError as error:
            log.warning("%s: %s is not counted: %s", self._path, sqlstate, error.strerror)

    def counts(self) -> Mapping[str, int] | None:
        """Return how often each SQLSTATE was met: none yet without a file, None where nobody can know."""
        if self._path is None:
            return None
        try:
            with self._path.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                return _read(file)
        except FileNotFoundError:
            return {}
        except OSError:
            return None


def _read(file: TextIO) -> Counter[str]:
    file.seek(0)
    try:
        return Counter(json.loads(file.read()))
    except ValueError:
        # New, or its writer was killed in the middle: a counter that starts again is one that is understood.
        return Counter()
