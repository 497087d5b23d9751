"""What Ansible is started with."""

import pytest

from rollout.cli.controller_environment import CHECKOUT, KEPT, for_ansible


@pytest.mark.parametrize(
    "name",
    [
        *("LANG", "LC_CTYPE", "PGSSLMODE", "PGOPTIONS", "PGSERVICE", "GIT_DIR", "GIT_CONFIG_COUNT"),
        *("PYTHONHOME", "PYTHONSTARTUP", "PYTHONWARNINGS", "LD_PRELOAD", "BASH_ENV"),
        *("ANSIBLE_REMOTE_USER", "ANSIBLE_FORCE_HANDLERS", "ANSIBLE_STDOUT_CALLBACK", "P12_OUTPUT"),
    ],
)
def test_what_somebody_has_set_does_not_reach_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")

    assert name not in for_ansible()


def test_what_is_ours_is_ours_whatever_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "PYTHONPATH", "ANSIBLE_CONFIG", "P12_CHECKOUT"):
        monkeypatch.setenv(name, "x")

    made = for_ansible()

    assert made["LC_ALL"] == "C.UTF-8"
    assert made["PYTHONPATH"] == made["P12_CHECKOUT"] == str(CHECKOUT)
    assert made["ANSIBLE_CONFIG"] == str(CHECKOUT / "ansible.cfg")


@pytest.mark.parametrize("name", [name for name in KEPT if name != "HOME"])
def test_what_reaches_hosts_vault_and_registries_is_kept(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")

    assert for_ansible()[name] == "x"
