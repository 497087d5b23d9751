"""What the look is started with: the site's word where there is one, and the URL in no command line."""

import argparse
import json
from pathlib import Path

import pytest

from rollout.cli import adopt
from rollout.cli.engineer_verbs import VERBS
from rollout.cli.verb_table import parse
from rollout.errors import RolloutError

URL = "postgresql://ann:geheim@db/notes"
SITE = {"database_url": URL, "today_url": "http://old", "pool_size": 20, "purge_after_days": ""}


def options(*words: str) -> argparse.Namespace:
    verb = VERBS["adopt"]
    return parse("p12 adopt", verb.help, verb.options, words)


def started(*words: str, **site: object) -> tuple[list[str], dict[str, str]]:
    given = options("--check", *words)

    def play() -> int:
        Path(given.hand_over).write_text(json.dumps(SITE | site))
        return 0

    return adopt.look(given, play)


def test_without_a_site_nobody_is_asked_but_the_check_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)

    command, environment = adopt.look(options("--check"), lambda: pytest.fail("a playbook was run"))

    assert command[-2:] == ["--target", "production"]
    assert "DATABASE_URL" not in environment


def test_a_sites_url_goes_into_the_environment_alone() -> None:
    command, environment = started("-i", "mysite")

    assert environment["DATABASE_URL"] == URL
    assert "geheim" not in " ".join(command)
    assert command[command.index("--wanted") + 1] == "23"
    assert command[command.index("--today-url") + 1] == "http://old"


def test_what_is_typed_wins_over_the_site() -> None:
    command, _ = started("-i", "mysite", "--database-url-file", "/f", "--today-url", "http://new", "--json")

    assert command[command.index("--database-url-file") + 1] == "/f"
    assert command[command.index("--today-url") + 1] == "http://new"
    assert "--json" in command


def test_what_the_site_handed_over_is_gone_afterwards() -> None:
    given = options("--check", "-i", "mysite")

    adopt.look(given, lambda: Path(given.hand_over).write_text(json.dumps(SITE)) * 0)

    assert not Path(given.hand_over).exists()


def test_a_site_that_does_not_say_stops_it_with_what_to_set() -> None:
    with pytest.raises(RolloutError, match="The site does not say what runs today") as stopped:
        adopt.look(options("--check", "-i", "mysite"), lambda: 2)

    assert "p12_database_url_direct" in stopped.value.hint


def test_a_url_that_is_typed_where_none_belongs_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("--check", URL)

    assert "geheim" not in capsys.readouterr().err
