"""The day an owner moves in, whole: today's service on somebody else's servers, and the kit beside it."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from benchmarks.take_over import story
from tests.elsewhere import SECRETS
from tests.running import wait_for
from tests.take_over import SNAPSHOT, Move, move
from tests.whole_site import QUICK

# What holds the addresses with their passwords, for its owner alone.
PRIVATE = {"secrets.json", "env"}


@pytest.fixture(scope="module")
def moved() -> Iterator[Move]:
    with move(QUICK) as made:
        made.figures = story(made)
        yield made


@pytest.mark.slow
def test_nobody_fails_and_nothing_is_lost_there_back_and_there_again(moved: Move) -> None:
    assert moved.failed_at_the_end == 0, moved.site.failed_requests()
    assert moved.requests > 5000


@pytest.mark.slow
def test_the_providers_snapshot_is_journaled_with_the_backup(moved: Move) -> None:
    entries = moved.site.host("production", "journal")["entries"]

    made = [entry["data"] for entry in entries if entry["event"] == "backup.verified"]
    assert {backup["snapshot"] for backup in made} == {SNAPSHOT}


@pytest.mark.slow
def test_no_password_is_anywhere_but_where_it_is_kept(moved: Move) -> None:
    words = {form.encode() for secret in SECRETS.values() for form in (secret, quote(secret, safe=""))}
    files = [path for path in (moved.site.root / "production").rglob("*") if path.is_file()]

    found = {
        path.name for path in files if path.name not in PRIVATE and any(w in path.read_bytes() for w in words)
    }

    assert not found
    assert {path.stat().st_mode & 0o077 for path in files if path.name in PRIVATE} == {0}


@pytest.mark.slow
def test_triggers_that_todays_service_makes_anew_are_named_by_status(moved: Move) -> None:
    moved.today.close()
    moved.start_today()

    def named() -> bool:
        return "trg_parent_note_guard on view_log" in moved.site.p12("status").stdout

    wait_for(named, "the triggers in status", 60)
    moved.take_triggers_away()
