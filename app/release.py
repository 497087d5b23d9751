"""Which release this process runs, as the artifact recorded it."""

import json
from dataclasses import dataclass
from pathlib import Path

RECORD = Path(__file__).with_name("RELEASE.json")
RELEASE_LENGTH = 12


@dataclass(frozen=True)
class Release:
    """One commit: ``commit`` is its 40 hex digits, ``name`` the first 12 of them."""

    commit: str

    @property
    def name(self) -> str:
        return self.commit[:RELEASE_LENGTH]


def running_release(record: Path = RECORD) -> Release:
    """Read the release from its record; a checkout has none and is all zeros."""
    try:
        return Release(str(json.loads(record.read_text())["commit"]))
    except FileNotFoundError:
        return Release("0" * 40)
