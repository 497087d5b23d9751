"""The local site is provisioned by itself when it has to be, and taken down, with real processes."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rollout.cli import local_site
from rollout.errors import RolloutError
from tests.integration.rollout.supervised import LISTEN, Machine
from tests.running import CHECKOUT, is_listening, wait_for

DIES = "raise SystemExit('it cannot be')"


@pytest.fixture
def inventory(machine: Machine) -> Path:
    """A site of one host whose kit is this checkout."""
    kit = machine.root / "bin" / "p12"
    kit.parent.mkdir()
    kit.write_text(
        f"#!/bin/sh\nexport P12_ROOT={machine.root} PYTHONPATH={CHECKOUT}\n"
        f'exec {sys.executable} -m rollout host "$@"\n'
    )
    kit.chmod(0o755)
    return site(machine.root, "supervisord")


def site(root: Path, process_manager: str) -> Path:
    host = {
        **{"p12_process_manager": process_manager, "p12_root": str(root), "p12_run": str(root / "run")},
        **{"p12_target": "staging", "p12_secrets_directory": str(root / "secrets")},
    }
    (root / "site").mkdir()
    (root / "site" / "hosts.yml").write_text(json.dumps({"staging": {"hosts": {"here": host}}}))
    return root / "site"


class Playbook:
    """Stands for the playbook ``provision``, which takes minutes; everything around it is real."""

    def __init__(self, does: Callable[[], int] = lambda: 0) -> None:
        self.runs = 0
        self.does = does

    def __call__(self) -> int:
        self.runs += 1
        return self.does()


def test_a_site_is_provisioned_once_and_what_stopped_since_is_started(
    machine: Machine, inventory: Path
) -> None:
    machine.describe("haproxy", LISTEN, machine.port)
    playbook = Playbook()

    first = local_site.provision(inventory, [], playbook, always=False)
    again = local_site.provision(inventory, [], playbook, always=False)

    assert (first, again, playbook.runs) == (0, None, 1)
    wait_for(lambda: is_listening(machine.port), "what was described running")


def test_other_variables_and_a_process_that_cannot_be_started_provision_again(
    machine: Machine, inventory: Path
) -> None:
    playbook = Playbook()
    local_site.provision(inventory, [], playbook, always=False)

    local_site.provision(inventory, ["-e", "p12_threads=4"], playbook, always=False)
    assert playbook.runs == 2

    machine.describe("haproxy", DIES)
    local_site.provision(inventory, ["-e", "p12_threads=4"], playbook, always=False)
    assert playbook.runs == 3


def test_a_release_stops_where_provisioning_did_and_the_next_one_provisions_again(inventory: Path) -> None:
    with pytest.raises(RolloutError, match="Provisioning stopped, so nothing was released"):
        local_site.provision(inventory, [], Playbook(lambda: 2), always=False)

    assert local_site.provision(inventory, [], playbook := Playbook(), always=False) == 0
    assert playbook.runs == 1


def test_down_stops_every_process_and_says_how_many(
    machine: Machine, inventory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.describe("haproxy", LISTEN, machine.port)
    machine.ensure()
    wait_for(lambda: is_listening(machine.port), "the process")

    assert [local_site.down(inventory, purge=False) for _ in range(2)] == [0, 0]

    assert capsys.readouterr().out == "1 process stopped\nnothing was running\n"
    with pytest.raises(ConnectionRefusedError):
        is_listening(machine.port)


def test_purging_removes_what_the_site_wrote_and_nothing_beside_it(
    machine: Machine, inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_site, "CHECKOUT", tmp_path)
    shutil.copy(CHECKOUT / "ansible.cfg", tmp_path)
    (tmp_path / ".p12").mkdir()

    local_site.down(inventory, purge=True)

    assert not machine.root.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["ansible.cfg"]


def test_what_cannot_be_removed_is_named(
    inventory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(local_site, "CHECKOUT", tmp_path)
    shutil.copy(CHECKOUT / "ansible.cfg", tmp_path)
    (tmp_path / ".p12").write_text("no directory, which even root cannot remove as one")

    with pytest.raises(RolloutError, match=rf"^Not removed: {tmp_path}/\.p12: Not a directory\.$"):
        local_site.down(inventory, purge=True)

    assert "is gone" not in capsys.readouterr().out


@pytest.mark.parametrize("purge", [False, True])
def test_a_site_of_real_servers_is_not_taken_down(tmp_path: Path, purge: bool) -> None:
    with pytest.raises(RolloutError, match="is not a local site; only such a site can be taken down"):
        local_site.down(site(tmp_path, "systemd"), purge)

    assert (tmp_path / "site" / "hosts.yml").exists()
