"""What people type stays as it is on its way through the playbooks."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from rollout.cli.engineer_verbs import ANSIBLE, VERBS
from tests.running import CHECKOUT

# Options of any text by their variables, and what else may hold some.
TYPED = {
    option[0].removeprefix("--")
    for verb in VERBS.values()
    if ANSIBLE in verb.options
    for option in verb.options
    if not {"action", "type"} & set(option[1]) and option[0] != "-i|--inventory"
} | {"p12_engineer", "p12_document", "p12_words", "__p12_words"}


def tasks(tree: Any) -> Iterator[dict[str, Any]]:
    """Every task of a file, those of blocks too."""
    for item in tree if isinstance(tree, list) else []:
        yield item
        for section in ("tasks", "block", "always", "rescue", "pre_tasks", "post_tasks"):
            yield from tasks(item.get(section))


def test_a_command_that_is_given_typed_text_expands_nothing_in_it() -> None:
    """Ansible puts variables of the environment and home directories into arguments if it is not told off."""
    expanding, kept = [], 0
    for path in sorted((CHECKOUT / "playbooks").rglob("*.yml")):
        for task in tasks(yaml.safe_load(path.read_text())):
            command = task.get("ansible.builtin.command", {})
            templates = re.findall(r"{{(.*?)}}", str(command.get("argv")), re.DOTALL)
            words = {word for each in templates for word in re.findall(r"\w+", re.sub(r"'[^']*'", "", each))}
            if words & TYPED and command.get("expand_argument_vars", True):
                expanding.append(f"{path}: {task['name']}")
            kept += bool(words & TYPED)

    assert kept > 10
    assert expanding == []
