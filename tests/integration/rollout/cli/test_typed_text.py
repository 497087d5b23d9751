"""Text that people type, from the command line through the real playbooks to a host: data all the way."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import CHECKOUT

# What stands on the host: it notes how it was called, and says what it was given.
PROGRAM = f"""#!{sys.executable}
import json, pathlib, sys
pathlib.Path(sys.argv[0]).with_name("called").write_text(json.dumps(sys.argv[1:]))
print(json.dumps({{"changed": False, "say": "said " + " ".join(sys.argv[1:])}}))
"""
HOSTS = """\
all:
  vars:
    {{ansible_connection: local, ansible_python_interpreter: {python}, p12_become: false, p12_root: {root}}}
production: {{hosts: {{balancer-1: {{p12_target: production}}}}}}
balancer: {{hosts: {{balancer-1: }}}}
"""
SHARP = """it's "slow" {{ $labels.instance }} {{ 7*7 }} {% if x %} {# y #} !unsafe @/etc/passwd --why=--help
$HOME `id` ; $(id) 😀 \\ # = \x1b[2J\x9b1A"""


@dataclass(frozen=True)
class Host:
    """A balancer of production with ``PROGRAM`` where the kit is."""

    home: Path

    def p12(self, *verb: str, given: Sequence[str] = (), **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CHECKOUT / "p12", *verb, "-i", self.home / "hosts.yml", *given],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self) -> list[str]:
        words: list[str] = json.loads((self.home / "bin" / "called").read_text())
        return words


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "hosts.yml").write_text(HOSTS.format(python=sys.executable, root=tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "p12").write_text(PROGRAM)
    (tmp_path / "bin" / "p12").chmod(0o755)
    return Host(tmp_path)


def test_a_reason_and_a_name_reach_the_host_as_they_are_and_run_nothing(host: Host) -> None:
    probe = host.home / "probe"
    why = f"""{SHARP} {{{{ lookup("pipe", "id > {probe}") }}}}"""

    done = host.p12("rollback", given=["--why", why], USER="ann {{ 7*7 }}")

    assert done.returncode == 0, done.stderr
    assert host.called() == ["production", "rollback", "--owner=ann {{ 7*7 }}", f"--why={why}"]
    assert not probe.exists()


def test_what_is_shown_of_it_steers_no_terminal(host: Host) -> None:
    done = host.p12("rollback", given=["--why", SHARP])

    assert "\\x1b[2J\\x9b1A" in done.stdout
    assert not {"\x1b", "\x9b"} & set(done.stdout + done.stderr)


def test_names_are_no_options_of_the_host(host: Host) -> None:
    names = ["--", "--owner=eve", "P12_{{ 7*7 }} $HOME B"]

    done = host.p12("flags", "off", "--slot=blue", given=names, USER="ann")

    assert done.returncode == 0, done.stderr
    assert host.called() == ["production", "flags", "off", "--owner=ann", "--slot=blue", *names]


def test_a_branch_is_looked_for_under_exactly_its_name(host: Host) -> None:
    done = host.p12("deploy", "--branch", "fix{{7*7}}$HOME")

    assert done.returncode != 0
    assert "fix{{7*7}}$HOME is not a branch, tag or commit here" in done.stderr
