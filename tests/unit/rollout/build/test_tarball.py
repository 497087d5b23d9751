"""Tarballs of Python: the same input gives the same bytes, and dependencies are the locked ones."""

import base64
import gzip
import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.build import tarball
from rollout.build.tarball import Platform
from rollout.errors import RolloutError

OURS = Platform(f"{sys.version_info.major}.{sys.version_info.minor}", "x86_64")
PROJECT = """[project]
name = "service"
version = "1"
requires-python = ">=3.11"
dependencies = []
[project.optional-dependencies]
service = ["tiny"]
nothing = []
"""
NAMES = st.text("abcdefgh", min_size=1, max_size=12)


def names_in(*parts: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]


def wheel(directory: Path, content: bytes = b"WORDS = 'tiny'\n") -> str:
    """Write the wheel of a package called tiny and return its SHA-256."""
    info = "tiny-1.0.dist-info"
    files = {
        "tiny.py": content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    records = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for name, data in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*records, f"{info}/RECORD,,", ""]).encode()
    path = directory / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose one dependency is in a directory beside it; nothing asks the network."""
    shelf, tree = tmp_path / "shelf", tmp_path / "tree"
    shelf.mkdir()
    tree.mkdir()
    (tree / "pyproject.toml").write_text(PROJECT)
    (tree / "requirements.lock").write_text(f"tiny==1.0 --hash=sha256:{wheel(shelf)}\n")
    for name, value in (("FIND_LINKS", str(shelf)), ("NO_INDEX", "1"), ("CACHE_DIR", str(tmp_path / "uv"))):
        monkeypatch.setenv(f"UV_{name}", value)
    return tree


@settings(max_examples=30)
@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=5))
def test_what_is_packed_is_unpacked(files: dict[str, bytes]) -> None:
    assert names_in(tarball.pack(files, last=True)) == files


def test_names_longer_than_tars_own_hundred_bytes_are_kept() -> None:
    name = f"lib/{'deep/' * 40}módulo.py"

    assert names_in(tarball.pack({name: b"x"}, last=True)) == {name: b"x"}


def test_two_members_after_each_other_are_one_archive() -> None:
    first, second = tarball.pack({"a": b"1"}, last=False), tarball.pack({"b": b"2"}, last=True)

    assert names_in(first, second) == {"a": b"1", "b": b"2"}


def test_the_order_of_files_does_not_change_the_bytes() -> None:
    assert tarball.pack({"a": b"1", "b": b"2"}, last=True) == tarball.pack({"b": b"2", "a": b"1"}, last=True)


def test_entries_have_no_owner_one_time_and_one_mode() -> None:
    with tarfile.open(fileobj=io.BytesIO(tarball.pack({"a": b"1"}, last=True))) as archive:
        (member,) = archive.getmembers()

    assert (member.uid, member.gid, member.uname, member.mtime, member.mode) == (0, 0, "", 0, 0o644)


def test_links_are_not_packed(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a").write_text("1")
    (tmp_path / "lib" / "b").symlink_to("/etc/hostname")

    assert tarball.files_below(tmp_path, "lib") == {"lib/a": b"1"}


def test_a_composed_tarball_is_named_by_the_hash_of_its_content(tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(tarball.pack({"lib/tiny.py": b""}, last=False))

    digest = tarball.compose(tmp_path / "made.tar.gz", packed, {"lib/app/a.py": b"1"})

    content = (tmp_path / "made.tar.gz").read_bytes()
    assert digest == hashlib.sha256(gzip.decompress(content)).hexdigest()
    assert names_in(content) == {"lib/tiny.py": b"", "lib/app/a.py": b"1"}
    assert not [*tmp_path.glob(".made*")]


def test_dependencies_are_what_their_packages_hold_and_nothing_an_installer_writes(
    tree: Path, tmp_path: Path
) -> None:
    packed = tarball.dependencies(tmp_path / "cache", tree, "service", OURS)

    names = set(names_in(packed.read_bytes(), tarball.pack({}, last=True)))
    assert {"lib/tiny.py", "lib/tiny-1.0.dist-info/METADATA"} <= names
    assert not [name for name in names if name.endswith(("RECORD", "INSTALLER", "REQUESTED", ".pyc"))]


def test_a_kit_brings_its_byte_code(tree: Path, tmp_path: Path) -> None:
    packed = tarball.dependencies(tmp_path / "cache", tree, "service", OURS, with_byte_code=True)

    names = names_in(packed.read_bytes(), tarball.pack({}, last=True))
    assert any(name.startswith("lib/__pycache__/tiny.") for name in names)


@pytest.mark.parametrize("damage", [b"", b"no archive", gzip.compress(b"another", mtime=0)])
def test_kept_dependencies_that_are_not_as_they_were_made_are_made_again(
    tree: Path, tmp_path: Path, damage: bytes
) -> None:
    packed = tarball.dependencies(tmp_path / "cache", tree, "service", OURS)
    before = packed.read_bytes()
    packed.write_bytes(damage)

    assert tarball.dependencies(tmp_path / "cache", tree, "service", OURS).read_bytes() == before


def test_dependencies_are_built_once_a_lock(tree: Path, tmp_path: Path) -> None:
    first = tarball.dependencies(tmp_path / "cache", tree, "service", OURS)
    written = first.stat().st_ino

    assert tarball.dependencies(tmp_path / "cache", tree, "service", OURS) == first
    assert first.stat().st_ino == written


def test_another_lock_extra_python_or_machine_is_another_bundle(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    built = {
        tarball.dependencies(cache, tree, "service", OURS),
        tarball.dependencies(cache, tree, "nothing", OURS),
        tarball.dependencies(cache, tree, "nothing", Platform("3.12", "x86_64")),
        tarball.dependencies(cache, tree, "nothing", Platform(OURS.python, "aarch64")),
    }
    with (tree / "requirements.lock").open("a") as lock:
        lock.write("# newer\n")
    built.add(tarball.dependencies(cache, tree, "nothing", OURS))

    assert len(built) == 5


def test_the_same_dependencies_are_the_same_bytes_wherever_they_are_built(tree: Path, tmp_path: Path) -> None:
    first, second = (
        tarball.dependencies(tmp_path / name, tree, "service", OURS).read_bytes() for name in ("one", "two")
    )

    assert first == second


def test_how_the_engineer_has_set_up_python_does_not_change_the_bytes(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tarball.dependencies(tmp_path / "one", tree, "service", OURS).read_bytes()
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    assert tarball.dependencies(tmp_path / "two", tree, "service", OURS).read_bytes() == plain


def test_a_package_that_is_not_the_locked_one_is_refused_and_nothing_is_kept(
    tree: Path, tmp_path: Path
) -> None:
    wheel(tmp_path / "shelf", b"WORDS = 'something else'\n")

    with pytest.raises(RolloutError, match="dependencies cannot be installed"):
        tarball.dependencies(tmp_path / "cache", tree, "service", OURS)

    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["service.lock"]


def test_a_package_that_cannot_be_had_is_named(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "shelf" / "tiny-1.0-py3-none-any.whl").unlink()

    with pytest.raises(RolloutError, match="tiny") as raised:
        tarball.dependencies(tmp_path / "cache", tree, "service", OURS)

    assert "same command works" in raised.value.hint


def test_scratch_leaves_nothing_behind_even_when_the_work_fails(tmp_path: Path) -> None:
    def failing_work() -> None:
        with tarball.scratch(tmp_path / "cache") as directory:
            (directory / "half").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        failing_work()

    assert [*(tmp_path / "cache").iterdir()] == []
