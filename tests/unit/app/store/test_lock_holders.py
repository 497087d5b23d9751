"""Who holds a lock is told without the values in a query."""

import pytest

from app.store.lock_holders import Holder, shown, told


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT *\n  FROM notes WHERE id = 73", "SELECT * FROM notes WHERE id = ?"),
        ("UPDATE notes SET text = 'secret ''x'' 1'", "UPDATE notes SET text = '?''?''?'"),
        ("SELECT 1.5, note_2, $1", "SELECT ?, note_2, $1"),
        (r"SELECT E'a\' secret'", "SELECT E…"),
        ("SELECT $tag$secret$tag$", "SELECT …"),
        ("SELECT 1 -- secret", "SELECT ? …"),
        ("SELECT /* secret */ 1", "SELECT …"),
        ("SELECT \"it's\", 'secret'", "SELECT …"),
        ("INSERT INTO notes VALUES ('cut sec", "INSERT INTO notes VALUES (…"),
    ],
)
def test_a_query_is_shown_in_one_line_without_its_values(query: str, expected: str) -> None:
    assert shown(query) == expected


def test_a_long_query_is_cut() -> None:
    assert len(shown("SELECT a, " * 100)) == 200


def test_a_session_that_nothing_may_be_known_of_is_told_all_the_same() -> None:
    hidden = Holder(7, "ana", "", "", "", "", "", "ShareLock on transactionid")
    prepared = Holder(0, "", "", "", "", "", "", "")

    assert told((hidden, prepared)) == (
        "ShareLock on transactionid is held by pid 7 (ana): its query is not ours to see, and 1 more"
    )
    assert "pg_prepared_xacts" in told((prepared,))
    assert "nobody was seen" in told(())
