"""What to do when a backup could not be made because of the world around it."""

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from checks.base.errors import CannotMeasure

FULL = re.compile(r"no space left|could not extend file|SIGXFSZ|too large|quota exceeded", re.IGNORECASE)
FULL_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
GONE = re.compile(r"closed the connection|terminating connection|shutting down|starting up|refused", re.I)
# A server that could not write its log ends without a word of why.
NOTHING_LEFT_BYTES = 4 * 1024**2
SPACE_HINT = "Free some space or set --out elsewhere; earlier backups are untouched. Then: ./p12 backup"
GONE_HINT = "Earlier backups are untouched. When Postgres is back: ./p12 backup"


@contextlib.contextmanager
def disk_hints(directory: Path) -> Iterator[None]:
    """Say what to do when the disk of ``directory`` is full, or when Postgres has gone.

    Raises CannotMeasure for both, and for whatever else the system refused.
    """
    try:
        yield
    except (CannotMeasure, OSError) as error:
        free = shutil.disk_usage(directory).free
        is_full = FULL.search(str(error)) or getattr(error, "errno", None) in FULL_NUMBERS
        if is_full or free < NOTHING_LEFT_BYTES:
            now = f"{free // 1024**2} MB are free there now."
            raise CannotMeasure(f"{directory}: {error} {now} {SPACE_HINT}") from None
        if GONE.search(str(error)):
            raise CannotMeasure(f"{error} {GONE_HINT}") from None
        if isinstance(error, OSError):
            raise CannotMeasure(f"{directory}: {error}.") from None
        raise
