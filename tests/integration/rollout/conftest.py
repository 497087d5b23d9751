"""Targets on loopback for the tests of what steers them."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rollout.guard import request_log
from rollout.host import supervisord
from rollout.host.installed_servers import Servers
from rollout.target.target import Target
from tests.integration.rollout.steered import NEW, Steered, steered
from tests.integration.rollout.supervised import Machine

_numbers = itertools.count(1)
MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A short path in memory, where there is one: hundreds of journals would wait for a busy disk."""
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="p12r", dir=parent))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_request_log_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[request_log.RequestLog] = []
    reader = request_log.reader

    def remembered(target: Target) -> request_log.RequestLog:
        made.append(reader(target))
        return made[-1]

    monkeypatch.setattr(request_log, "reader", remembered)
    yield
    for log in made:
        log.close()


@pytest.fixture
def make_target(servers: Servers, scratch: Path) -> Iterator[Callable[..., Steered]]:
    """Make a target with so many instances a slot; other words are variables of the HAProxy role."""
    with ExitStack() as stack:

        def make(blue: int = 2, green: int = 2, **role: Any) -> Steered:
            home = scratch / f"r{next(_numbers)}"
            return stack.enter_context(steered(servers, home, {"blue": blue, "green": green}, **role))

        yield make


@pytest.fixture(scope="session")
def shared(servers: Servers, scratch: Path) -> Iterator[Steered]:
    with steered(servers, scratch / "shared", {"blue": 2, "green": 2}) as made:
        yield made


@pytest.fixture
def target(shared: Steered) -> Steered:
    """A target with two instances a slot where nothing was ever released."""
    shared.reset()
    return shared


@pytest.fixture
def live(target: Steered) -> Steered:
    """A target where one release serves everything."""
    target.serve("a" * 12)
    return target


@pytest.fixture
def stepping(live: Steered) -> Steered:
    """A release at its first step, before any window was opened."""
    live.settings["steps"] = [25, 100]
    live.offer(NEW)
    live.shift(NEW, 25)
    return live


@pytest.fixture
def machine(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Machine]:
    root = scratch / f"m{abs(hash(request.node.name)) % 10**8}"
    made = Machine(root)
    monkeypatch.setenv("P12_ROOT", str(root))
    yield made
    supervisord.stop_all(root)
