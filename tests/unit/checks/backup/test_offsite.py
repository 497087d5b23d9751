"""A copy elsewhere is one only when its digest was computed there and is the right one."""

import stat
from pathlib import Path

import pytest

from checks.backup.manifest import Backup, list_backups
from checks.backup.offsite import Destination, copy, parse_destination
from checks.base.errors import CannotMeasure, Misused
from tests.unit.checks.backup.backups import keep_backup

# What ssh does with a command, without the network: the host's name comes after --.
SSH = '#!/bin/sh\nprintf "%s\\n" "$@" > "{seen}"\nwhile [ "$1" != -- ]; do shift; done\n{feed} sh -c "$3"\n'


@pytest.fixture
def backup(tmp_path: Path) -> Backup:
    (tmp_path / "here").mkdir()
    return keep_backup(tmp_path / "here", 1000.0, b"all the rows")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    made = tmp_path / "the other place"
    made.mkdir()
    return made


def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: str = "") -> Path:
    """Put an ssh on PATH that runs its command here; returns the file with its arguments."""
    program, seen = tmp_path / "bin" / "ssh", tmp_path / "seen"
    program.parent.mkdir()
    program.write_text(SSH.format(seen=seen, feed=feed))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return seen


def must_be_copied(backup: Backup, there: Path) -> None:
    assert [kept.manifest for kept in list_backups(there)] == [
        kept.manifest for kept in list_backups(backup.directory)
    ]
    for file in backup.files:
        assert (there / file.name).read_bytes() == file.read_bytes()
    assert {stat.S_IMODE(path.stat().st_mode) for path in there.iterdir()} == {0o600}
    assert len(list(there.iterdir())) == 3


def test_a_directory_gets_the_backup_and_nothing_else(backup: Backup, there: Path) -> None:
    copy(backup, parse_destination(str(there)), 10)

    must_be_copied(backup, there)


def test_another_host_gets_it_over_ssh(
    backup: Backup, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = ssh(tmp_path, monkeypatch)

    copy(backup, Destination(there, "vault.example", "p12", 2222, "/etc/p12/ssh_config"), 10)

    must_be_copied(backup, there)
    words = seen.read_text().splitlines()
    expected = ["-F", "/etc/p12/ssh_config", "-l", "p12", "-p", "2222", "--", "vault.example"]
    assert words[words.index("-F") :][: len(expected)] == expected
    assert "BatchMode=yes" in words


def test_a_copy_again_replaces_the_first(backup: Backup, there: Path) -> None:
    copy(backup, parse_destination(str(there)), 10)
    copy(backup, parse_destination(str(there)), 10)

    must_be_copied(backup, there)


def test_what_arrives_changed_is_removed_and_named(
    backup: Backup, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh(tmp_path, monkeypatch, feed="tr a b |")

    with pytest.raises(
        CannotMeasure, match=r"arrived at vault.example:.* with sha256 .* verified and kept here"
    ):
        copy(backup, Destination(there, "vault.example"), 10)

    assert list(there.iterdir()) == []


def test_a_host_that_refuses_is_quoted(
    backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh(tmp_path, monkeypatch, feed="echo Permission denied >&2; exit 255;")

    with pytest.raises(CannotMeasure, match=r"vault.example:/b failed: Permission denied .*without a copy"):
        copy(backup, Destination(Path("/b"), "vault.example"), 10)


def test_a_directory_that_is_not_there_is_never_made(backup: Backup, tmp_path: Path) -> None:
    with pytest.raises(Misused, match=r"is not there. Mount it or make it"):
        copy(backup, parse_destination(str(tmp_path / "unmounted")), 10)

    assert not (tmp_path / "unmounted").exists()


def test_a_copy_beside_itself_is_none(backup: Backup) -> None:
    with pytest.raises(Misused, match="is where backups are kept already"):
        copy(backup, parse_destination(str(backup.directory)), 10)


def test_a_directory_that_takes_no_more_is_quoted_and_left_without_a_half_copy(
    backup: Backup, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = there.parent / "bin" / "cat"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nhead -c 3; echo cat: No space left on device >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    with pytest.raises(CannotMeasure, match=r"No space left on device.*verified and kept here"):
        copy(backup, parse_destination(str(there)), 10)

    assert list(there.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "relative/path", "ftp://host/path", "ssh://host", "ssh://-oProxy/path", "ssh://a:secret@b/c"]
)
def test_what_is_no_place_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(Misused, match=r"Accepted: an absolute path, or ssh://user@host") as refused:
        parse_destination(text)

    assert "secret" not in str(refused.value)


def test_an_address_is_read(tmp_path: Path) -> None:
    assert parse_destination("ssh://p12@vault:2222/srv/b", "c") == Destination(
        Path("/srv/b"), "vault", "p12", 2222, "c"
    )
    assert parse_destination(str(tmp_path)) == Destination(tmp_path)
