"""Which of the owner's files are served, and which are refused before they are shipped."""

import os
from pathlib import Path

import pytest

from app import public_files
from app.public_files import LARGEST_BYTES, kind_of, problems, read


@pytest.fixture
def owners(tmp_path: Path) -> Path:
    made = tmp_path / "public"
    for name in ("terms.html", "ads.txt", "logo.png", "images/a/b.webp", ".well-known/security.txt"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    (made / ".well-known" / "acme-challenge").mkdir()
    (made / ".well-known/acme-challenge/token_1-x").write_text("token")
    (tmp_path / "secret.txt").write_text("secret")
    return made


def test_what_the_owner_has_is_served_as_what_it_is(owners: Path) -> None:
    kinds = {name: found.kind for name in ("terms.html", "ads.txt", "logo.png", "images/a/b.webp")
             if (found := read(str(owners), name))}  # fmt: skip

    assert kinds == {
        "terms.html": "text/html; charset=utf-8",
        "ads.txt": "text/plain; charset=utf-8",
        "logo.png": "image/png",
        "images/a/b.webp": "image/webp",
    }
    assert read(str(owners), ".well-known/acme-challenge/token_1-x") is not None
    assert list(problems(owners)) == []
    assert public_files.main([str(owners)]) == 0


def test_what_a_directory_holds_has_a_name(owners: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = set()
    for name in ("ads.txt", "ads.txt", "images/new.png"):
        assert public_files.main(["--digest", str(owners)]) == 0
        names.add(capsys.readouterr().out.strip())
        (owners / name).write_text("other")

    assert len(names) == 2
    assert all(len(name) == 12 for name in names)


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.txt", ".well-known/../../secret.txt", ".well-known//etc/passwd", "images/../ads.txt"),
        *("/etc/passwd", "secret.txt", ".env", "images/.hidden.png", "images/page.html", "app.js", ""),
        *(".well-known/a\0b.txt", ".well-known/a\\b.txt", ".well-known/run.php", "images/x.png/", "images"),
    ],
)
def test_every_other_path_is_nobodys(owners: Path, name: str) -> None:
    assert kind_of(name) == ""
    assert read(str(owners), name) is None


def test_a_link_out_is_not_followed_and_one_within_is(owners: Path) -> None:
    (owners / "robots.txt").symlink_to(owners.parent / "secret.txt")
    (owners / "images/out").symlink_to(owners.parent)
    (owners / "favicon.ico").symlink_to("logo.png")

    assert read(str(owners), "robots.txt") is None
    assert (read(str(owners), "favicon.ico") or [b""])[0] == b"logo.png"
    assert list(problems(owners)) == [
        "images/out is of no name or type that is served.",
        "robots.txt is a link to what lies outside.",
    ]


def test_what_is_too_large_or_no_file_is_not_served_and_is_named(owners: Path) -> None:
    with (owners / "big.png").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    os.mkfifo(owners / "favicon.ico")

    assert read(str(owners), "big.png") is None
    assert read(str(owners), "favicon.ico") is None
    assert list(problems(owners)) == [
        f"big.png has {LARGEST_BYTES + 1} bytes (limit {LARGEST_BYTES}).",
        "favicon.ico is no plain file.",
    ]


def test_a_directory_that_is_none_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert public_files.main([str(tmp_path / "gone")]) == 1
    assert "is no directory" in capsys.readouterr().out
