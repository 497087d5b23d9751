"""The flow of a release on production's balancer, read from the playbooks and played in this process.

Every task is that of the playbooks, with Ansible's templates; what it asks of the kit ``host_verbs`` answers.
Only what other hosts do is done by the test: staging's answers, installing, and the visitors of a window.
"""

import io
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from rollout.cli.host_verbs import EVERYWHERE, VERBS
from rollout.cli.verb_table import find, parse
from rollout.steps import lock
from tests.integration.rollout.steered import Steered, document_of
from tests.running import CHECKOUT, wait_for

PLAYBOOKS = CHECKOUT / "playbooks"
STAGES = ("stage_promote", "stage_monitor", "unlock")
DEFAULTS = yaml.safe_load((PLAYBOOKS / "roles" / "steer" / "defaults" / "main.yml").read_text())
ROLE = "ansible.builtin.{}_role"
COMMAND, FACT = "ansible.builtin.command", "ansible.builtin.set_fact"


class Stopped(Exception):
    """The run was ended at a boundary between two tasks."""


class Play:
    """One run of the flow: what it has found out is gone with it, as with an ended Ansible."""

    def __init__(self, steered: Steered, release: str, certificate: Mapping[str, Any], number: int) -> None:
        self.at, self.release, self.number = steered, release, number
        self.certificate = certificate
        self.names: list[str] = []
        self.stop_at = -1
        self.variables: dict[str, Any] = {
            **{"p12_root": "/kit", "p12_target": "production", **DEFAULTS},
            **{
                "ansible_check_mode": False,
                "ansible_playbook_python": "python",
                "playbook_dir": str(PLAYBOOKS),
            },
            **{"p12_release": document_of(release), "__p12_staging": "staging", "inventory_hostname": "one"},
            "hostvars": {"staging": {"p12_root": "/kit"}},
            "groups": {"app": ["one"], "production": ["one"], "balancer": ["one"]},
        }

    @property
    def session(self) -> str:
        return f"desk:{self.number}:1.0"

    def run(self, stop_at: int = -1) -> list[str]:
        """Play all of it, or up to a task; the lock is then given back. Returns the tasks' names."""
        self.stop_at = stop_at
        try:
            for stage in STAGES:
                for play in yaml.safe_load((PLAYBOOKS / f"{stage}.yml").read_text()):
                    self._tasks(play["tasks"], {})
        finally:
            lock.end(self.at.steering, self.session)
        return self.names

    def _tasks(self, tasks: list[dict[str, Any]], given: Mapping[str, Any]) -> None:
        for task in tasks:
            known = {**given, **task.get("vars", {})}
            for item in self._value(task.get("loop", [None]), known):
                named = (
                    {task.get("loop_control", {}).get("loop_var", "item"): item} if item is not None else {}
                )
                self._task(task, {**known, **named})

    def _task(self, task: dict[str, Any], known: Mapping[str, Any]) -> None:
        imported = next(
            (task[key] for kind in ("import", "include") if (key := ROLE.format(kind)) in task), None
        )
        conditions = task.get("when", [])
        for condition in [conditions] if isinstance(conditions, (str, bool)) else conditions:
            if not self._value(f"{{{{ ({condition}) | bool }}}}", known):
                return
        if imported and imported["name"] == "slot":
            self._boundary(task["name"])
            self.at.install(self._value("{{ p12_plan.slot }}", known), self.release)
        elif imported:
            self._included(imported["tasks_from"], known)
        elif "ansible.builtin.include_tasks" in task:
            self._included(task["ansible.builtin.include_tasks"].removesuffix(".yml"), known)
        elif "block" in task:
            self._tasks(task["block"], known)
        elif COMMAND in task:
            self._boundary(task["name"])
            words = self._value(task[COMMAND]["argv"], known)
            answer = self._asked(words, self._value(task[COMMAND].get("stdin"), known))
            self.variables[task.get("register", "_")] = {"stdout": json.dumps(answer, default=str)}
        else:
            self._boundary(task["name"])
            self.variables |= self._value(task[FACT], known)

    def _included(self, name: str, known: Mapping[str, Any]) -> None:
        self._tasks(
            yaml.safe_load((PLAYBOOKS / "roles" / "steer" / "tasks" / f"{name}.yml").read_text()), known
        )

    def _boundary(self, name: str) -> None:
        if len(self.names) == self.stop_at:
            raise Stopped(name)
        self.names.append(name)

    def _value(self, template: Any, known: Mapping[str, Any]) -> Any:
        variables = {**self.variables, **known}
        variables["p12_steered"] = variables
        templar = Templar(DataLoader(), variables={k: _trusted(v) for k, v in variables.items()})
        return templar.template(_trusted(template))

    def _asked(self, words: list[str], told: str | None) -> Any:
        if "rollout.cli.controller" in words:
            return {"owner": "ann@desk", "session": self.session, "dead": "-"}
        target, *rest = words[1:]
        if target == "staging":
            return self.certificate if rest[0] == "certificate" else {}
        if rest[0] == "prune":
            return {"changed": False}
        verb, rest = find(VERBS, rest, "p12 host")
        options = vars(parse(verb.name, verb.help, (*verb.options, *EVERYWHERE), rest))
        if verb.name == "window wait":
            self._watch()
        before, sys.stdin = sys.stdin, io.StringIO(told or "")
        try:
            return verb.run(self.at.target, options)
        finally:
            sys.stdin = before

    def _watch(self) -> None:
        """Let visitors come and the guard look until the open window has its verdict."""

        def judged() -> bool:
            if self.at.steering.state().open_window:
                self.at.watch(20, 10)
            return not self.at.steering.state().open_window

        wait_for(judged, "the window's verdict", 60)


def _trusted(value: Any) -> Any:
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, Mapping):
        return {name: _trusted(each) for name, each in value.items() if name != "p12_steered"}
    return [_trusted(each) for each in value] if isinstance(value, list) else value


def end_state(steered: Steered) -> dict[str, Any]:
    """What is true when all is over, without times, numbers and ids."""
    state = steered.steering.state()
    rollout = asdict(state.rollout) if state.rollout else {}
    serving = state.slots[state.serving or ""]
    events = [event for event in steered.events() if not event.startswith(("lock.", "window."))]
    return {
        "shares": steered.steering.balancer.shares(),
        "slots": {name: (slot.release, slot.proven) for name, slot in state.slots.items()},
        "serving": (state.serving, serving.release),
        "rollout": {
            name: rollout[name] for name in ("release", "slot", "from_slot", "from_release", "share", "ended")
        },
        "flags": {slot: dict(wanted.flags) for slot, wanted in steered.steering.flags.all().items()},
        "instances": {name: (each.commit, dict(each.flags)) for name, each in steered.instances.items()},
        "windows": sorted({(w.kind, w.share, w.verdict) for w in state.windows_of(rollout["release"])}),
        "quarantined": dict(state.quarantined),
        "certificate": (state.certificate or {}).get("release"),
        "backup": (state.backup or {}).get("id"),
        "good": list(state.good),
        "lock": steered.steering.lock.holder().owner,
        "begun": events.count("rollout.begun"),
        "end": events[-events[::-1].index("rollout.begun") :],
    }
