"""Tarballs are unpacked whole and plain, or not at all."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from rollout.unpacking import unpack


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
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
    with archive(entry("lib", tarfile.DIRTYPE), entry("lib/app/a.py"), entry("b.txt")) as made:
        unpack(made, tmp_path / "new" / "place")

    assert (tmp_path / "new" / "place" / "lib" / "app" / "a.py").read_text() == "hello"
    assert (tmp_path / "new" / "place" / "b.txt").read_text() == "hello"


@pytest.mark.parametrize(
    "bad",
    [
        entry("/etc/p12"),
        entry("../p12"),
        entry("lib/../../p12"),
        entry("link", tarfile.SYMTYPE, "/etc"),
        entry("link", tarfile.LNKTYPE, "b.txt"),
        entry("null", tarfile.CHRTYPE),
        entry("disk", tarfile.BLKTYPE),
        entry("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: f"{bad.name} {bad.linkname}".strip(),
)
def test_anything_else_is_refused_by_name_and_nothing_is_unpacked(
    tmp_path: Path, bad: tarfile.TarInfo
) -> None:
    with archive(entry("b.txt"), bad) as made, pytest.raises(tarfile.TarError, match=bad.name):
        unpack(made, tmp_path / "place")

    assert [*tmp_path.iterdir()] == []


def test_nothing_is_executable_writable_by_others_or_runs_as_its_owner(tmp_path: Path) -> None:
    with archive(entry("lib", tarfile.DIRTYPE, mode=0o777), entry("lib/a", mode=0o6777)) as made:
        unpack(made, tmp_path / "place")

    assert (tmp_path / "place" / "lib").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "place" / "lib" / "a").stat().st_mode & 0o7777 == 0o644


def test_files_belong_to_who_unpacks_whatever_the_tarball_says(tmp_path: Path) -> None:
    foreign = entry("a")
    foreign.uid = foreign.gid = 4711
    foreign.uname = foreign.gname = "nobody"
    with archive(foreign) as made:
        unpack(made, tmp_path / "place")

    owner = (tmp_path / "place" / "a").stat()
    assert (owner.st_uid, owner.st_gid) == (os.geteuid(), os.getegid())
