"""Nobody replaces a database without typing its target's name."""

import argparse
from typing import Any

import pytest

from rollout.cli import engineer
from rollout.cli.restore_options import restore_over
from rollout.errors import Refused


class Playing:
    """Stands in for the playbook, and keeps how it was asked."""

    def __init__(self, options: argparse.Namespace, status: int = 0) -> None:
        self.options, self.status = options, status
        self.asked: list[tuple[bool, str]] = []

    def __call__(self) -> int:
        self.asked.append((self.options.ask, self.options.confirm))
        return self.status


def given(**changes: Any) -> argparse.Namespace:
    return argparse.Namespace(
        inventory="",
        **{"target": "production", "backup": "b1", "confirm": "", "ask": False, "identity": ""} | changes,
    )


def test_what_would_be_lost_is_shown_before_the_name_is_asked_for() -> None:
    options = given()
    playing = Playing(options)

    assert restore_over(options, playing, lambda _: "production ", lambda: True) == 0

    assert playing.asked == [(True, ""), (False, "production")]


@pytest.mark.parametrize("typed", ["", "yes", "staging", "Production"])
def test_another_word_changes_nothing(typed: str) -> None:
    options = given()
    playing = Playing(options)

    with pytest.raises(Refused, match="Nothing was changed"):
        restore_over(options, playing, lambda _: typed, lambda: True)

    assert playing.asked == [(True, "")]


def test_without_a_terminal_it_is_refused_with_what_to_type() -> None:
    options = given()
    playing = Playing(options)

    with pytest.raises(Refused, match="nobody is there to confirm it") as refused:
        restore_over(options, playing, lambda _: "production", lambda: False)

    assert refused.value.hint.endswith("--backup b1 --over --confirm production")
    assert playing.asked == []


@pytest.mark.parametrize(("confirm", "backup"), [("staging", "b1"), ("production", "")])
def test_a_wrong_confirmation_or_no_backup_reaches_no_playbook(confirm: str, backup: str) -> None:
    options = given(confirm=confirm, backup=backup)
    playing = Playing(options)

    with pytest.raises(Refused, match="Nothing was changed"):
        restore_over(options, playing, lambda _: "production", lambda: True)

    assert playing.asked == []


def test_a_restore_that_stopped_says_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    options = given(confirm="production")

    assert restore_over(options, Playing(options, 2)) == 2

    assert "./p12 status" in capsys.readouterr().err


def test_the_end_of_the_input_at_the_question_is_a_refusal() -> None:
    def closed(_: str) -> str:
        raise EOFError

    playing = Playing(options := given())
    with pytest.raises(Refused, match="Nothing was typed, so nothing was changed") as refused:
        restore_over(options, playing, closed, lambda: True)

    assert refused.value.hint.endswith("--backup b1 --over")
    assert playing.asked == [(True, "")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--into x", "--into needs --backup ID"),
        ("--confirm production", "--confirm needs --backup ID and --over"),
        ("--backup b --skip-backup", "--backup does not go with --skip-backup"),
        ("--over --backup b --into x", "--over does not go with --into"),
        ("--over --backup b --drop x", "--over does not go with --drop"),
        ("--drop x --backup b --into y", "--drop does not go with --backup and --into"),
        ("--give-up --backup b", "--give-up does not go with --backup"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused_with_what_is_accepted(
    capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    assert engineer.main(["restore", *words.split()]) == 5

    refused = capsys.readouterr().err
    assert f"{said}" in refused
    assert "Nothing was changed.\nnext     " in refused
