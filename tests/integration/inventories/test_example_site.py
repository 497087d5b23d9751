"""The template for real servers is read as Ansible reads it, so what it says is true."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.running import CHECKOUT

EXAMPLE = CHECKOUT / "inventories" / "example"
PLAYBOOKS = CHECKOUT / "playbooks"
VARIABLE_FILES = sorted(EXAMPLE.glob("group_vars/*/*.y*ml*"))
SECRETS = {"database", "monitor", "redis", "flags", "rehearsal", "fingerprint_salt"}
# Asks Ansible itself whether a host's variables are what its roles accept, and writes them resolved.
PROBE = """
- hosts: staging:production
  gather_facts: false
  tasks:
    - ansible.builtin.validate_argument_spec:
        argument_spec: "{{ item }}"
      loop: "{{ probed_specs }}"
      loop_control: {label: one role}
    - ansible.builtin.copy:
        content: "{{ dict(probed_names | zip(query('vars', *probed_names, default=''))) | to_json }}"
        dest: "{{ probed_out }}/{{ inventory_hostname }}.json"
        mode: "0600"
      delegate_to: localhost
      connection: local
      become: false
"""


def run(*words: str | Path, cwd: Path = CHECKOUT, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def ansible(*words: str | Path, **environment: str) -> str:
    return run(sys.executable, "-P", "-m", "ansible", *words, **environment)


def documented_commands() -> str:
    """Return the commands that vault.yml.example tells an engineer to type, up to the encryption."""
    lines = (EXAMPLE / "group_vars/staging/vault.yml.example").read_text().splitlines()
    typed = "\n".join(line.removeprefix("#   ") for line in lines if line.startswith("#   "))
    return typed[typed.index("for place") : typed.index("ansible-vault")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the template with its secrets made as the template says."""
    copy = tmp_path_factory.mktemp("sites") / "site"
    shutil.copytree(EXAMPLE, copy)
    run("sh", "-euc", documented_commands(), cwd=copy / "group_vars")
    return copy


@pytest.fixture(scope="module")
def inventory(site: Path) -> Mapping[str, Any]:
    """What ansible-inventory makes of it."""
    listed: Mapping[str, Any] = json.loads(ansible("inventory", "-i", site, "--list"))
    return listed


@pytest.fixture(scope="module")
def resolved(
    site: Path, inventory: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Mapping[str, Any]]:
    """Every host's variables with their templates resolved, once all roles have accepted them."""
    place = tmp_path_factory.mktemp("probe")
    (place / "probe.yml").write_text(PROBE)
    names = {name for host in inventory["_meta"]["hostvars"].values() for name in host if name[:4] == "p12_"}
    described = [specs(role) for role in roles()]
    given = {"probed_specs": described, "probed_names": sorted(names), "probed_out": str(place)}
    ansible("playbook", "-i", site, "-e", json.dumps(given), place / "probe.yml")
    return {path.stem: json.loads(path.read_text()) for path in place.glob("*.json")}


def roles() -> list[str]:
    """The roles that make a host ready; what the others need, playbooks give them."""
    play = yaml.safe_load((PLAYBOOKS / "provision.yml").read_text())[0]
    return [entry["role"] for entry in play["roles"]]


def specs(role: str) -> dict[str, Any]:
    found = yaml.safe_load((PLAYBOOKS / "roles" / role / "meta" / "argument_specs.yml").read_text())
    return {n: o for entry in found["argument_specs"].values() for n, o in entry["options"].items()}


def known() -> set[str]:
    """Every variable that a role accepts or a playbook reads."""
    read = {name for path in PLAYBOOKS.glob("*.yml") for name in re.findall(r"\bp12_\w+", path.read_text())}
    return read | {name for path in (PLAYBOOKS / "roles").iterdir() for name in specs(path.name)}


def test_every_variable_of_the_template_is_one_that_a_role_accepts(inventory: Mapping[str, Any]) -> None:
    used = {name for host in inventory["_meta"]["hostvars"].values() for name in host if name[:4] == "p12_"}
    assert used - known() == set()


def test_every_required_variable_is_set_for_every_host(inventory: Mapping[str, Any]) -> None:
    required = {name for role in roles() for name, option in specs(role).items() if option.get("required")}
    hosts = inventory["_meta"]["hostvars"]
    assert {name: missing for name in hosts if (missing := required - set(hosts[name]))} == {}


def test_every_role_accepts_what_the_template_gives_it(resolved: Mapping[str, Mapping[str, Any]]) -> None:
    assert len(resolved) == 7
    assert all(set(host["p12_secrets"]) == SECRETS for host in resolved.values())


def test_only_hosts_of_a_target_may_connect_to_its_database(
    resolved: Mapping[str, Mapping[str, Any]],
) -> None:
    networks = resolved["production-database-1"]["p12_postgres_allow"]
    assert networks == [f"{address}/32" for address in ("127.0.0.1", *sorted(addresses("production")))]
    assert resolved["staging-1"]["p12_postgres_allow"] == ["127.0.0.1/32", "10.20.0.10/32"]


def test_hosts_find_each_other_by_their_own_addresses(resolved: Mapping[str, Mapping[str, Any]]) -> None:
    app = resolved["production-app-2"]
    assert app["p12_balancer_addresses"] == ["10.20.1.10"]
    assert app["p12_app_address"] == "10.20.1.22"
    assert app["p12_pgbouncer_host"] == app["p12_database_address"] == "10.20.1.30"
    assert app["p12_redis_host"] == "10.20.1.40"


def test_targets_share_no_secret(resolved: Mapping[str, Mapping[str, Any]]) -> None:
    staging, production = (resolved[n]["p12_secrets"] for n in ("staging-1", "production-app-1"))
    assert len({*staging.values(), *production.values()}) == 2 * len(SECRETS)


def test_a_target_has_one_balancer_one_database_and_one_cache(inventory: Mapping[str, Any]) -> None:
    for target in ("staging", "production"):
        members = set(inventory[target]["hosts"])
        counts = [
            len(members & set(inventory[group]["hosts"])) for group in ("balancer", "database", "cache")
        ]
        assert counts == [1, 1, 1]


def test_secrets_can_be_encrypted_as_the_template_says(site: Path, tmp_path: Path) -> None:
    closed = tmp_path / "site"
    shutil.copytree(site, closed)
    password = tmp_path / "password"
    password.write_text("a password\n")
    files = sorted(closed.glob("group_vars/*/vault.yml"))
    ansible("vault", "encrypt", *files, ANSIBLE_VAULT_PASSWORD_FILE=str(password))
    assert all(path.read_text().startswith("$ANSIBLE_VAULT") for path in files)
    listed = ansible("inventory", "-i", closed, "--list", ANSIBLE_VAULT_PASSWORD_FILE=str(password))
    assert "vault_database" in listed


@pytest.mark.parametrize("path", VARIABLE_FILES, ids=lambda path: str(path.relative_to(EXAMPLE)))
def test_every_variable_has_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    top = [number for number, line in enumerate(lines) if re.match(r"\w+:", line)]
    # A comment speaks for the lines below it, up to the next empty one.
    starts = [max((n for n in range(number) if not lines[n].strip() or n == 0), default=0) for number in top]
    silent = [lines[n] for n, s in zip(top, starts, strict=True) if not lines[s + 1].lstrip().startswith("#")]
    assert [line for line in silent if not line.startswith("p12_secrets:")] == []


def addresses(target: str) -> list[str]:
    hosts = yaml.safe_load((EXAMPLE / "hosts.yml").read_text())[target]["hosts"].values()
    return [host.get("address", host["ansible_host"]) for host in hosts]
