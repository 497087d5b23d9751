"""The directory that backups are kept in: one backup at a time, and nothing half of those that died."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from checks.backup.manifest import SUFFIX
from checks.backup.scratch_cluster import clear
from checks.base.errors import CannotMeasure, Misused
from checks.base.files import PARTIAL, file_lock

# What a backup names its files; everything else in the directory is somebody's own.
OURS = re.compile(r"(?P<id>\d{8}T\d{6}Z-[^.]+)\.(?:dump|globals\.sql)(?:\.age)?")


@contextlib.contextmanager
def sole_backup(out: Path, seconds: float, is_clearing: bool = True) -> Iterator[None]:
    """Hold the directory's lock, waiting for it; clear away what killed backups left behind."""
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        out.chmod(0o700)
        (out / ".lock").touch()
    except OSError as error:
        raise Misused(f"--out {out} cannot be used: {error}. It must belong to this user.") from None
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(file_lock(out / ".lock", seconds))
        except BlockingIOError:
            waited = f"Another backup has been running in {out} for more than {seconds:g} s."
            raise CannotMeasure(f"{waited} Wait for it, or look whether it hangs.") from None
        if is_clearing:
            clear(out)
            for left in leftovers(out):
                left.unlink(missing_ok=True)
        yield


def leftovers(out: Path) -> list[Path]:
    """The files of backups that were never finished, or whose manifest was removed already."""
    named = [(path, OURS.fullmatch(path.name)) for path in out.iterdir()]
    unproven = [path for path, name in named if name and not (out / f"{name['id']}{SUFFIX}").exists()]
    return [*out.glob(f"*{PARTIAL}"), *unproven]
