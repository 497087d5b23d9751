"""The journal: what was written is what is read, or the reader is told."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.target.journal import GENESIS, BrokenJournal, Journal

# Hundreds of small files that are synced one by one would wait for a busy disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TIMES = st.floats(1.7e9, 1.9e9)
WRITES = st.lists(st.tuples(TIMES, st.text(max_size=8), st.text(max_size=8), VALUES), min_size=1, max_size=4)
WRITER = """
import sys
from pathlib import Path
from rollout.target.journal import Journal
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    Journal(Path(sys.argv[1])).append(sys.argv[3], "counted", number=number)
"""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def written(directory: str, writes: list[tuple[float, str, str, Any]]) -> Journal:
    journal = Journal(Path(directory) / "journal.jsonl")
    for at, owner, event, value in writes:
        journal.clock = lambda at=at: at
        journal.append(owner, event, value=value)
    return journal


def altered(journal: Journal, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Rewrite the file after a change of its lines' values."""
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    change(lines)
    encoded = [json.dumps(line, sort_keys=True, separators=(",", ":")) for line in lines]
    journal.path.write_text("\n".join(encoded) + "\n")


def test_a_journal_that_was_never_written_is_empty(journal: Journal) -> None:
    assert journal.entries() == []


@given(WRITES)
def test_what_was_appended_is_read_back(writes: list[tuple[float, str, str, Any]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        entries = written(directory, writes).entries()

    assert [(e.at, e.owner, e.event, e.data["value"]) for e in entries] == writes


@given(WRITES)
def test_entries_are_numbered_and_each_names_the_hash_before(
    writes: list[tuple[float, str, str, Any]],
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        entries = written(directory, writes).entries()

    assert [entry.seq for entry in entries] == list(range(1, len(writes) + 1))
    assert [entry.previous for entry in entries] == [GENESIS, *(entry.hash for entry in entries[:-1])]


@given(WRITES, st.data())
def test_any_single_altered_byte_is_found(
    writes: list[tuple[float, str, str, Any]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        journal = written(directory, writes)
        content = bytearray(journal.path.read_bytes())
        # The very last byte ends the last line; without it that line is a torn one.
        position = data.draw(st.integers(0, len(content) - 2))
        content[position] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[position]))
        journal.path.write_bytes(content)

        with pytest.raises(BrokenJournal):
            journal.entries()


@pytest.mark.parametrize(
    ("told", "retold"),
    [(b"1700000000.1234567", b"1700000000.1234568"), (b"\\u00e9", b"\\u00E9"), (b"1e+16", b"1E+16")],
)
def test_other_bytes_for_the_same_value_are_found(journal: Journal, told: bytes, retold: bytes) -> None:
    journal.append("ann", "told", at=1700000000.1234567, why="\u00e9", many=1e16)
    content = journal.path.read_bytes()
    assert told in content

    journal.path.write_bytes(content.replace(told, retold))

    with pytest.raises(BrokenJournal):
        journal.entries()


def test_a_number_beyond_all_numbers_is_found(journal: Journal) -> None:
    journal.append("ann", "told", many=1e16)

    journal.path.write_bytes(journal.path.read_bytes().replace(b"1e+16", b"1e916"))

    with pytest.raises(BrokenJournal, match="cannot be read"):
        journal.entries()


@given(WRITES, st.data())
def test_a_torn_last_line_never_took_effect(
    writes: list[tuple[float, str, str, Any]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        journal = written(directory, writes)
        whole = journal.entries()
        content = journal.path.read_bytes()
        last = content.rstrip(b"\n").rfind(b"\n") + 1
        journal.path.write_bytes(content[: data.draw(st.integers(last, len(content) - 1))])

        assert journal.entries() == whole[:-1]


def test_appending_after_a_torn_line_keeps_one_chain(journal: Journal) -> None:
    journal.append("ann", "first")
    journal.append("ann", "torn")
    journal.path.write_bytes(journal.path.read_bytes()[:-20])

    journal.append("bob", "second")

    assert [(entry.seq, entry.event) for entry in journal.entries()] == [(1, "first"), (2, "second")]


def remove_middle(lines: list[dict[str, Any]]) -> None:
    del lines[1]


def swap(lines: list[dict[str, Any]]) -> None:
    lines[0], lines[1] = lines[1], lines[0]


def repeat(lines: list[dict[str, Any]]) -> None:
    lines.insert(1, lines[1])


def add_a_field(lines: list[dict[str, Any]]) -> None:
    lines[1]["extra"] = 1


def rehash_alone(lines: list[dict[str, Any]]) -> None:
    lines[1]["hash"] = "0" * 64


@pytest.mark.parametrize("change", [remove_middle, swap, repeat, add_a_field, rehash_alone])
def test_altering_whole_lines_is_found(
    journal: Journal, change: Callable[[list[dict[str, Any]]], None]
) -> None:
    for number in range(3):
        journal.append("ann", "counted", number=number)

    altered(journal, change)

    with pytest.raises(BrokenJournal):
        journal.entries()


def test_a_broken_journal_names_the_entry_and_the_last_good_one(journal: Journal) -> None:
    for number in range(3):
        journal.append("ann", "counted", number=number)
    altered(journal, lambda lines: lines[1]["data"].update(number=7))

    with pytest.raises(BrokenJournal, match="entry 2 was altered") as raised:
        journal.entries()

    assert "the last good entry is 1" in raised.value.hint


def test_nothing_is_appended_to_a_broken_journal(journal: Journal) -> None:
    journal.append("ann", "first")
    altered(journal, lambda lines: lines[0].update(owner="eve"))
    before = journal.path.read_bytes()

    with pytest.raises(BrokenJournal):
        journal.append("ann", "second")

    assert journal.path.read_bytes() == before


def test_a_value_that_is_not_json_is_refused_and_leaves_no_line(journal: Journal) -> None:
    journal.append("ann", "first")

    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append("ann", "second", ratio=float("nan"))
    with pytest.raises(TypeError):
        journal.append("ann", "second", path=Path("/"))

    assert [entry.event for entry in journal.entries()] == ["first"]


def test_the_journal_is_for_its_owner_alone(journal: Journal) -> None:
    journal.append("ann", "first")

    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_appends_by_several_processes_keep_one_chain(journal: Journal) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(journal.path), "12", name], stdin=subprocess.PIPE, text=True
        )
        for name in ("ann", "bob", "eve")
    ]
    for writer in writers:
        writer.communicate("go\n")

    entries = journal.entries()

    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert [entry.seq for entry in entries] == list(range(1, 37))
    for name in ("ann", "bob", "eve"):
        assert [entry.data["number"] for entry in entries if entry.owner == name] == list(range(12))


def test_a_reader_beside_a_writer_always_sees_a_whole_prefix(journal: Journal) -> None:
    command = [sys.executable, "-c", WRITER, str(journal.path), "40", "ann"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as writer:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
        seen = [0]
        while writer.poll() is None:
            seen.append(len(journal.entries()))

    assert seen == sorted(seen)
    assert len(journal.entries()) == 40
