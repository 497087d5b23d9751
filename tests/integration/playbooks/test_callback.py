"""What a stopped playbook says has colours on a terminal, and is plain everywhere else."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import CHECKOUT

STOPS = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.command:
        argv: [/nowhere/bin/p12, production, status]
      ignore_errors: "{{ is_provisioned | default(true) }}"
    - ansible.builtin.command:
        argv: [echo, '{"say": "it was seen", "more": 1}']
    - ansible.builtin.command:
        argv: [echo, '{"say": ["one line", "another"]}']
    - ansible.builtin.command:
        argv: [sh, -c, 'echo "{\\"error\\": \\"it was seen\\", \\"hint\\": \\"./p12 status\\"}"; exit 1']
"""


def said(tmp_path: Path, *words: str, errors_on_terminal: bool = False, **environment: str) -> str:
    """What a person reads of a playbook that stops, standard output being a terminal."""
    (tmp_path / "stops.yml").write_text(STOPS)
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"localhost": host}}}))
    configured = {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "TERM": "xterm"}
    playbook = ["-i", tmp_path / "hosts.yml", tmp_path / "stops.yml", *words]
    terminal, end = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ansible.cli.playbook", *playbook],
            env={**os.environ, **configured, **environment},
            stdout=end,
            stderr=end if errors_on_terminal else subprocess.PIPE,
            check=False,
        )
        assert done.returncode == 2
        return os.read(terminal, 65536).decode() if errors_on_terminal else done.stderr.decode()
    finally:
        os.close(end)
        os.close(terminal)


@pytest.mark.parametrize(
    ("errors_on_terminal", "environment", "coloured"),
    [(True, {}, True), (True, {"NO_COLOR": "1"}, False), (False, {}, False)],
)
def test_only_a_terminal_that_wants_colours_gets_them(
    tmp_path: Path, errors_on_terminal: bool, environment: dict[str, str], coloured: bool
) -> None:
    text = said(tmp_path, errors_on_terminal=errors_on_terminal, **environment)

    assert "stopped  it was seen" in text
    assert f"next     ./p12 status -i {tmp_path / 'hosts.yml'}" in text
    assert ("\x1b[" in text) is coloured


def test_a_host_that_was_never_provisioned_says_what_to_type(tmp_path: Path) -> None:
    text = said(tmp_path, "-e", '{"is_provisioned": false}')

    assert "stopped  localhost has no kit yet." in text
    assert "next     ./p12 provision -i " in text
