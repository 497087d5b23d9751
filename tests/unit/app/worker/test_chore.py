"""A chore is due at once while there is work, and fails on its own time."""

from collections.abc import Iterable

import pytest

from app.errors import BusyError
from app.worker.chore import Chore


def chore(answers: Iterable[int], idle_seconds: float = 0.5) -> Chore:
    left = iter(answers)

    def batch() -> int:
        if (answer := next(left)) < 0:
            raise BusyError
        return answer

    return Chore("counting", batch, idle_seconds, due=0.0)


def pauses(work: Chore, times: int) -> list[float]:
    def pause() -> float:
        work.do(lambda: 100.0)
        return work.due - 100

    return [pause() for _ in range(times)]


def test_there_is_no_pause_while_there_is_work() -> None:
    assert pauses(chore([3, 1, 0, 2]), 4) == [0, 0, 0.5, 0]


def test_failures_pause_longer_and_longer_up_to_a_limit_for_as_long_as_they_last() -> None:
    found = pauses(chore([-1] * 2000), 2000)

    assert found[:6] == [1, 2, 4, 8, 10, 10]
    assert found[-1] == 10


def test_a_success_ends_the_row_of_failures() -> None:
    assert pauses(chore([-1, -1, 0, -1]), 4) == [1, 2, 0.5, 1]


def test_what_is_done_seldom_is_not_done_more_often_because_it_fails() -> None:
    assert pauses(chore([-1, -1], idle_seconds=300), 2) == [300, 300]


def test_what_is_no_trouble_of_the_database_is_not_hidden() -> None:
    def broken() -> int:
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        Chore("counting", broken, 0.5, due=0.0).do(lambda: 0.0)
