"""From the inventory to the instances of a target, with the filter and with real Ansible."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.target.target import SLOTS, Instance
from tests.running import CHECKOUT

SOURCE = CHECKOUT / "playbooks" / "filter_plugins" / "instances.py"


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("instances_filter", SOURCE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


p12_instances = loaded().p12_instances


def host(
    address: str = "10.0.0.1", instances: Any = 2, blue: Any = 12211, green: Any = 12221
) -> dict[str, Any]:
    return {
        "p12_app_address": address,
        "p12_instances_per_slot": instances,
        "p12_blue_port": blue,
        "p12_green_port": green,
    }


def test_every_instance_has_a_name_a_slot_an_address_and_a_port() -> None:
    assert p12_instances(["app1"], {"app1": host()}) == [
        {"name": "blue-1.app1", "slot": "blue", "address": "10.0.0.1", "port": 12211},
        {"name": "blue-2.app1", "slot": "blue", "address": "10.0.0.1", "port": 12212},
        {"name": "green-1.app1", "slot": "green", "address": "10.0.0.1", "port": 12221},
        {"name": "green-2.app1", "slot": "green", "address": "10.0.0.1", "port": 12222},
    ]


def test_each_is_what_the_kit_on_a_host_takes_for_an_instance() -> None:
    (first, *_) = p12_instances(["app1"], {"app1": host()})

    assert Instance(**first) == Instance("blue-1.app1", "blue", "10.0.0.1", 12211)


def test_numbers_that_ansible_hands_over_as_text_are_numbers() -> None:
    assert p12_instances(["a"], {"a": host(instances="1", blue="81", green="91")}) == p12_instances(
        ["a"], {"a": host(instances=1, blue=81, green=91)}
    )


def test_the_order_does_not_depend_on_the_order_of_hosts() -> None:
    vars_of = {"a": host("10.0.0.1"), "b": host("10.0.0.2")}

    assert p12_instances(["b", "a"], vars_of) == p12_instances(["a", "b"], vars_of)


def test_no_app_host_is_no_instance() -> None:
    assert p12_instances([], {}) == []


def test_a_host_that_does_not_say_where_it_listens_is_an_error() -> None:
    with pytest.raises(KeyError, match="p12_app_address"):
        p12_instances(["a"], {"a": {"p12_instances_per_slot": 1, "p12_blue_port": 1, "p12_green_port": 2}})


HOSTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=6),
    st.builds(host, instances=st.integers(1, 8)),
    min_size=1,
    max_size=6,
)


@given(HOSTS)
def test_names_are_unique_and_slots_are_of_one_size(hosts: Mapping[str, Any]) -> None:
    found = p12_instances([*hosts], hosts)

    assert len({instance["name"] for instance in found}) == len(found)
    counts = [sum(instance["slot"] == slot for instance in found) for slot in SLOTS]
    assert counts == [sum(h["p12_instances_per_slot"] for h in hosts.values())] * 2


@given(HOSTS)
def test_no_two_instances_of_a_host_share_a_port(hosts: Mapping[str, Any]) -> None:
    found = p12_instances([*hosts], hosts)

    ports = [(instance["name"].split(".")[1], instance["port"]) for instance in found]
    assert len(set(ports)) == len(ports)


def test_ansible_finds_the_filter_and_each_local_target_has_two_instances_a_slot(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(
        f"""
- hosts: app
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        content: "{{{{ groups['app'] | intersect(groups[p12_target]) | p12_instances(hostvars) | to_json }}}}"
        dest: "{tmp_path}/{{{{ p12_target }}}}.json"
"""
    )
    inventory = str(CHECKOUT / "inventories" / "local")
    subprocess.run(
        [sys.executable, "-P", "-m", "ansible", "playbook", "-i", inventory, str(tmp_path / "play.yml")],
        check=True,
        capture_output=True,
        cwd=CHECKOUT,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(CHECKOUT),
            "ANSIBLE_FILTER_PLUGINS": str(SOURCE.parent),
        },
    )

    targets = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("staging", "production")]
    for found in targets:
        assert [instance["slot"] for instance in found] == ["blue", "blue", "green", "green"]
        assert {instance["address"] for instance in found} == {"127.0.0.1"}
    assert len({instance["port"] for found in targets for instance in found}) == 8
