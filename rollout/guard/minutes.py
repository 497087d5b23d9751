"""What the guard keeps of the request log: minutes of many days, an hour a file, in bounded room.

``steer/minutes/20261128T21.jsonl`` is the hour at hand, a line a minute; hours that are over are packed. A
minute that cannot be written, or whose line was cut short, is not known; it is never one without requests.
"""

import gzip
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from checks.window.before import HOUR, Before, before, times_before
from checks.window.minutes import Minute, Minutes, read_minute
from rollout.files import write_bytes
from rollout.steps import read_only
from rollout.target.state import State
from rollout.target.steering import Steering
from rollout.target.target import SLOTS, TODAY, Target

# However many routes there are: 14 days of 500 requests a second on 20 routes take a third of it.
MOST_BYTES = 100_000_000
HOURS_A_DAY = 24


def directory_of(target: Target) -> Path:
    return target.steering / "minutes"


class KeptMinutes:
    """Writes down each minute as it ends, and removes what is beyond the days and bytes that are kept."""

    def __init__(self, target: Target) -> None:
        self.directory = directory_of(target)
        self.days = int(target.settings["baseline_days"])
        self.folding = Minutes((*SLOTS, TODAY))
        self._hour = ""

    def write(self, minute: Minute) -> None:
        """Write a minute down.

        :raises OSError: it cannot be written, and is not known.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        hour = _name(minute.start)
        with (self.directory / f"{hour}.jsonl").open("ab") as file:
            # Whatever a full disk left of the line before, this one stands alone.
            file.write(f"\n{minute.to_line()}\n".encode())
        if hour != self._hour:
            self._hour = hour
            self._pack()
            self._prune()

    def _pack(self) -> None:
        """Pack the hours that are over; one that was packed already gets what came to it since."""
        for path in self.directory.glob("*.jsonl"):
            if path.stem != self._hour:
                packed = path.with_suffix(".gz")
                write_bytes(packed, gzip.compress(_content(packed) + path.read_bytes(), mtime=0))
                path.unlink()

    def _prune(self) -> None:
        """Remove the oldest hours; counted, so that a clock that jumps removes nothing more."""
        kept, room = sorted(self.directory.glob("2*T*"), reverse=True), MOST_BYTES
        for number, path in enumerate(kept):
            room -= path.stat().st_size
            if number > self.days * HOURS_A_DAY + 1 or room < 0:
                path.unlink()


def serves_undisturbed(steering: Steering, state: State) -> str:
    """The release that serves while nothing is changed; "" where a change was begun and is not over."""
    rollout, restoration = state.rollout, state.restoration
    is_changing = (
        (rollout is not None and not rollout.ended)
        or (restoration is not None and not restoration.ended)
        or state.rollback is not None
        or state.withdrawal is not None
        or "kept" in (state.rehearsal or {})
        or read_only.is_on(steering, state)
    )
    serving = state.slots.get(state.serving or "")
    return "" if is_changing or serving is None else serving.release


def before_release(target: Target, begun_at: float, at: float | None = None) -> tuple[Before | None, str]:
    """How the service was before a release that began then, at an hour like ``at``'s; None and why."""
    directory, days = directory_of(target), int(target.settings["baseline_days"])
    times = times_before(begun_at, begun_at if at is None else at, days)
    return before([list(read_minutes(directory, begin, end)) for begin, end in times])


def read_minutes(directory: Path, begin: float, end: float) -> Iterator[Minute]:
    """The minutes that began in a time, as far as they are known; of two lines the one that knows more."""
    found: dict[int, Minute] = {}
    for hour in range(int(begin // HOUR), int(end // HOUR) + 1):
        path = directory / _name(hour * HOUR)
        for line in (_content(path.with_suffix(".gz")) + _content(path.with_suffix(".jsonl"))).splitlines():
            minute = read_minute(line) if line else None
            if minute is None or not begin <= minute.start < end:
                continue
            known = found.get(minute.start)
            if known is None or known.seconds < minute.seconds:
                found[minute.start] = minute
    yield from (found[start] for start in sorted(found))


def _content(path: Path) -> bytes:
    """A file's lines; nothing where it is not there or damaged."""
    with suppress(OSError, EOFError, zlib.error):
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    return b""


def _name(start: float) -> str:
    return time.strftime("%Y%m%dT%H", time.gmtime(start))
