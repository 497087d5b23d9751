"""One deadline for all tries."""

import time

import pytest

from rollout.waiting import attempts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, and what was slept."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.mark.usefixtures("clock")
def test_there_is_always_one_try_even_without_time() -> None:
    assert len(list(attempts(0))) == 1


def test_tries_end_with_the_deadline_whatever_each_takes(clock: list[float]) -> None:
    started = []
    for _ in attempts(1.0, pause=0.25):
        started.append(clock[0])
        clock[0] += 0.25
    assert started == [100.0, 100.5, 101.0]
