"""What takes room, as a table with the bound of each thing."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from rollout.text import size_text

SMALL = 1_000_000


def taken(path: Path) -> int:
    """Return the bytes on disk of a file, or of all below a directory; what cannot be seen counts nothing."""
    try:
        if not path.is_dir() or path.is_symlink():
            return path.lstat().st_blocks * 512
        with os.scandir(path) as entries:
            return sum(taken(Path(entry.path)) for entry in entries)
    except OSError:
        return 0


def table(head: str, things: Mapping[str, Iterable[Path]], bounds: Mapping[str, str]) -> str:
    """Say how much room each kind of thing takes, how many there are, and what bounds it.

    What is small and has no bound is not listed, and counted all the same.
    """
    counted = {name: list(paths) for name, paths in things.items()}
    rows = [(sum(map(taken, paths)), name, len(paths)) for name, paths in counted.items()]
    lines = [
        f"\n  {size_text(size):>8}  {count:>4}  {name:<20}  {bounds.get(name, '')}".rstrip()
        for size, name, count in sorted(rows, reverse=True)
        if count and (name in bounds or size >= SMALL)
    ]
    return f"{head}: {size_text(sum(size for size, _, _ in rows))}{''.join(lines)}"
