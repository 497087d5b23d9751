"""Minutes on the disk: bounded, and what was lost is not known rather than zero."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checks.window.minutes import Minute
from rollout.guard import minutes as room
from rollout.guard.minutes import KeptMinutes, read_minutes
from rollout.target.target import Target
from tests import simulated_minutes
from tests.simulated_minutes import BEGUN
from tests.simulated_requests import World


@pytest.fixture
def kept(tmp_path: Path) -> KeptMinutes:
    target = Target("production", tmp_path, {"baseline_days": 1})
    target.steering.mkdir()
    return KeptMinutes(target)


def some(hours: float, begin: float = BEGUN) -> Iterator[Minute]:
    return simulated_minutes.minutes(1, begin, 3600 * hours, 60, World())


def starts(kept: KeptMinutes, begin: float = BEGUN - 1e6, end: float = BEGUN + 1e6) -> list[int]:
    return [minute.start for minute in read_minutes(kept.directory, begin, end)]


def test_what_is_written_is_read_again_and_hours_that_are_over_are_packed(kept: KeptMinutes) -> None:
    written = list(some(2.5))
    for minute in written:
        kept.write(minute)

    assert starts(kept) == [minute.start for minute in written]
    assert sorted(path.suffix for path in kept.directory.iterdir()) == [".gz", ".gz", ".jsonl"]
    assert starts(kept, BEGUN + 3000, BEGUN + 4200) == [int(BEGUN) + at for at in range(3000, 4200, 60)]


def test_a_line_that_was_cut_short_costs_its_own_minute_alone(kept: KeptMinutes) -> None:
    first, second, third = list(some(0.05))
    kept.write(first)
    with next(kept.directory.iterdir()).open("ab") as file:
        file.write(second.to_line().encode()[:40])
    kept.write(third)

    assert starts(kept) == [first.start, third.start]


def test_a_minute_that_a_full_disk_lost_is_not_known(
    kept: KeptMinutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    first, second, third = list(some(0.05))
    kept.write(first)
    with monkeypatch.context() as disk:
        disk.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space"):
            kept.write(second)
    kept.write(third)

    assert starts(kept) == [first.start, third.start]


def test_a_guard_that_starts_anew_goes_on_and_the_longer_part_of_a_minute_counts(kept: KeptMinutes) -> None:
    (minute,) = some(1 / 60)
    kept.write(Minute(minute.start, 20.0, "aaaa", minute.block))
    again = KeptMinutes(Target("production", kept.directory.parent.parent, {"baseline_days": 1}))
    again.write(Minute(minute.start, 35.0, "aaaa", minute.block))

    (found,) = read_minutes(kept.directory, BEGUN, BEGUN + 60)
    assert found.seconds == 35.0


def test_an_hour_that_a_clock_goes_back_to_is_packed_again_with_both(kept: KeptMinutes) -> None:
    hour, later = list(some(0.05)), list(some(0.05, BEGUN + 3600))
    for minute in (*hour[:2], *later, hour[2], later[0]):
        kept.write(minute)

    assert starts(kept) == [minute.start for minute in (*hour, *later)]


def test_hours_beyond_the_days_are_removed_and_a_jump_into_the_future_removes_no_more(
    kept: KeptMinutes,
) -> None:
    for hour in range(30):
        for minute in some(1 / 60, BEGUN + 3600 * hour):
            kept.write(minute)
    for minute in some(1 / 60, BEGUN + 3e8):
        kept.write(minute)

    assert len(list(kept.directory.iterdir())) == 26


def test_room_is_bounded_in_bytes_too(kept: KeptMinutes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_BYTES", 4000)
    for hour in range(10):
        for minute in some(1 / 60, BEGUN + 3600 * hour):
            kept.write(minute)

    assert sum(path.stat().st_size for path in kept.directory.iterdir()) <= 4000 + 2000
    assert starts(kept)[-1] == BEGUN + 9 * 3600


def test_a_damaged_hour_is_not_known(kept: KeptMinutes) -> None:
    for minute in some(1.1):
        kept.write(minute)
    packed = next(kept.directory.glob("*.gz"))
    packed.write_bytes(packed.read_bytes()[:50])

    assert starts(kept)[0] == BEGUN + 3600
