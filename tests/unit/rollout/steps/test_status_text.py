"""What an engineer sees on one screen."""

import time
from typing import Any

import pytest

from rollout.steps.status_text import status_text, summary_text

OLD, NEW = "a" * 12, "b" * 12


def slot(release: str, raised: tuple[str, ...] = (), proven: bool = True) -> dict[str, Any]:
    flags = {"P12_READ_ONLY": "0", "P12_ENABLE_VIEW_QUEUE": "0"} | dict.fromkeys(raised, "1")
    return {
        "release": release,
        "proven": proven,
        "generation": 7,
        "flags": flags,
        "raised": [*raised],
    }


def instance(
    name: str, release: str | None = OLD, error: str | None = None, up: bool = True
) -> dict[str, Any]:
    of = name.split("-")[0]
    return {"name": name, "slot": of, "up": up, "release": release, "generation": 7, "error": error}


def verdict(check: str, said: str = "passed") -> dict[str, Any]:
    return {"check": check, "verdict": said, "summary": f"production: {check}: {said}", "at": 1.0}


def answer(**changes: Any) -> dict[str, Any]:
    quiet: dict[str, Any] = {
        "target": "production",
        "address": "http://127.0.0.1:12200",
        "live": {"slot": "blue", "release": OLD},
        "shares": {"blue": 100, "green": 0},
        "balancer_error": "",
        "slots": {"blue": slot(OLD), "green": None},
        "instances": [instance("blue-1.local"), instance("green-1.local", None, "refused", up=False)],
        "rollout": None,
        "lock": None,
        "window": None,
        "verdicts": [],
        "backup": None,
        "quarantined": {},
        "guard": {"at": time.time(), "pid": 1, "window": None},
        "visitors": None,
    }
    return quiet | changes


def line(text: str, start: str) -> str:
    (found,) = [one for one in text.splitlines() if one.strip().startswith(start)]
    return " ".join(found.split())


def test_the_first_line_says_what_serves_where() -> None:
    first = status_text(answer()).splitlines()[0]

    assert first.split() == ["production", OLD, "(blue)", "http://127.0.0.1:12200"]


def test_before_the_first_release_nothing_is_live_and_nothing_is_made_up() -> None:
    empty = answer(live={"slot": None, "release": None}, shares={"blue": 0, "green": 0}, guard=None,
                   slots={"blue": None, "green": None})  # fmt: skip

    text = status_text(empty)

    assert "nothing is live yet" in text
    assert "local" not in text
    assert line(text, "guard") == "guard has never run: ./p12 provision"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"blue": [None]}, "purge never: notes that expired or were removed stay (p12_purge_after_days)"),
        (
            {"blue": [30], "green": [None]},
            "purge gone notes are deleted for good after 30 d (blue), never (green) (p12_purge_after_days)",
        ),
        (
            {"blue": [None, 7]},
            "purge gone notes are deleted for good never or after 7 d (blue) (p12_purge_after_days)",
        ),
    ],
)
def test_it_says_which_slots_worker_deletes_notes_for_good(
    told: dict[str, list[int | None]], said: str
) -> None:
    assert line(status_text(answer(purge_after_days=told)), "purge") == said


def test_a_release_that_does_not_tell_when_it_purges_is_not_spoken_for() -> None:
    assert "purge" not in status_text(answer(purge_after_days={}))


def test_each_slot_shows_share_release_generation_and_raised_flags() -> None:
    text = status_text(
        answer(
            shares={"blue": 75, "green": 25},
            slots={"blue": slot(OLD), "green": slot(NEW, ("P12_READ_ONLY",))},
        )
    )

    assert line(text, "blue ") == f"blue 75 % {OLD} flags 7, no flag raised"
    assert line(text, "green ") == f"green 25 % {NEW} flags 7, P12_READ_ONLY"


def test_a_slot_that_is_not_proven_says_so() -> None:
    text = status_text(answer(slots={"blue": slot(OLD), "green": slot(NEW, proven=False)}))

    assert line(text, "green ").endswith("not proven")


def test_instances_of_an_empty_slot_are_not_worth_a_line() -> None:
    assert "green-1.local" not in status_text(answer())


def test_an_instance_that_does_not_answer_is_named_with_the_reason() -> None:
    dead = [instance("blue-1.local", None, "Connection refused", up=False), instance("blue-2.local")]

    text = status_text(answer(instances=dead))

    assert line(text, "blue-1") == "blue-1.local down Connection refused"
    assert line(text, "blue-2") == f"blue-2.local up {OLD} flags 7"


def test_an_instance_with_a_bad_flags_file_shows_what_is_wrong() -> None:
    text = status_text(answer(instances=[instance("blue-1.local", error="flags file: bad_document")]))

    assert line(text, "blue-1").endswith("flags file: bad_document")


def test_a_balancer_that_does_not_answer_is_not_taken_for_no_traffic_and_no_instances() -> None:
    away = answer(
        live={"slot": None, "release": None},
        shares=None,
        balancer_error="HAProxy does not answer on /run/p12.sock.",
        instances=[instance("blue-1.local", up=None)],
    )

    text = status_text(away)

    assert line(text, "production") == "production unknown: HAProxy does not answer http://127.0.0.1:12200"
    assert line(text, "balancer") == "balancer HAProxy does not answer on /run/p12.sock."
    assert line(text, "blue ") == f"blue ? % {OLD} flags 7, no flag raised"
    assert line(text, "blue-1") == f"blue-1.local ? {OLD} flags 7"


