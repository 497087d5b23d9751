"""What a target's releases are told as: from its own journal, what that replaced, and the guard's minutes."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from checks.window.minutes import Minute
from checks.window.streams import Block
from rollout.cli.engineer import main
from rollout.guard.history import report
from rollout.guard.minutes import KeptMinutes
from rollout.steps.rollout import finish
from tests.integration.rollout.steered import NEW, OLD, Steered, document_of


def test_a_release_that_was_turned_back_is_told_with_who_and_who_failed_meanwhile(live: Steered) -> None:
    live.offer(NEW)
    live.shift(NEW, 5)
    began = live.steering.journal.entries()[-1].at
    block = Block(began)
    block.judged |= {("blue", "GET /"): 90.0, ("green", "GET /"): 10.0}
    block.good |= {("blue", "GET /"): 90.0, ("green", "GET /"): 7.0}
    KeptMinutes(live.target).write(Minute(int(began // 60) * 60, 60.0, "", block))
    live.roll_back("errors")

    status, answer = live.host("history")

    assert status == 0
    first, second = answer["releases"]
    assert (first["release"], first["outcome"]) == (OLD, "good")
    assert (second["release"], second["outcome"]) == (NEW, "turned back")
    assert second["visitors"] == {"requests": 100, "failed": 3, "failed_on_it": 3, "minutes": 1}
    assert answer["dora"]["change_failure_percent"] == 50.0
    assert "bob@tower" in answer["say"]
    assert "3 of 100 requests failed meanwhile, 3 of them on it" in answer["say"]


def test_a_journal_that_was_damaged_and_replaced_goes_on_being_told(live: Steered) -> None:
    path = live.steering.journal.path
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:-1], lines[-1][:-9] + b'damaged"}', b""]))

    assert "damaged" in report(live.steering)["damaged"]

    live.steering.journal.replace_damaged("ann", "damaged")
    answer = report(live.steering)

    assert [story["release"] for story in answer["releases"]] == [OLD]
    assert answer["damaged"] == ""


def test_how_long_a_commit_took_is_known_of_a_release_whose_commits_time_came_with_it(live: Steered) -> None:
    live.offer(NEW)
    told = {**document_of(NEW), "committed_at": int(time.time()) - 3600, "branch": "main"}

    status, _ = live.host("prove", f"--token={live.token}", told=told)

    assert status == 0
    assert live.steering.journal.entries()[-1].data["committed_at"] == told["committed_at"]
    live.shift_unwatched(NEW, 100)
    live.settings["admission"] = False
    finish(live.steering, NEW, live.token)
    assert report(live.steering)["dora"]["lead_time_seconds"] == pytest.approx(3600, abs=120)


def test_since_a_time_only_what_came_after_it_is_shown(live: Steered) -> None:
    entries = live.steering.journal.entries()
    old = [replace(entry, at=entry.at - 7200) for entry in entries]
    live.steering.journal.path.unlink()
    for entry in old:
        live.steering.journal.clock = lambda at=entry.at: at
        live.steering.journal.append(entry.owner, entry.event, **entry.data)
    live.steering.journal.clock = time.time
    live.offer(NEW)

    told = live.host("journal", "--since=1h")[1]
    everything = live.host("journal")[1]

    assert len(everything["entries"]) == len(old) + len(told["entries"]) > len(told["entries"]) > 0
    assert f"{len(told['entries'])} entries of the journal; times are UTC" in told["say"]
    assert "slot.claimed" in told["say"]
    assert [story["release"] for story in live.host("history", "--since", "1h")[1]["releases"]] == [NEW]
    assert json.dumps(told).count("flags' secret") == 0


def test_what_is_no_time_is_refused_in_words(live: Steered) -> None:
    status, answer = live.host("history", "--since=yesterday")

    assert (status != 0, answer["error"]) == (True, "'yesterday' is no time.")


def test_an_exported_journal_is_verified_without_its_host_until_a_byte_of_it_changes(
    live: Steered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "journal.jsonl"
    content = live.steering.journal.path.read_bytes()
    copy.write_bytes(content)
    last = live.steering.journal.entries()[-1]

    assert main(["journal", "--verify", str(copy)]) == 0
    assert (
        f"{last.seq} entries of the journal, the whole chain holds, to {last.hash[:12]}"
        in capsys.readouterr().out
    )

    copy.write_bytes(content.replace(OLD.encode(), NEW.encode(), 1))
    assert main(["journal", "--verify", str(copy)]) != 0
    assert "was altered or damaged" in capsys.readouterr().err

    copy.write_bytes(b"")
    assert main(["journal", "--verify", str(copy)]) != 0
