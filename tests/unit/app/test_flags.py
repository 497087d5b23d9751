"""Flag values, shares of notes, layers, and the document that carries flags."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.flags import (
    ADVISORY_LOCKS,
    FLAGS,
    READ_ONLY,
    VIEW_QUEUE,
    Arm,
    FlagDocument,
    FlagSet,
    RefusedDocumentError,
    check_flag,
    effective_flags,
    note_share,
    parse_document,
)

NOTE_IDS = st.integers(min_value=1, max_value=2**31 - 1)
DOCUMENT: dict[str, Any] = {
    "target": "staging",
    "slot": "blue",
    "generation": 3,
    "flags": {VIEW_QUEUE: "25%"},
}


def flags_at(value: str) -> FlagSet:
    return effective_flags(FlagDocument("staging", "blue", 1, {VIEW_QUEUE: value}), {})


def encoded(**changes: Any) -> bytes:
    return json.dumps(DOCUMENT | changes).encode()


@pytest.mark.parametrize("value", ["0", "1", "0%", "25%", "100%"])
def test_switches_and_whole_percentages_are_accepted(value: str) -> None:
    assert check_flag(VIEW_QUEUE, value) == ""


@pytest.mark.parametrize(
    "value", ["", "2", "yes", "101%", "025%", "2.5%", "25", " 1", "1\n", "٢٥%", 1, True, None]
)
def test_anything_else_is_refused_with_what_is_accepted(value: object) -> None:
    assert check_flag(VIEW_QUEUE, value) == "Use 0, 1 or a percentage such as 25%."


def test_a_plain_switch_takes_no_percentage() -> None:
    assert check_flag(READ_ONLY, "25%") == "Use 0 or 1."


@given(NOTE_IDS, st.integers(0, 100), st.integers(0, 100))
def test_widening_never_takes_a_note_away(note_id: int, one: int, other: int) -> None:
    narrow, wide = sorted((one, other))

    assert flags_at(f"{narrow}%").on(VIEW_QUEUE, note_id) <= flags_at(f"{wide}%").on(VIEW_QUEUE, note_id)


@given(NOTE_IDS)
def test_the_ends_of_the_scale_are_nobody_and_everybody(note_id: int) -> None:
    assert not flags_at("0%").on(VIEW_QUEUE, note_id)
    assert flags_at("100%").on(VIEW_QUEUE, note_id)


def test_a_share_is_the_same_in_every_process() -> None:
    assert [note_share(VIEW_QUEUE, note_id) for note_id in (1, 2, 3, 1000)] == [55, 12, 80, 79]


def test_a_quarter_of_many_notes_is_about_a_quarter() -> None:
    quarter = flags_at("25%")

    chosen = sum(quarter.on(VIEW_QUEUE, note_id) for note_id in range(10_000))

    assert 2300 < chosen < 2700


def test_two_flags_do_not_meet_on_the_same_notes() -> None:
    both = sum(note_share(VIEW_QUEUE, n) < 10 and note_share(ADVISORY_LOCKS, n) < 10 for n in range(10_000))

    assert both < 200


@pytest.mark.parametrize(
    ("values", "arm"),
    [
        ({}, Arm.INLINE),
        ({ADVISORY_LOCKS: "1"}, Arm.ADVISORY),
        ({VIEW_QUEUE: "1"}, Arm.QUEUE),
        ({ADVISORY_LOCKS: "1", VIEW_QUEUE: "1"}, Arm.QUEUE),
        ({ADVISORY_LOCKS: "0%", VIEW_QUEUE: "0%"}, Arm.INLINE),
    ],
)
def test_the_flags_choose_one_way_to_count_a_view(values: dict[str, str], arm: Arm) -> None:
    assert effective_flags(None, values).arm(12) is arm


def test_each_note_has_its_own_way_at_half_and_half() -> None:
    half = effective_flags(None, {ADVISORY_LOCKS: "50%", VIEW_QUEUE: "50%"})

    assert {half.arm(note_id) for note_id in range(100)} == set(Arm)


def test_the_file_is_laid_over_the_environment_over_the_defaults() -> None:
    document = FlagDocument("staging", "blue", 4, {VIEW_QUEUE: "1"})

    found = effective_flags(document, {VIEW_QUEUE: "0", ADVISORY_LOCKS: "10%"}, "digest")

    assert found.values[VIEW_QUEUE] == "1"
    assert found.source[VIEW_QUEUE] == "file"
    assert found.values[ADVISORY_LOCKS] == "10%"
    assert found.source[ADVISORY_LOCKS] == "environment"
    assert found.values[READ_ONLY] == FLAGS[READ_ONLY].default
    assert found.source[READ_ONLY] == "default"
    assert (found.generation, found.sha256) == (4, "digest")


def test_a_document_is_read_as_it_was_written() -> None:
    assert parse_document(encoded(), "staging", "blue") == FlagDocument(
        "staging", "blue", 3, {VIEW_QUEUE: "25%"}
    )


@pytest.mark.parametrize(
    ("body", "error", "name"),
    [
        (b"", "bad_document", "not JSON"),
        (b"\xff", "bad_document", "not JSON"),
        (b"[]", "bad_document", "wrong keys"),
        (encoded(more=1), "bad_document", "wrong keys"),
        (encoded(generation=0), "bad_document", "generation"),
        (encoded(generation=True), "bad_document", "generation"),
        (encoded(generation="3"), "bad_document", "generation"),
        (encoded(flags=[]), "bad_document", "flags"),
        (encoded(target="production"), "wrong_target", "production"),
        (encoded(slot="green"), "wrong_slot", "green"),
        (encoded(flags={"P12_ENABLE_MAGIC": "1"}), "unknown_flag", "P12_ENABLE_MAGIC"),
        (encoded(flags={READ_ONLY: "25%"}), "bad_value", f"{READ_ONLY}=25%"),
        (encoded(flags={VIEW_QUEUE: 1}), "bad_value", f"{VIEW_QUEUE}=1"),
        (encoded(flags={VIEW_QUEUE: ["1"]}), "bad_value", f"{VIEW_QUEUE}=['1']"),
    ],
)
def test_a_bad_document_is_refused_by_name(body: bytes, error: str, name: str) -> None:
    with pytest.raises(RefusedDocumentError) as refused:
        parse_document(body, "staging", "blue")

    assert (refused.value.error, refused.value.name) == (error, name)
    assert refused.value.accepted


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(
        lambda found: json.dumps(found).encode()
    )
)
def test_no_bytes_at_all_do_more_than_be_refused(body: bytes) -> None:
    with pytest.raises(RefusedDocumentError):
        parse_document(body, "staging", "blue")