@pytest.mark.parametrize(
    ("ended", "shown"), [("", "at 25 %"), ("finished", "finished"), ("rolled back", "rolled back")]
)
def test_a_rollout_shows_where_it_stands(ended: str, shown: str) -> None:
    text = status_text(answer(rollout={"release": NEW, "share": 25, "ended": ended}))

    assert line(text, "rollout") == f"rollout {NEW} {shown}"


WINDOW = {"id": "w1", "kind": "step", "share": 5, "opened_at": 0.0, "claim": "it sees a lot"}


def test_an_open_window_shows_its_share_and_age_and_what_it_can_see() -> None:
    text = status_text(answer(window=WINDOW | {"opened_at": time.time() - 125}))

    assert line(text, "window") == "window step at 5 %, open for 2 min"
    assert "it sees a lot" in text


def test_an_open_window_shows_how_it_stands_and_what_it_waits_for() -> None:
    standing = {
        "requests": 12,
        "errors": 1,
        "watched_seconds": 7.5,
        "evidence": "errors: new 1 of 12, old 0 of 40; evidence 0.9, fails at 4.61",
        "waiting_for": ["needs about 60 more requests, 30 s at this rate", "requests 12 (limit >= 200)"],
    }
    beat = {"at": time.time(), "pid": 1, "window": "w1", "standing": standing, "database_error": "no route"}

    shown = status_text(answer(window=WINDOW, guard=beat))

    assert "\n              errors: new 1 of 12, old 0 of 40; evidence 0.9, fails at 4.61\n" in shown
    assert "to pass, still needs: about 60 more requests, 30 s at this rate" in shown
    assert "12 requests, 1 errors in 7.5 watched seconds" in shown
    assert "to pass, still needs: requests 12 (limit >= 200)" in shown
    assert "the database cannot be read: no route" in shown
    assert "watched seconds" not in status_text(answer(window=WINDOW | {"id": "w2"}, guard=beat))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (3 * 86400, "3 d"), (-9, "0 s")],
)
def test_a_lock_shows_its_owner_and_for_how_long(seconds: float, shown: str) -> None:
    text = status_text(answer(lock={"owner": "ann@desk", "since": time.time() - seconds - 0.2}))

    assert line(text, "lock") == f"lock ann@desk for {shown}"


def test_no_lock_is_a_free_one() -> None:
    assert line(status_text(answer()), "lock") == "lock free"


def test_a_guard_that_went_silent_is_not_shown_as_watching() -> None:
    beside = answer(window=WINDOW)
    assert line(status_text(answer()), "guard") == "guard alive, no window open"
    assert line(status_text(beside), "guard") == "guard watching the window at 5 %"

    silent = status_text(answer(guard={"at": time.time() - 130, "pid": 1, "window": None}))

    assert line(silent, "guard") == "guard has been silent for 2 min (limit 15 s): ./p12 provision"


def test_a_restore_that_is_under_way_says_what_to_type() -> None:
    open_one = {"id": 7, "backup": "b1", "begun_at": 1.0, "ended": ""}

    said = line(status_text(answer(restoration=open_one)), "restore")

    assert "./p12 restore --backup b1 --over" in said
    assert "./p12 restore --give-up" in said
    assert "under way" not in status_text(answer(restoration=open_one | {"ended": "done"}))


def test_a_quarantined_release_shows_why() -> None:
    assert (
        line(status_text(answer(quarantined={NEW: "it's slow"})), "quarantine")
        == f"quarantine {NEW}: it's slow"
    )


def test_a_backup_shows_its_name_and_age() -> None:
    text = status_text(answer(backup={"id": "20260101", "at": time.time() - 3700}))

    assert line(text, "backup") == "backup 20260101, verified 1 h ago"


@pytest.mark.parametrize(("said", "mark"), [("passed", "✓"), ("failed", "✗"), ("unknown", "?")])
def test_every_verdict_has_a_mark_of_its_own(said: str, mark: str) -> None:
    assert f"{mark} burst" in status_text(answer(verdicts=[verdict("burst", said)]))
    assert f"{mark} burst" in summary_text(answer(verdicts=[verdict("burst", said)]))


def test_visitors_show_what_they_asked_and_what_failed() -> None:
    seen = {"requests": 1234, "failed": 0}

    assert line(status_text(answer(visitors=seen)), "visitors") == "visitors 1234 requests, 0 failed"
    assert line(summary_text(answer(visitors=seen)), "visitors") == "visitors: 1234 requests, 0 failed"


def test_failed_visitors_are_told_by_release_and_apart_from_read_only_time() -> None:
    seen = {"requests": 99, "failed": 5, "failed_by": {OLD: 3, NEW: 1}, "read_only": 40}

    told = f"visitors 99 requests, 5 failed (3 of {OLD}, 1 of {NEW}); 40 refused while read-only"
    assert line(status_text(answer(visitors=seen)), "visitors") == told


def test_a_summary_ends_with_the_release_its_address_and_the_way_back() -> None:
    last = summary_text(answer()).splitlines()[-2:]

    assert last == [f"  production: {OLD} at http://127.0.0.1:12200", "  back again with: ./p12 rollback"]


def test_a_summary_of_a_first_release_promises_no_way_back() -> None:
    first = {"release": OLD, "share": 100, "ended": "finished", "from_slot": None}

    last = summary_text(answer(rollout=first)).splitlines()[-1]

    assert last.startswith(
        "  there is no way back from a first release; its flags go off with: ./p12 rollback --flags-only"
    )


def test_where_there_was_nothing_to_lose_no_backup_is_called_verified() -> None:
    backup = {"id": "b1", "at": time.time(), "nothing_to_lose": True}

    assert (
        line(status_text(answer(backup=backup)), "backup") == "backup b1, there was nothing to lose 0 s ago"
    )
