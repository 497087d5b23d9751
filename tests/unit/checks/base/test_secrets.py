"""Secrets come from the environment or a private file."""

from pathlib import Path

import pytest

from checks.base import secrets
from checks.base.errors import Misused


def test_a_secret_file_is_read_as_a_shell_would(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# said 'so'\nA='with space'\nB=plain\nexport C='c'\n\n")
    file.chmod(0o600)

    assert secrets.read(file) == {"A": "with space", "B": "plain", "C": "c"}


def test_a_secret_that_is_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P12_REHEARSAL_SECRET", raising=False)
    file = tmp_path / "env"
    file.touch(mode=0o600)

    with pytest.raises(Misused, match=r"neither in .* nor exported"):
        secrets.secret("P12_REHEARSAL_SECRET", file)
    with pytest.raises(Misused, match="cannot be read"):
        secrets.secret("P12_REHEARSAL_SECRET", tmp_path / "absent")
