"""The migrations of a whole release, read without a database and judged."""

import json
from pathlib import Path

import pytest

from checks.__main__ import main
from checks.base.errors import CannotMeasure, Misused
from checks.migrations.cli import annotations
from checks.migrations.judge import judge
from tests.running import CHECKOUT

PLAIN = "CREATE TABLE notes (id integer, likes integer)"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "app/store/migrations/versions").mkdir(parents=True)
    migration(tmp_path, "0001", None, PLAIN)
    return tmp_path


def migration(tree: Path, revision: str, before: str | None, *statements: str) -> None:
    head = f"from alembic import op\nrevision, down_revision = {revision!r}, {before!r}\ndef upgrade():\n"
    body = "".join(f"    op.execute({statement!r})\n" for statement in statements)
    (tree / f"app/store/migrations/versions/{revision}.py").write_text(head + body)


def test_every_migration_of_this_service_leaves_the_release_before_running() -> None:
    _, judged = judge(CHECKOUT)

    assert len(judged) >= 3
    assert not [str(refusal) for migration in judged for refusal in migration.refusals]


def test_a_later_migration_is_judged_by_what_the_one_before_made(tree: Path) -> None:
    migration(tree, "0002", "0001", "CREATE INDEX extra ON notes (likes)")

    head, (first, second) = judge(tree)

    assert head == "0002"
    assert not first.refusals
    assert [refusal.why for refusal in second.refusals] == ["writers of notes wait until it is built"]


def test_what_the_schema_in_service_has_not_got_is_in_nobodys_way(tree: Path) -> None:
    migration(tree, "0002", "0001", "CREATE TABLE kinds (id integer)")
    migration(tree, "0003", "0002", "CREATE INDEX extra ON kinds (id)")

    (third,) = judge(tree, live="0002")[1]
    assert third.refusals

    assert not [found for judged in judge(tree, live="0001")[1] for found in judged.refusals]


def test_squawk_is_asked_as_well(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migration(tree, "0002", "0001", "ALTER TABLE notes DROP COLUMN likes")
    monkeypatch.setattr("checks.migrations.rules.refusals", lambda *_: [])

    (found,) = judge(tree, live="0001")[1][0].refusals

    assert "(ban-drop-column)" in found.why


def test_a_judge_that_is_missing_is_no_pass(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tree / "python"))

    with pytest.raises(CannotMeasure):
        judge(tree)


def test_two_heads_are_named(tree: Path) -> None:
    migration(tree, "0002", "0001", PLAIN)
    migration(tree, "0003", "0001", PLAIN)

    with pytest.raises(CannotMeasure, match="there must be one head, and there are 2: 0002, 0003"):
        judge(tree)


def test_a_schema_that_is_none_is_named_with_those_there_are(tree: Path) -> None:
    with pytest.raises(Misused, match=r"0009 is not a migration of this release\. Accepted: 0001\."):
        judge(tree, live="0009")


def test_the_command_fails_with_the_file_the_statement_and_the_way(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    migration(tree, "0002", "0001", "UPDATE notes SET likes = 0")

    status = main(["migrations", f"--tree={tree}", "--json"])

    report = json.loads(capsys.readouterr().out)
    assert status == 3
    assert report["findings"][1]["measured"] == 1
    assert report["findings"][1]["hint"] == (
        "app/store/migrations/versions/0002.py: UPDATE notes SET likes = 0: the release before reads likes "
        "of notes. Instead: fill a new column."
    )


def test_an_annotation_is_one_line_whatever_a_statement_holds(tree: Path) -> None:
    migration(tree, "0002", "0001", "UPDATE notes SET likes = 0 -- 100%\n::error::")

    (line,) = annotations(judge(tree, live="0001")[1])

    assert line.startswith("::error file=app/store/migrations/versions/0002.py,title=")
    assert line.count("\n") == 1
