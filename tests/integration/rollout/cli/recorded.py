"""A host whose kit notes how it was called, for what the command line and the playbooks make of words."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.running import CHECKOUT

# What stands on the host: it notes how it was called, and says what it was given.
PROGRAM = f"""#!{sys.executable}
import json, os, pathlib, sys
pathlib.Path(sys.argv[0]).with_name("called").write_text(json.dumps(sys.argv[1:]))
pathlib.Path(sys.argv[0]).with_name("umask").write_text(oct(os.umask(0)))
print(json.dumps({{"changed": False, "say": "said " + " ".join(sys.argv[1:])}}))
"""
HOSTS = """\
all:
  vars:
    {{ansible_connection: local, ansible_python_interpreter: {python}, p12_become: false, p12_root: {root}}}
production: {{hosts: {{balancer-1: {{p12_target: production}}}}}}
balancer: {{hosts: {{balancer-1: }}}}
"""


@dataclass(frozen=True)
class Host:
    """A balancer of production with ``PROGRAM`` where the kit is."""

    home: Path

    def p12(
        self, *verb: str, given: Sequence[str] = (), umask: int = -1, **more: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CHECKOUT / "p12", *verb, "-i", self.home / "hosts.yml", *given],
            env={**os.environ, **more},
            umask=umask,
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self) -> list[str]:
        words: list[str] = json.loads((self.home / "bin" / "called").read_text())
        return words
