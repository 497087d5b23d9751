"""Where the database is comes from a file, the environment or a prompt; what it holds is never shown."""

from pathlib import Path

import pytest

from checks.adoption.address import address, place, without_password
from checks.base.errors import Misused

URL = "postgresql://ann:geheim@db:5433/notes"


@pytest.fixture(autouse=True)
def nothing_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


def file_with(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "url"
    path.write_text(text)
    path.chmod(mode)
    return path


def typed(_: str) -> str:
    return "postgres://typed@db/notes"


@pytest.mark.parametrize(
    "text", [f"{URL}\n", f"\n  {URL}\n\n", URL.replace("postgresql:", "postgresql+psycopg2:")]
)
def test_a_private_file_with_a_url_is_taken(tmp_path: Path, text: str) -> None:
    assert address(file_with(tmp_path, text)) == URL


def test_the_file_wins_over_the_environment_and_that_over_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert address(None, typed, lambda: True) == "postgresql://typed@db/notes"

    monkeypatch.setenv("DATABASE_URL", "postgresql://exported@db/notes")

    assert address(None, typed, lambda: True) == "postgresql://exported@db/notes"
    assert address(file_with(tmp_path, URL), typed, lambda: True) == URL


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds 0 lines, and not a database's URL"),
        (f"{URL}\n{URL}", "holds 2 lines, and not a database's URL"),
        ("mysql://ann:geheim@db/notes", "holds something else"),
        ("host=db password=geheim", "holds something else"),
        ("postgresql://ann:geheim%zz@db/notes", "is not a DSN"),
        ("postgresql://ann:geheim@db", "names no database"),
        ("postgresql://ann:geheim@db:port/notes/x?geheim", "is not a DSN"),
    ],
)
def test_what_is_no_url_is_refused_and_not_shown(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misused) as refused:
        address(file_with(tmp_path, text))

    assert said in str(refused.value)
    assert "geheim" not in str(refused.value)


def test_a_file_that_others_may_read_is_refused_with_the_command(tmp_path: Path) -> None:
    path = file_with(tmp_path, URL, 0o640)

    with pytest.raises(Misused, match=f"Run: chmod 600 {path}"):
        address(path)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o700)

    with pytest.raises(Misused, match="cannot be read"):
        address(tmp_path / name)


def test_a_url_in_the_files_place_is_refused_and_not_shown() -> None:
    with pytest.raises(Misused, match="Everybody on this machine can read a command line") as refused:
        address(Path(URL))

    assert "geheim" not in str(refused.value)


def test_without_a_terminal_or_an_answer_nothing_is_looked_at() -> None:
    def ended(_: str) -> str:
        raise EOFError

    with pytest.raises(Misused, match="--database-url-file FILE"):
        address(None, typed, lambda: False)
    with pytest.raises(Misused, match="Nothing was typed"):
        address(None, ended, lambda: True)


def test_its_place_is_told_without_the_password() -> None:
    assert place(URL) == {"host": "db", "port": "5433", "dbname": "notes", "user": "ann"}
    assert without_password("FATAL: geheim is wrong", URL) == "FATAL: … is wrong"
