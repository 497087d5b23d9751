"""What a journal adds up to without all of it being read, and with any byte of it damaged."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollout.errors import RolloutError
from rollout.target import history as module
from rollout.target.fold import fold
from rollout.target.history import History
from rollout.target.journal import BrokenJournal, Journal
from rollout.target.state import State
from tests.unit.rollout.target.test_state import EVENTS, FIRST, SECOND, Event, shifted

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
RELEASED = (*FIRST, *SECOND, shifted(blue=75, green=25))


@contextmanager
def history_of(events: tuple[Event, ...] | list[Event]) -> Iterator[Path]:
    """A journal with these entries, each written by a process of its own; yields its path."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        path = Path(directory) / "journal.jsonl"
        for name, data in events:
            history = History(path)
            history.append("ann", name, **data)
            history.state()
        yield path


def whole(path: Path) -> State:
    return fold(Journal(path).entries())


@pytest.fixture
def short_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAIL", 3)


@pytest.mark.usefixtures("short_tail")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS)
def test_a_snapshot_and_its_tail_are_what_all_entries_add_up_to(events: list[Event]) -> None:
    with history_of(events) as path:
        assert (path.with_name("snapshot.json")).exists() == (len(events) >= 3)
        assert History(path).state() == whole(path)


def test_an_entry_that_somebody_adds_while_it_is_read_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    with history_of(FIRST) as path:
        mine, read = History(path), Journal.read

        def read_slowly(journal: Journal, *since: Any) -> Any:
            found = read(journal, *since)
            if journal is mine:
                History(path).append("guard", SECOND[0][0], **SECOND[0][1])
            return found

        monkeypatch.setattr(Journal, "read", read_slowly)

        assert mine.state() == fold(Journal(path).entries()[: len(FIRST)])


@pytest.mark.usefixtures("short_tail")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.integers(0, 2), st.integers(0, 10**6), st.integers(1, 255))
def test_with_any_byte_damaged_it_is_known_what_serves_and_what_served_before(
    file: int, position: int, change: int
) -> None:
    with history_of(RELEASED) as path:
        known = whole(path)
        files = sorted(each for each in path.parent.iterdir() if each.suffix in (".json", ".jsonl"))
        damaged = files[file]
        content = bytearray(damaged.read_bytes())
        content[position % len(content)] ^= change
        damaged.write_bytes(content)

        history = History(path)
        try:
            state = history.state()
        except BrokenJournal as error:
            state = history.replace_damaged("bob", str(error))

        assert (state.shares, state.rollout, state.slots) == (known.shares, known.rollout, known.slots)
        history.append("bob", "traffic.shifted", shares={"blue": 100, "green": 0}, release="any")
        assert History(path).state().shares == {"blue": 100, "green": 0}


def test_a_damaged_journal_is_kept_and_a_new_one_says_so() -> None:
    with history_of(RELEASED) as path:
        damaged = path.read_bytes().replace(b'"blue":75', b'"blue":76')
        path.write_bytes(damaged)

        state = History(path).replace_damaged("bob", "entry 9 is damaged")

        assert Path(state.damaged).read_bytes() == damaged
        (entry,) = Journal(path).entries()
        assert (entry.event, entry.data["why"]) == ("journal.replaced", "entry 9 is damaged")
        assert state.shares == {"blue": 75, "green": 25}


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_a_journal_that_lost_its_last_entries_is_found_out(kept: int) -> None:
    with history_of(RELEASED) as path:
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))

        with pytest.raises(BrokenJournal, match="entry 9 was altered or damaged"):
            History(path).state()


@pytest.mark.usefixtures("short_tail")
def test_a_snapshot_that_another_kit_made_is_not_gone_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    with history_of(RELEASED) as path:
        monkeypatch.setattr(
            module, "fold", lambda entries, state: fold(entries, state if not state.slots else State())
        )
        monkeypatch.setattr(module, "_code", lambda: "another")

        assert History(path).state() == whole(path)


def test_how_much_is_read_does_not_depend_on_how_much_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    lines: Callable[[Journal, int], list[bytes]] = Journal._lines
    with history_of(RELEASED * 20) as path:
        monkeypatch.setattr(Journal, "_lines", lambda *a: read.append(len(found := lines(*a))) or found)
        History(path).append("ann", "finished", release="a" * 12, slot="blue")
        History(path).state()

    assert max(read) <= module.TAIL + 1


def test_the_way_back_is_small_and_for_people_to_read() -> None:
    with history_of(RELEASED) as path:
        said = json.loads(path.with_name("way_back.json").read_bytes().partition(b"\n")[2])

    assert said["shares"] == {"blue": 75, "green": 25}
    assert said["rollout"]["from_slot"] == "blue"
    assert said["slots"]["blue"]["release"] == "a" * 12


def test_a_full_disk_keeps_the_way_back_from_nobody_who_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with history_of(RELEASED) as path:
        monkeypatch.setattr(module, "write_bytes", full)
        History(path).append("ann", "finished", release="a" * 12, slot="blue")

        assert "finished" in [entry.event for entry in Journal(path).entries()][-1:]
        assert not isinstance(History(path).state(), RolloutError)
