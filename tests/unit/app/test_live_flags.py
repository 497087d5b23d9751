"""The flags file: seen at once, replaced as a whole, and harmless when bad."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app
from app.flags import LEGACY_VIEW, READ_ONLY, VIEW_QUEUE, RefusedDocumentError
from app.live_flags import LiveFlags, StaleGenerationError, is_signed, signature


def document(generation: int, slot: str = "blue", **flags: str) -> bytes:
    content = {"target": "staging", "slot": slot, "generation": generation, "flags": flags}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


REPLACEMENTS = 500
WRITER = """
import json, sys
from app.live_flags import LiveFlags
path, last = sys.argv[1], int(sys.argv[2])
live = LiveFlags(path, "staging", "blue", {})
for generation in range(1, last + 1):
    flags = {"P12_ENABLE_VIEW_QUEUE": f"{generation % 100}%"}
    content = {"target": "staging", "slot": "blue", "generation": generation, "flags": flags}
    live.replace(json.dumps(content).encode())
"""
IMPORTS_APP = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[1])}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flags.json"


@pytest.fixture
def live(path: Path) -> LiveFlags:
    return LiveFlags(str(path), "staging", "blue", {LEGACY_VIEW: "0"})


def test_without_a_file_the_environment_and_the_defaults_rule(live: LiveFlags) -> None:
    found = live.current()

    assert (found.generation, found.sha256, live.error, live.trusted) == (0, None, None, True)
    assert (found.source[LEGACY_VIEW], found.source[VIEW_QUEUE]) == ("environment", "default")


def test_a_file_put_there_is_seen_by_the_next_request(live: LiveFlags, path: Path) -> None:
    live.current()

    path.write_bytes(document(1, **{VIEW_QUEUE: "1"}))

    assert live.current().on(VIEW_QUEUE, 1)
    assert live.current().sha256 == hashlib.sha256(document(1, **{VIEW_QUEUE: "1"})).hexdigest()


@pytest.mark.parametrize(
    "bad", [b"{", document(2, slot="green"), document(2, P12_NEW="1"), document(2, **{READ_ONLY: "5%"})]
)
def test_a_bad_file_keeps_the_last_good_set_and_says_so(live: LiveFlags, path: Path, bad: bytes) -> None:
    live.replace(document(1, **{VIEW_QUEUE: "1"}))

    path.write_bytes(bad)

    assert live.current().generation == 1
    assert live.current().on(VIEW_QUEUE, 1)
    assert str(live.error).startswith("flags file: ")
    assert live.trusted


def test_a_file_that_was_bad_from_the_start_is_not_trusted(live: LiveFlags, path: Path) -> None:
    path.write_bytes(b"nonsense")

    assert live.current().generation == 0
    assert not live.trusted


def test_a_file_that_vanished_keeps_the_last_good_set_and_has_no_digest(live: LiveFlags, path: Path) -> None:
    live.replace(document(1, **{VIEW_QUEUE: "1"}))

    path.unlink()

    assert live.current().on(VIEW_QUEUE, 1)
    assert live.current().sha256 is None
    assert live.error == "flags file is missing"


def test_a_vanished_file_is_healed_by_pushing_the_same_document_again(live: LiveFlags, path: Path) -> None:
    live.replace(document(1, **{VIEW_QUEUE: "1"}))
    path.unlink()

    live.replace(document(1, **{VIEW_QUEUE: "1"}))

    assert path.read_bytes() == document(1, **{VIEW_QUEUE: "1"})
    assert live.error is None


def test_a_document_is_written_as_its_own_bytes_for_its_owner_only(live: LiveFlags, path: Path) -> None:
    found = live.replace(document(7, **{VIEW_QUEUE: "25%"}))

    assert path.read_bytes() == document(7, **{VIEW_QUEUE: "25%"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert found.generation == 7
    assert sorted(p.name for p in path.parent.iterdir()) == ["flags.json", "flags.json.lock"]


def test_the_same_document_again_is_accepted_and_writes_nothing(live: LiveFlags, path: Path) -> None:
    live.replace(document(7))
    inode = path.stat().st_ino

    live.replace(document(7))

    assert path.stat().st_ino == inode


@pytest.mark.parametrize("late", [document(6), document(7, **{VIEW_QUEUE: "1"})])
def test_a_generation_that_is_not_higher_is_stale(live: LiveFlags, path: Path, late: bytes) -> None:
    live.replace(document(7))

    with pytest.raises(StaleGenerationError) as stale:
        live.replace(late)

    assert stale.value.generation == 7
    assert path.read_bytes() == document(7)


def test_a_refused_document_changes_nothing(live: LiveFlags, path: Path) -> None:
    live.replace(document(7))

    with pytest.raises(RefusedDocumentError):
        live.replace(document(8, P12_ENABLE_MAGIC="1"))

    assert path.read_bytes() == document(7)


def test_another_process_of_the_slot_sees_what_one_of_them_wrote(live: LiveFlags, path: Path) -> None:
    other = LiveFlags(str(path), "staging", "blue", {})
    live.replace(document(1))
    other.current()

    for generation in range(2, 302):
        live.replace(document(generation, **{VIEW_QUEUE: f"{generation % 100}%"}))

        assert other.current().values[VIEW_QUEUE] == f"{generation % 100}%"


def test_two_documents_between_two_looks_are_not_taken_for_none(live: LiveFlags, path: Path) -> None:
    other = LiveFlags(str(path), "staging", "blue", {})

    # The second one often gets the inode of the one that was looked at, and in the same tick of the clock.
    for generation in range(11, 99, 2):
        live.replace(document(generation))
        live.replace(document(generation + 1))

        assert other.current().generation == generation + 1


def test_a_reader_of_a_file_that_is_replaced_without_a_pause_goes_forward_only_and_ends_at_the_last(
    live: LiveFlags, path: Path
) -> None:
    seen = []
    errors = set()

    with subprocess.Popen([sys.executable, "-c", WRITER, path, str(REPLACEMENTS)], env=IMPORTS_APP) as writer:
        while writer.poll() is None:
            seen.append(live.current())
            errors.add(live.error)

    assert writer.returncode == 0
    # A half-written document would be one.
    assert errors == {None}
    generations = [found.generation for found in seen]
    assert generations == sorted(generations)
    assert all(found.values[VIEW_QUEUE] == f"{found.generation % 100}%" for found in seen if found.generation)
    # A reader that hardly ever met a replacement would prove nothing.
    assert len(set(generations)) > REPLACEMENTS / 20
    assert (live.current().generation, live.error) == (REPLACEMENTS, None)
    assert live.current().sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_writers_at_once_leave_the_highest_generation(path: Path) -> None:
    def push(generation: int) -> None:
        mine = LiveFlags(str(path), "staging", "blue", {})
        try:
            mine.replace(document(generation))
        except StaleGenerationError:
            return

    pushes = [threading.Thread(target=push, args=(generation,)) for generation in range(1, 25)]
    for thread in pushes:
        thread.start()
    for thread in pushes:
        thread.join()

    assert json.loads(path.read_bytes())["generation"] == 24


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    live: LiveFlags, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.replace(document(1))

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        live.replace(document(2))

    assert path.read_bytes() == document(1)
    assert sorted(p.name for p in path.parent.iterdir()) == ["flags.json", "flags.json.lock"]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_generations_only_rise_in_whatever_order_they_come(tmp_path: Path, order: list[int]) -> None:
    path = tmp_path / f"flags{len(list(tmp_path.iterdir()))}"
    live = LiveFlags(str(path), "staging", "blue", {})
    seen = []

    for generation in order:
        with contextlib.suppress(StaleGenerationError):
            live.replace(document(generation))
        seen.append(live.current().generation)

    assert seen == sorted(seen)
    assert seen[-1] == max(order)


def test_without_a_file_to_write_a_document_is_refused() -> None:
    with pytest.raises(RefusedDocumentError, match="P12_FLAGS_FILE"):
        LiveFlags("", "staging", "blue", {}).replace(document(1))


def test_a_signature_is_of_these_bytes_and_this_secret() -> None:
    body = document(1)

    assert is_signed("secret", body, signature("secret", body))
    assert not is_signed("secret", body + b" ", signature("secret", body))
    assert not is_signed("other", body, signature("secret", body))
    assert not is_signed("secret", body, "sha256=é")


def test_without_a_secret_nothing_is_signed() -> None:
    assert not is_signed("", document(1), signature("", document(1)))
