"""Transactions are tried again when that can help, within a budget, and shed when it cannot."""

from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import BusyError, UnavailableError
from app.store.retry import CONTENTION, RetryPolicy, Trouble, classify


class Clock:
    """Time that passes only by sleeping, or when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class DriverFailure(psycopg2.Error):
    """psycopg2 gives no way to make one with a SQLSTATE."""

    def __init__(self, pgcode: str | None, message: str = "") -> None:
        super().__init__(message)
        self._pgcode = pgcode

    @property
    def pgcode(self) -> str | None:  # type: ignore[override]
        return self._pgcode


def failure(pgcode: str | None, message: str = "", *, lost: bool = False) -> DBAPIError:
    kind = OperationalError if pgcode is None or lost else DBAPIError
    return kind("SELECT 1", {}, DriverFailure(pgcode, message), connection_invalidated=lost)


def policy(clock: Clock, **changes: Any) -> RetryPolicy:
    return RetryPolicy(monotonic=clock.monotonic, sleep=clock.sleep, uniform=lambda _, high: high, **changes)


def failing(
    *errors: Exception, then: str = "done", before: Callable[[], None] = lambda: None
) -> Callable[[], str]:
    left = list(errors)

    def transaction() -> str:
        before()
        if left:
            raise left.pop(0)
        return then

    return transaction


@pytest.mark.parametrize("state", sorted(CONTENTION))
def test_contention_is_tried_again_and_counted(state: str) -> None:
    retried: list[str] = []

    answer = policy(Clock(), on_retry=retried.append).run(failing(failure(state), failure(state)))

    assert answer == "done"
    assert retried == [state, state]


def test_the_third_failure_is_the_last() -> None:
    with pytest.raises(BusyError):
        policy(Clock()).run(failing(*[failure("55P03")] * 3))


def test_no_try_starts_after_the_budget() -> None:
    clock = Clock()

    def slow() -> None:
        clock.now += 0.31

    with pytest.raises(BusyError):
        policy(clock).run(failing(failure("55P03"), before=slow))
    assert clock.pauses == []


@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.25]), min_size=3, max_size=3), st.floats(0, 1))
def test_pauses_are_jittered_up_to_a_growing_limit_and_end_with_the_budget(
    took: list[float], draw: float
) -> None:
    clock = Clock()
    durations = iter(took)

    def pass_time() -> None:
        clock.now += next(durations)

    patient = RetryPolicy(monotonic=clock.monotonic, sleep=clock.sleep, uniform=lambda _, high: high * draw)
    with pytest.raises(BusyError):
        patient.run(failing(*[failure("40P01")] * 3, before=pass_time))

    assert all(pause <= limit for pause, limit in zip(clock.pauses, (0.04, 0.08), strict=False))
    assert clock.now <= 0.3 + max(took) + 1e-9


@pytest.mark.parametrize("state", ["57014", "53300", "53200", "53100"])
def test_overload_is_shed_at_once(state: str) -> None:
    clock = Clock()

    with pytest.raises(BusyError):
        policy(clock).run(failing(failure(state)))
    assert clock.pauses == []


@pytest.mark.parametrize(
    "words",
    [
        "FATAL: sorry, too many clients already",
        "FATAL: remaining connection slots are reserved for superusers",
    ],
)
def test_a_refused_connection_of_a_full_server_is_overload(words: str) -> None:
    with pytest.raises(BusyError):
        policy(Clock()).run(failing(failure(None, words)))


def test_a_lost_connection_is_tried_again_once() -> None:
    assert policy(Clock()).run(failing(failure(None, lost=True))) == "done"

    with pytest.raises(UnavailableError):
        policy(Clock()).run(failing(failure(None, lost=True), failure(None, lost=True)))


def test_a_connection_lost_after_a_long_wait_is_the_pooler_being_full() -> None:
    clock = Clock()

    def wait() -> None:
        clock.now += 2

    with pytest.raises(BusyError):
        policy(clock).run(
            failing(failure(None, "server closed the connection unexpectedly", lost=True), before=wait)
        )


@pytest.mark.parametrize("state", ["57P01", "57P03", "08006", "25006"])
def test_a_server_that_goes_away_is_unavailable(state: str) -> None:
    with pytest.raises(UnavailableError):
        policy(Clock()).run(failing(failure(state), failure(state)))


def test_waiting_for_a_connection_too_long_is_busy() -> None:
    with pytest.raises(BusyError):
        policy(Clock()).run(failing(PoolTimeoutError()))


def test_a_mistake_of_ours_is_neither_retried_nor_hidden() -> None:
    mistake = ProgrammingError("SELECT 1", {}, DriverFailure("42P01"))

    with pytest.raises(ProgrammingError):
        policy(Clock()).run(failing(mistake))
    assert classify(mistake) is Trouble.OTHER
