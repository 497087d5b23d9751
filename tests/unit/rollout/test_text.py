"""Words that several rooms say in the same way."""

import pytest

from rollout.text import aimed, count_text, one_line, size_text


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 kB"), (38_400, "38 kB"), (79_840_000, "79.8 MB"), (1_204_000_000, "1204 MB")]
)
def test_a_size_is_said_in_the_unit_that_shows_it(size: int, said: str) -> None:
    assert size_text(size) == said


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("50 % é 😀 👩\u200d🚒", "50 % é 😀 👩\u200d🚒"),
        ("a\nstopped  b\r", "a\\nstopped  b\\r"),
        ("\x1b[2J \x9b1A \x7f", "\\x1b[2J \\x9b1A \\x7f"),
        ("\u202egnp.exe\u2028", "\\u202egnp.exe\\u2028"),
    ],
)
def test_what_was_typed_neither_begins_a_line_nor_steers_a_terminal(typed: str, shown: str) -> None:
    assert one_line(typed) == shown


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        (
            "Wait for it, or when that engineer is gone: ./p12 lock break --why '…'",
            "Wait for it, or when that engineer is gone: ./p12 lock break --target staging --why '…'",
        ),
        ("./p12 rollback", "./p12 rollback --target staging"),
        ("See them: ./p12 flags", "See them: ./p12 flags --target staging"),
        ("./p12 status; its log: ./p12 evidence", "./p12 status; its log: ./p12 evidence --target staging"),
        ("./p12 restore --backup a --target staging", "./p12 restore --backup a --target staging"),
        ("./p12 maintenance restart postgres", "./p12 maintenance restart postgres --target staging"),
        ("Prove it in staging: ./p12 verify", "Prove it in staging: ./p12 verify"),
        ("Go on with it: ./p12 release --branch a", "Go on with it: ./p12 deploy --branch a"),
    ],
)
def test_a_hint_works_on_the_target_that_it_is_about(hint: str, shown: str) -> None:
    assert aimed(hint, "staging") == shown


def test_one_is_no_plural() -> None:
    said = [count_text(number, "instance") for number in (0, 1, 2)]

    assert said == ["0 instances", "1 instance", "2 instances"]
