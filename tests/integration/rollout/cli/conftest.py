"""A site of one recorded host, and one of a real target."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.rollout.cli.recorded import HOSTS, PROGRAM, Host
from tests.integration.rollout.steered import Steered
from tests.running import CHECKOUT

# The real kit, which at its preflight does what a test says, holding the lock.
KIT = f"""#!/bin/sh
export P12_ROOT={{root}} PYTHONPATH={CHECKOUT}
if [ "$2" = preflight ] && [ -e {{root}}/hang ]; then echo $$ >{{root}}/hangs; exec sleep 60; fi
exec {sys.executable} -m rollout host "$@"
"""
AWAY = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "hosts.yml").write_text(HOSTS.format(python=sys.executable, root=tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "p12").write_text(PROGRAM)
    (tmp_path / "bin" / "p12").chmod(0o755)
    return Host(tmp_path)


@pytest.fixture
def site(live: Steered) -> Callable[..., list[str]]:
    """Make a site of the target; returns the command that releases there."""

    def make(*hosts_away: str, **more: str) -> list[str]:
        live.save_settings()
        for name in ("hang", "hangs"):
            (live.home / name).unlink(missing_ok=True)
        (live.home / "bin").mkdir(exist_ok=True)
        kit = live.home / "bin" / "p12"
        kit.write_text(KIT.format(root=live.home))
        kit.chmod(0o755)
        host = {
            **{"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
            **{"p12_become": False, "p12_root": str(live.home), "p12_target": "production", **more},
        }
        hosts = {"balancer-1": host}
        away = {name: {**host, **AWAY} for name in hosts_away}
        groups = {"production": {"hosts": {**hosts, **away}}, "balancer": {"hosts": {"balancer-1": None}}}
        (live.home / "site.yml").write_text(json.dumps({"all": {"children": groups}}))
        return [str(CHECKOUT / "p12"), "release", "-i", str(live.home / "site.yml")]

    return make
