"""How long does reading a target's state take? Prints it for journals of 100, 1 000 and 10 000 releases.

.venv/bin/python -m benchmarks.journal [--releases 100,1000,10000]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.table import Row, show
from rollout.target.history import History
from rollout.target.journal import Entry, chained, encoded

READS, LIMIT_MS = 30, 5.0
SLOTS = ("blue", "green")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.journal")
    parser.add_argument("--releases", default="100,1000,10000")
    rows: list[Row] = []
    for releases in map(int, parser.parse_args(arguments).releases.split(",")):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "journal.jsonl"
            write(path, releases)
            read(path)  # leaves a snapshot
            append(path, 20)  # a tail, as it is between two snapshots
            rows += [
                Row(f"state, {releases} releases", "ms", timed(partial(read, path)), LIMIT_MS),
                Row(f"append, {releases} releases", "ms", timed(partial(append, path, 1), 10)),
                Row(f"whole chain, {releases} releases", "ms", timed(History(path).entries, 1)),
            ]
    print(show(rows))
    return 0


def timed(action: Callable[[], Any], times: int = READS) -> list[float]:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - started))
    return taken


def read(path: Path) -> None:
    History(path).state()


def append(path: Path, count: int) -> None:
    for number in range(count):
        History(path).append("ann", "maintained", summary=f"restarted {number}", settings={})


def write(path: Path, releases: int) -> None:
    """Write a journal without waiting for the disk at each line."""
    last: Entry | None = None
    with path.open("wb") as file:
        for number in range(releases):
            for event, data in release(number):
                last = chained(last, 1.8e9 + number, "ann@desk", event, data)
                file.write(encoded(last))


def release(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a release leaves in the journal; one in ten is turned back."""
    name, before = f"{number:012x}", f"{number - 1:012x}" if number else None
    slot, control = SLOTS[number % 2], SLOTS[1 - number % 2] if number else None
    identity = {"release": name, "commit": name * 3, "sha256": "d" * 64}
    known = {"P12_ENABLE_ADVISORY_LOCKS": "0", "P12_ENABLE_VIEW_QUEUE": "0", "P12_READ_ONLY": "0"}
    limits = {f"limit_{number}": number for number in range(20)}
    yield "backup.verified", {"id": name, "summary": "restored and compared"}
    yield "slot.claimed", {"slot": slot, "release": name}
    yield "flags.wanted", {"slot": slot, "generation": number, "flags": known}
    yield "slot.proven", {"slot": slot, "known": known, **identity}
    yield (
        "rollout.begun",
        {"release": name, "slot": slot, "from_slot": control, "from_release": before, "why": ""},
    )
    for share in (5, 25, 100):
        asked = {"kind": "step", "release": name, "slot": slot, "control": control, "share": share}
        yield (
            "traffic.shifted",
            {"shares": {slot: share, SLOTS[1 - number % 2]: 100 - share}, "release": name},
        )
        yield "window.opened", {"id": f"{name}-{share}", "limits": limits, **asked}
        yield (
            "window.closed",
            {"id": f"{name}-{share}", "verdict": "passed", "summary": "4000 requests, 0 errors"},
        )
    if number % 10 == 9:
        yield "rolled_back", {"release": name, "to": before, "slot": control, "why": "errors at 5 %"}
    else:
        yield "finished", {"release": name, "slot": slot}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
