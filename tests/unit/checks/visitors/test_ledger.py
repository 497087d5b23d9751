"""A ledger says no more than its visitors know."""

import json
from pathlib import Path

import pytest

from checks.base.errors import CannotMeasure
from checks.visitors import ledger
from checks.visitors.ledger import NOTES_KEPT, Ledger


def test_a_ledger_stays_small_enough_to_be_written_every_second() -> None:
    book = Ledger({})

    for number in range(NOTES_KEPT + 10):
        book.note_created(str(number))

    assert len(book.notes) == NOTES_KEPT
    assert [*book.notes][-1] == str(NOTES_KEPT + 9)


def test_a_view_is_unknown_from_before_it_is_sent_until_it_is_answered() -> None:
    book = Ledger({})
    book.note_created("1")

    book.view_sent("1")
    on_its_way = json.loads(book.to_json(0, stopped=False))["notes"]["1"]
    book.view_accepted("1")

    assert on_its_way == {"accepted": 0, "unknown": 1}
    assert json.loads(book.to_json(0, stopped=True))["notes"]["1"] == {"accepted": 1, "unknown": 0}


def test_a_ledger_survives_its_file_and_what_was_lost_with_its_writer_is_unknown(tmp_path: Path) -> None:
    book = Ledger({}, started=5)
    book.note_created("1")
    for milliseconds in (0.0, 1.5, 2000.0):
        book.answered(milliseconds, "b" * 12)
    file = tmp_path / "ledger.json"
    file.write_text(book.to_json(6, stopped=False))

    again = ledger.continued(file, lost_requests=7)

    assert (again.requests, again.latencies(), again.releases) == (3, book.latencies(), {"b" * 12: 3})
    assert again.notes["1"].unknown == 7


@pytest.mark.parametrize(
    ("text", "words"), [("", "truncated"), ("[]", "Expected `object`"), ("{}", "has no notes")]
)
def test_a_file_that_is_no_ledger_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "ledger.json"
    file.write_text(text)

    with pytest.raises(CannotMeasure, match=f"is not a ledger .*{words}.*move it away"):
        ledger.read(file)
