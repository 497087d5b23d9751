"""The site's own signals, read by the guard all the time: what they were before a release, and are in one.

Whoever answers slowly makes nobody wait, as with the database's readings. What is read may hold a password
in its address: that is in the target's secrets, and never in a sample.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from checks.window.signals import Signal
from rollout.errors import Refused
from rollout.files import read_json, write_json
from rollout.guard.database_reader import STATEMENT_SECONDS, PressureReader
from rollout.steps.window import signals_of
from rollout.target.dsn import MONITOR, database_url
from rollout.target.state import State
from rollout.target.target import Target

# Unless the site says how often they are read; so many readings of before a release are kept.
INTERVAL_SECONDS, KEPT = 10.0, 360
WRITE_SECONDS = 60.0
CORRECT = "Correct p12_signals in the inventory, then: ./p12 provision"


class SiteSignals:
    """Reads the signals of a target in a thread of its own, and keeps what they were before a release."""

    def __init__(self, target: Target, clock: Callable[[], float] = time.time) -> None:
        self._signals = signals_of(target)
        self._reader = reader(target, self._signals, clock)
        self._path = target.steering / "signals.json"
        kept = read_json(self._path) or {}
        self.before: dict[str, deque[float]] = {
            signal.name: deque(kept.get(signal.name) or (), KEPT) for signal in self._signals
        }
        self._told: set[str] = set()
        self._last: Mapping[str, Any] = {}
        self._written = clock()
        self._clock = clock

    def look(self, state: State) -> None:
        """Keep what the signals are, while no release has traffic that could have changed them."""
        if not self._signals:
            return
        found = self._reader.latest() or {}
        under_way = state.rollout and not state.rollout.ended and state.rollout.share
        for name, values in self.before.items():
            now, last = found.get(name, {}), self._last.get(name, {})
            if not under_way and "value" in now and now.get("at") != last.get("at"):
                values.append(now["value"])
        self._last = found
        if self._clock() - self._written >= WRITE_SECONDS:
            self._written = self._clock()
            write_json(self._path, {name: list(values) for name, values in self.before.items()})

    def sampled(self, window: str) -> dict[str, Any]:
        """What a sample of a window holds of them; the first one also what was before."""
        if not self._signals:
            return {}
        taken: dict[str, Any] = {"signals": dict(self._last)}
        if window not in self._told:
            self._told = {window}
            taken["signals_before"] = {name: list(values) for name, values in self.before.items()}
        return taken


def show(target: Target) -> dict[str, Any]:
    """Read each signal once and say it.

    :raises Refused: one of them is not to be understood, or gives no number.
    """
    wanted = signals_of(target)
    if not wanted:
        return {"signals": {}}
    with ExitStack() as stack:
        try:
            found = _connect(target, wanted, time.time, stack)()
        except Exception as error:
            raise Refused(f"{target.name}: the site's signals cannot be read: {error}", CORRECT) from None
    wrong = [f"{name}: {told['error']}" for name, told in found.items() if "error" in told]
    if wrong:
        raise Refused(f"{target.name}: p12_signals: {'; '.join(wrong)}.", CORRECT)
    said = ", ".join(f"{name} {told['value']:.4g}" for name, told in found.items())
    return {"signals": found, "say": f"{target.name}: the site's signals: {said}"}


def _connect(
    target: Target, wanted: tuple[Signal, ...], clock: Callable[[], float], stack: ExitStack
) -> Callable[[], Mapping[str, Any]]:
    # Imported only here: a rollback needs no database driver.
    from checks.base.postgres import connected
    from checks.window.signal_reading import read

    database = None
    if any(signal.sql for signal in wanted):
        url = database_url(target, MONITOR)
        database = stack.enter_context(connected(url, STATEMENT_SECONDS, named=""))
        database.set_session(readonly=True, autocommit=True)
    return lambda: read(wanted, database, clock)


def reader(target: Target, wanted: tuple[Signal, ...], clock: Callable[[], float]) -> PressureReader:
    """A reader of all of a target's signals."""

    seconds = float(target.settings["guard"].get("signal_seconds", INTERVAL_SECONDS))
    return PressureReader(lambda stack: _connect(target, wanted, clock, stack), seconds)
