"""Releases on an app host: unpacked whole, pointed at in one step, pruned with care."""

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rollout.errors import Refused, RolloutError
from rollout.host import slot
from rollout.target.target import Target
from tests.running import free_port

OLD, NEW, NEXT = "a" * 12, "b" * 12, "c" * 12


@pytest.fixture
def target(tmp_path: Path) -> Target:
    for name in ("releases", "artifacts", "slots/blue", "slots/green", "log"):
        (tmp_path / name).mkdir(parents=True)
    return Target("production", tmp_path, {"instances": [], "python": sys.executable})


def artifact(target: Target, release: str, links: bool = False) -> tuple[Path, str]:
    """Write an artifact as it arrives on a host; return it and the SHA-256 it was built with."""
    content = json.dumps({"release": release}).encode()
    path = target.directory / "artifacts" / f"{release}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("lib/app/RELEASE.json")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
        if links:
            entry = tarfile.TarInfo("lib/app/link")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(entry)
    digest = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    return path.rename(path.with_name(f"{release}-{digest[:12]}.tar.gz")), digest


def install(target: Target, into: str, release: str) -> dict[str, object]:
    path, digest = artifact(target, release)
    return slot.install(target, into, path, digest, release)


def running(target: Target, slot: str) -> str:
    found = (target.directory / "slots" / slot / "release" / "lib/app/RELEASE.json").read_text()
    return str(json.loads(found)["release"])


def test_installing_unpacks_and_points_the_slot_at_it(target: Target) -> None:
    answer = install(target, "blue", NEW)

    assert answer["changed"]
    assert running(target, "blue") == NEW


def test_installing_again_changes_nothing(target: Target) -> None:
    path, digest = artifact(target, NEW)

    changed = [slot.install(target, "blue", path, digest, NEW)["changed"] for _ in range(2)]

    assert changed == [True, False]


def test_a_slot_can_be_pointed_at_another_release_and_back(target: Target) -> None:
    install(target, "blue", OLD)
    install(target, "blue", NEW)
    assert running(target, "blue") == NEW

    install(target, "blue", OLD)

    assert running(target, "blue") == OLD


def test_the_other_slot_is_left_alone(target: Target) -> None:
    install(target, "blue", OLD)
    install(target, "green", NEW)

    assert running(target, "blue") == OLD


def test_what_was_damaged_on_the_way_is_refused_and_nothing_is_unpacked(target: Target) -> None:
    path, digest = artifact(target, NEW)
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(Refused, match=r"not .* as built") as raised:
        slot.install(target, "blue", path, digest, NEW)

    assert "same command" in raised.value.hint
    assert not [*(target.directory / "releases").iterdir()]


def test_another_artifact_under_the_name_is_refused(target: Target) -> None:
    path, digest = artifact(target, NEW)
    path.write_bytes(gzip.compress(b"another"))

    with pytest.raises(Refused, match=r"has sha256 .* as built"):
        slot.install(target, "blue", path, digest, NEW)


def test_a_release_is_compiled_before_it_starts_with_the_paths_it_will_have(target: Target) -> None:
    path = target.directory / "artifacts" / "code.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("lib/app/words.py")
        entry.size = len(code := b"WORDS = 1\n")
        archive.addfile(entry, io.BytesIO(code))
    digest = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()

    installed = Path(str(slot.install(target, "blue", path, digest, NEW)["directory"]))

    (compiled,) = (installed / "lib/app/__pycache__").glob("words.*.pyc")
    assert str(installed / "lib/app/words.py").encode() in compiled.read_bytes()


def test_what_did_not_arrive_is_an_error_that_names_it(target: Target) -> None:
    missing = target.directory / "artifacts" / "missing.tar.gz"

    with pytest.raises(RolloutError, match=r"missing\.tar\.gz cannot be read"):
        slot.install(target, "blue", missing, "d" * 64, NEW)


def test_an_artifact_with_links_is_refused_and_nothing_half_unpacked_stays(target: Target) -> None:
    path, digest = artifact(target, NEW, links=True)

    with pytest.raises(RolloutError, match="cannot be unpacked"):
        slot.install(target, "blue", path, digest, NEW)

    assert not [*(target.directory / "releases").iterdir()]


def test_what_a_killed_installation_left_is_removed_by_the_next(target: Target) -> None:
    path, digest = artifact(target, NEW)
    left = target.directory / "releases" / f".{NEW}-{digest[:12]}.4711"
    left.mkdir()

    slot.install(target, "blue", path, digest, NEW)

    assert not left.exists()
    assert running(target, "blue") == NEW


def test_pruning_keeps_what_is_named_and_what_a_slot_points_at(target: Target) -> None:
    install(target, "blue", OLD)
    install(target, "green", NEXT)
    install(target, "green", NEW)

    removed = slot.prune(target, [OLD])

    assert [name.split("-")[0] for name in removed] == [NEXT]
    assert (running(target, "blue"), running(target, "green")) == (OLD, NEW)


def test_pruning_with_an_empty_list_never_takes_what_a_slot_points_at(target: Target) -> None:
    install(target, "blue", OLD)
    install(target, "green", NEW)

    assert not slot.prune(target, [""])

    assert (running(target, "blue"), running(target, "green")) == (OLD, NEW)


def test_pruning_takes_the_artifacts_of_what_is_gone(target: Target) -> None:
    install(target, "green", NEXT)
    install(target, "green", NEW)

    slot.prune(target, [NEW])

    left = [path.name.split("-")[0] for path in (target.directory / "artifacts").iterdir()]
    assert left == [NEW]


def test_pruning_leaves_what_is_not_a_release_alone(target: Target) -> None:
    (target.directory / "releases" / "notes").mkdir()

    slot.prune(target, [])

    assert (target.directory / "releases" / "notes").exists()


def test_a_log_is_shown_from_its_end_and_a_missing_one_says_so(target: Target) -> None:
    lines = [f"line {number}" for number in range(100)]
    (target.directory / "log" / "blue-1.local.log").write_text("\n".join(lines))

    assert slot.log_tail(target, "blue-1.local").splitlines()[-1] == "  line 99"
    assert "no log" in slot.log_tail(target, "blue-2.local")


def test_instances_of_a_host_that_has_none_are_never_ready(target: Target) -> None:
    with pytest.raises(RolloutError, match="no instance"):
        slot.await_instances(target, "blue", NEW, "local", 0)


def test_an_instance_that_ends_again_and_again_is_not_waited_for(target: Target) -> None:
    port = free_port()
    target.settings["instances"].append(
        {"name": "blue-1.local", "slot": "blue", "address": "127.0.0.1", "port": port}
    )
    program = "import socket, time; s = socket.create_server(('127.0.0.1', %d)); time.sleep(0.7)"
    restarted = [sys.executable, "-c", program % port]
    with subprocess.Popen(
        ["sh", "-c", 'for _ in 1 2 3 4 5 6 7 8; do "$@" 2>/dev/null; done', "sh", *restarted],
        start_new_session=True,
    ) as again:
        try:
            with pytest.raises(RolloutError, match="was started 4 times"):
                slot.await_instances(target, "blue", NEW, "local", 60)
        finally:
            os.killpg(again.pid, signal.SIGKILL)
