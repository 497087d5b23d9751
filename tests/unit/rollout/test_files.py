"""Files that survive a crash, locks that die with their holder, and tarballs that nobody trusts."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rollout.errors import Refused
from rollout.files import file_lock, read_json, unpack, write_bytes, write_json

HOLDER = """
import sys
from pathlib import Path
from rollout.files import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
REWRITER = """
import sys
from pathlib import Path
from rollout.files import write_json
for number in range(int(sys.argv[2])):
    write_json(Path(sys.argv[1]), {"numbers": [number] * 2000})
"""


def held_elsewhere(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, None, "é"]})

    assert read_json(tmp_path / "a.json") == {"b": [1, None, "é"]}


def test_a_missing_file_is_none_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "damaged.json").write_text("{")

    assert read_json(tmp_path / "missing.json") is None
    with pytest.raises(json.JSONDecodeError):
        read_json(tmp_path / "damaged.json")


def test_a_file_is_private_unless_told_otherwise(tmp_path: Path) -> None:
    write_bytes(tmp_path / "private", b"x")
    write_bytes(tmp_path / "open", b"x", 0o644)

    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o644 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "file", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "file", b"new")

    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"a": 1})

    with pytest.raises(TypeError):
        write_json(tmp_path / "file", {"a": object()})

    assert read_json(tmp_path / "file") == {"a": 1}


def test_a_reader_beside_writers_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_json(path, {"numbers": [0] * 2000})
    command = [sys.executable, "-c", REWRITER, str(path), "60"]
    writers = [subprocess.Popen(command) for _ in range(2)]

    while any(writer.poll() is None for writer in writers):
        assert len(set(read_json(path)["numbers"])) == 1

    assert [writer.wait() for writer in writers] == [0, 0]


def test_a_held_lock_refuses_after_the_wait_and_names_its_holder(tmp_path: Path) -> None:
    holder = held_elsewhere(tmp_path / "lock")
    words = rf"lock has been locked for 0\.05 s by another p12 \(pid {holder.pid}\)"

    with pytest.raises(Refused, match=words), file_lock(tmp_path / "lock", wait_seconds=0.05):
        pass

    end(holder)


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    end(held_elsewhere(tmp_path / "lock"))

    with file_lock(tmp_path / "lock", wait_seconds=0):
        pass


def test_a_waiter_gets_the_lock_when_it_is_let_go(tmp_path: Path) -> None:
    holder = held_elsewhere(tmp_path / "lock")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "lock")],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as waiter:  # fmt: skip
        end(holder)
        assert waiter.stdout
        assert waiter.stdout.readline() == "held\n"
        waiter.kill()


def test_a_lock_is_let_go_when_its_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), file_lock(tmp_path / "lock"):
        raise KeyError

    with file_lock(tmp_path / "lock", wait_seconds=0):
        pass


def test_two_locks_in_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock"), pytest.raises(Refused), file_lock(tmp_path / "lock", wait_seconds=0):
        pass


# Tarballs are unpacked whole and plain, or not at all.


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def archive(*entries: tarfile.TarInfo) -> tarfile.TarFile:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as made:
        for one in entries:
            one.size = 5 if one.isreg() else 0
            made.addfile(one, io.BytesIO(b"hello"))
    content.seek(0)
    return tarfile.open(fileobj=content)


def test_files_and_directories_are_unpacked_below_the_destination(tmp_path: Path) -> None:
    with archive(member("lib", tarfile.DIRTYPE), member("lib/app/a.py"), member("b.txt")) as made:
        unpack(made, tmp_path / "new" / "place")

    assert (tmp_path / "new" / "place" / "lib" / "app" / "a.py").read_text() == "hello"
    assert (tmp_path / "new" / "place" / "b.txt").read_text() == "hello"


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/p12"),
        member("../p12"),
        member("lib/../../p12"),
        member("link", tarfile.SYMTYPE, "/etc"),
        member("link", tarfile.LNKTYPE, "b.txt"),
        member("null", tarfile.CHRTYPE),
        member("disk", tarfile.BLKTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: f"{bad.name} {bad.linkname}".strip(),
)
def test_anything_else_is_refused_by_name_and_nothing_is_unpacked(
    tmp_path: Path, bad: tarfile.TarInfo
) -> None:
    with archive(member("b.txt"), bad) as made, pytest.raises(tarfile.TarError, match=bad.name):
        unpack(made, tmp_path / "place")

    assert [*tmp_path.iterdir()] == []


def test_nothing_is_executable_writable_by_others_or_runs_as_its_owner(tmp_path: Path) -> None:
    with archive(member("lib", tarfile.DIRTYPE, mode=0o777), member("lib/a", mode=0o6777)) as made:
        unpack(made, tmp_path / "place")

    assert (tmp_path / "place" / "lib").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "place" / "lib" / "a").stat().st_mode & 0o7777 == 0o644


def test_files_belong_to_who_unpacks_whatever_the_tarball_says(tmp_path: Path) -> None:
    foreign = member("a")
    foreign.uid = foreign.gid = 4711
    foreign.uname = foreign.gname = "nobody"
    with archive(foreign) as made:
        unpack(made, tmp_path / "place")

    owner = (tmp_path / "place" / "a").stat()
    assert (owner.st_uid, owner.st_gid) == (os.geteuid(), os.getegid())
