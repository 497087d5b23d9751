"""What the words of maintenance mean is decided once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rollout.cli import engineer_verbs
from rollout.errors import Refused
from rollout.steps import maintenance
from rollout.target.target import Target

# Words that do not switch writes need nothing of the target but whose its database is.
NOBODY: Any = SimpleNamespace(target=Target("production", Path(), {}))
ELSEWHERE: Any = SimpleNamespace(target=Target("production", Path(), {"database_elsewhere": True}))


def left(words: str, dry_run: bool = False) -> dict[str, Any]:
    return maintenance.begin(NOBODY, words.split(), None, dry_run)


@pytest.mark.parametrize(
    ("words", "apply", "restart"),
    [
        ("apply", True, ["restart", "postgres"]),
        ("restart postgres", False, ["restart", "postgres", "--forced"]),
        ("restart pgbouncer", False, ["restart", "pgbouncer"]),
    ],
)
def test_the_database_host_is_left_its_part(words: str, apply: bool, restart: list[str]) -> None:
    assert left(words) == {"apply": apply, "restart": restart}


@pytest.mark.parametrize("words", ["apply", "restart postgres", "restart pgbouncer"])
def test_somebody_elses_servers_are_not_restarted(words: str) -> None:
    with pytest.raises(Refused, match=r"production: its Postgres is somebody else's.*nothing was changed"):
        maintenance.begin(ELSEWHERE, words.split(), None, False)

    assert maintenance.begin(ELSEWHERE, ["on"], None, True) == {"apply": False, "restart": []}


def test_a_dry_run_switches_nothing() -> None:
    assert left("on", dry_run=True) == {"apply": False, "restart": []}


@pytest.mark.parametrize("words", ["on staging", "restart", "restart redis", "postgres", "of"])
def test_stray_words_are_named_for_they_would_do_nothing(words: str) -> None:
    with pytest.raises(Refused, match=f"does not know '{words}', so nothing was done") as refused:
        left(words)

    assert "Accepted: apply, restart postgres, restart pgbouncer, on, off." in str(refused.value)
    assert refused.value.hint == "./p12 --help"


def test_the_command_offers_just_these_words() -> None:
    offered = [name.partition(" ")[2] for name in engineer_verbs.VERBS if name.startswith("maintenance ")]

    assert offered == list(maintenance.RESTARTS)
