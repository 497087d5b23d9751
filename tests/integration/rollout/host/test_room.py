"""What is pruned on a host, and what stays whatever the bound; what takes room is named."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rollout.host import room, slot
from rollout.target.target import Target
from tests.integration.rollout.steered import NEW, NEXT, OLD, Steered

LONG_AGO = [f"2020010{day}T000000-{day}{'a' * 5}" for day in range(1, 6)]


@pytest.fixture
def stepping(live: Steered) -> Steered:
    """A release at 25 % whose window is open, and samples of five windows that closed long ago."""
    live.offer(NEW)
    live.shift_unwatched(NEW, 25)
    live.open()
    live.guard.look()
    for name in LONG_AGO:
        (live.steering.target.steering / "windows" / name).mkdir()
        (live.steering.target.steering / "windows" / name / "samples.jsonl").write_text("{}\n")
    return live


def kept(steered: Steered) -> set[str]:
    return {path.name for path in (steered.steering.target.steering / "windows").iterdir()}


def test_samples_of_the_newest_windows_stay(stepping: Steered) -> None:
    (window,) = stepping.steering.state().windows

    answer = room.prune(stepping.steering, [OLD, NEW])

    assert kept(stepping) == {window.id, *LONG_AGO[3:]}
    assert answer == {"changed": True, "removed": LONG_AGO[2::-1]}
    assert not room.prune(stepping.steering, [OLD, NEW])["changed"]


def test_samples_of_the_rollout_at_hand_stay_whatever_the_bound(stepping: Steered) -> None:
    (window,) = stepping.steering.state().windows
    stepping.settings["keep_windows"] = 0

    room.prune(stepping.steering, [OLD, NEW])

    assert kept(stepping) == {window.id}


def test_what_is_no_window_is_left_alone(stepping: Steered) -> None:
    (stepping.steering.target.steering / "windows" / "notes").mkdir()
    stepping.settings["keep_windows"] = 0

    room.prune(stepping.steering, [OLD, NEW])

    assert "notes" in kept(stepping)


def test_the_newest_kits_stay_and_one_from_which_something_runs(live: Steered) -> None:
    kits = [live.home / "kit" / f"{number:012x}" for number in range(5)]
    for number, kit in enumerate(kits):
        (kit / "lib").mkdir(parents=True)
        at = time.time() - 1000 + number
        os.utime(kit, (at, at))
    live.settings["keep_kits"] = 2
    script = "print(flush=True); input()"
    environment = {"PYTHONPATH": f"{kits[0]}/lib"}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as runs:
        assert runs.stdout
        runs.stdout.readline()
        answer = room.prune_kits(live.steering.target)
        runs.communicate(b"\n")

    assert answer == {"changed": True, "removed": [kits[2].name, kits[1].name]}
    assert room.prune_kits(live.steering.target)["removed"] == [kits[0].name]


def test_all_that_takes_room_is_named_with_what_bounds_it(stepping: Steered) -> None:
    stepping.settings |= {"host": "one", "keep_kits": 2, "backup": {"keep": {"latest": 3, "daily": 7}}}
    (stepping.directory / "strange").write_bytes(b"x" * 5_000_000)

    said = room.show(stepping.steering.target)["say"]

    rows = {line.split()[3]: " ".join(line.split()[4:]) for line in said.splitlines()[1:]}
    assert said.startswith("production on one: ")
    assert said.splitlines()[1].split() == ["5.0", "MB", "1", "strange"]
    assert rows["windows"] == "p12_keep_windows: 3"
    assert rows["journal.jsonl"] == "the record; never removed"


def test_what_is_retained_is_listed_with_the_schema_that_it_knows_and_why(live: Steered) -> None:
    live.offer(NEW)
    live.settings["host"] = "local"
    for release, schema in ((OLD, "0003"), (NEW, "0004"), (NEXT, "")):
        place = live.target.directory / "releases" / f"{release}-{'1' * 12}" / "lib" / "app" / "store"
        place.mkdir(parents=True)
        (place / "schema.py").write_text(f'"""Doc."""\n\nHEAD = "{schema}"\n' if schema else "")
    packed = live.target.directory / "artifacts"
    packed.mkdir(exist_ok=True)
    (packed / f"{'d' * 12}-{'1' * 12}.tar.gz").touch()
    _, known = live.host("retained")

    status, answer = live.host("releases", told=known["reasons"])
    for name in ("releases", "artifacts"):
        shutil.rmtree(live.target.directory / name)

    assert status == 0
    assert [" ".join(line.split()) for line in answer["say"]] == [
        f"production: {OLD} schema 0003 live in blue, 100 %; last good",
        f"production: {NEW} schema 0004 warm in green",
        f"production: {NEXT} schema unknown no more needed",
        f"production: {'d' * 12} packed no more needed",
    ]


def test_a_host_that_lacks_what_a_slot_holds_is_named(live: Steered, tmp_path: Path) -> None:
    away = Target("production", tmp_path, {"host": "app2"})

    answer = slot.listed(away, live.host("retained")[1]["reasons"])

    assert answer["say"] == [f"production: app2 lacks {OLD}"]
