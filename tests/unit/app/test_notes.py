"""What clients send is read leniently where that is harmless and refused by name where it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequestError
from app.notes import LARGEST_ID, read_before_id, read_hours, read_page_size, read_text

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@pytest.mark.parametrize(
    ("given_hours", "hours"),
    [
        (None, 24),
        ("", 24),
        ("0", 24),
        (0, 24),
        ("many", 24),
        (True, 24),
        ([1], 24),
        ("nan", 24),
        ("1e999", 24),
        (12, 12),
        ("12", 12),
        ("12.9", 12),
        (0.5, 1),
        (-3, 1),
        (169, 168),
        ("9" * 400, 24),
    ],
)
def test_hours_are_clamped_and_nonsense_is_a_day(given_hours: object, hours: int) -> None:
    assert read_hours(given_hours) == hours


@given(ANYTHING)
def test_hours_are_always_between_one_and_a_week(given_hours: object) -> None:
    assert 1 <= read_hours(given_hours) <= 168


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "text required"),
        ("", "text required"),
        (" \n\t ", "text required"),
        (5, "text_not_a_string"),
        (["a"], "text_not_a_string"),
        ("a\0b", "text_has_nul"),
        ("\ud800", "text_not_unicode"),
        ("x" * 11, "text_too_long"),
    ],
)
def test_a_text_that_cannot_be_kept_is_refused_by_name(text: object, code: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        read_text(text, 10)

    assert refused.value.code == code


def test_a_text_is_trimmed_before_it_is_measured() -> None:
    assert read_text("  ten chars.  ", 10) == "ten chars."


@given(ANYTHING)
def test_a_text_that_is_taken_can_be_stored(given_text: object) -> None:
    try:
        text = read_text(given_text, 10)
    except BadRequestError:
        return

    assert text.encode()
    assert text == text.strip()


@given(st.none() | st.text() | st.integers().map(str))
def test_a_page_is_never_empty_nor_huge(limit: str | None) -> None:
    assert 1 <= read_page_size(limit) <= 100


@given(st.none() | st.text() | st.integers().map(str))
def test_a_page_starts_where_the_id_column_can_be(before_id: str | None) -> None:
    start = read_before_id(before_id)

    assert start is None or 0 <= start <= LARGEST_ID + 1


def test_without_a_limit_a_page_has_twenty() -> None:
    assert read_page_size(None) == 20
    assert read_page_size("") == 20
