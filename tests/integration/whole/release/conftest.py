"""One whole local site, with visitors all the time, for all tests of this folder."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.whole_site import QUICK, Site, whole_site


@pytest.fixture(scope="session")
def site(servers: object) -> Iterator[Site]:  # noqa: ARG001 - the servers must be found or installed
    with whole_site(QUICK) as made:
        yield made


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any], float], Any]:
    """Wait until something is true, with a deadline, and return it.

    With ``running`` it is an error that this command ends first.
    """

    def wait(
        happened: Callable[[], Any], seconds: float = 60, running: subprocess.Popen[str] | None = None
    ) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            value = happened()
            if value:
                return value
            if running is not None and running.poll() is not None:
                raise AssertionError(f"it ended first: {running.communicate()[0]}")
            assert time.monotonic() < deadline, f"not within {seconds} s"
            time.sleep(0.1)

    return wait


@pytest.fixture
def kill_session() -> Callable[[subprocess.Popen[str]], None]:
    """Kill -9 a command and everything it started, as a lost terminal does."""
    return lambda command: end(command, signal.SIGKILL)


@pytest.fixture
def interrupt() -> Callable[[subprocess.Popen[str]], None]:
    """Press Ctrl-C, for all of the terminal's foreground; again and again where that did not end it.

    Ansible can lose one that comes while it prints, and go on, or wait for ever for its own display's lock.
    """

    def press(command: subprocess.Popen[str]) -> None:
        for _ in range(20):
            with contextlib.suppress(subprocess.TimeoutExpired):
                end(command, signal.SIGINT, 3)
                return
        end(command, signal.SIGINT)

    return press


def end(command: subprocess.Popen[str], number: signal.Signals, seconds: float = 60) -> None:
    os.killpg(command.pid, number)
    command.wait(seconds)
    if command.stdout is not None:
        command.stdout.close()
