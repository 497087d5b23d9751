"""A site of one recorded host."""

import sys
from pathlib import Path

import pytest

from tests.integration.rollout.cli.recorded import HOSTS, PROGRAM, Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "hosts.yml").write_text(HOSTS.format(python=sys.executable, root=tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "p12").write_text(PROGRAM)
    (tmp_path / "bin" / "p12").chmod(0o755)
    return Host(tmp_path)
