"""A whole release, read from the playbooks and played in this process, on both targets at once.

Every task is that of the playbooks and their roles, with Ansible's templates, and every verb of the kit is
the real one, but for real work: ``SIMULATED`` and ``Play._controller`` say what comes of that.
"""

import io
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader
from ansible.template import Templar, trust_as_template

from rollout.cli.host_verbs import EVERYWHERE, VERBS
from rollout.cli.verb_table import find, parse
from rollout.steps import lock
from tests.integration.rollout.steered import Steered, commit_of
from tests.running import CHECKOUT, wait_for

PLAYBOOKS = CHECKOUT / "playbooks"
ROLES = PLAYBOOKS / "roles"
ANSIBLE = "ansible.builtin."
INCLUDES = ("include_role", "import_role", "include_tasks", "import_tasks")
# To stop before what only the run itself knows of is to stop after it: the world is the same.
WITHOUT_TRACE = ("set_fact", "stat", "assert")
KEPT = ("releases", "artifacts")
SCHEMA = "0002"
FLAGS = {"P12_ENABLE_ADVISORY_LOCKS": "1"}


class Stopped(Exception):
    """The run was ended at a boundary between two tasks."""


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def _trusted(value: Any) -> Any:
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, Mapping):
        return {name: _trusted(each) for name, each in value.items()}
    return [_trusted(each) for each in value] if isinstance(value, list) else value


filter_loader.add_directory(str(PLAYBOOKS / "filter_plugins"))
FILES: dict[str, Any] = {}
KNOWN = _trusted(
    {name: value for path in ROLES.glob("*/defaults/main.yml") for name, value in _read(path).items()}
    | _read(PLAYBOOKS / "group_vars" / "all.yml")
    | {
        name: value
        for role in ("slot", "steer")
        for name, value in _read(ROLES / role / "vars" / "main.yml").items()
    }
)


class Play:
    """One run of release.yml: what it has found out is gone with it, as with an ended Ansible.

    ``at`` are the targets by name, each on a host of its own that does everything for it.
    """

    def __init__(self, at: Mapping[str, Steered], document: Mapping[str, Any], number: int) -> None:
        self.at, self.document, self.number = at, document, number
        self.names: list[str] = []
        self.stop_at = -1
        groups = {group: [*at] for group in ("app", "balancer", "database")} | {name: [name] for name in at}
        common = {
            **{"ansible_check_mode": False, "ansible_playbook_python": "python", "groups": groups},
            **{"playbook_dir": str(PLAYBOOKS), "p12_process_manager": "supervisord", "p12_user": "p12"},
        }
        settings = {
            "p12_app_address": "127.0.0.1",
            "p12_blue_port": 1,
            "p12_green_port": 11,
            "p12_flags": FLAGS,
        }
        self.facts: dict[str, dict[str, Any]] = {
            "localhost": {**common, "inventory_hostname": "localhost"}
        } | {
            name: {
                **common,
                **settings,
                **{"p12_root": str(steered.home), "p12_target": name, "inventory_hostname": name},
                "p12_instances_per_slot": len(steered.of("blue")),
            }
            for name, steered in at.items()
        }

    @property
    def session(self) -> str:
        return f"desk:{self.number}:1.0"

    def run(self, stop_at: int = -1) -> list[str]:
        """Play all of it, or up to a task; the locks are then given back. Returns the tasks' names."""
        self.stop_at = stop_at
        try:
            self._playbook("release.yml", {})
        finally:
            for steered in self.at.values():
                lock.end(steered.steering, self.session)
        return self.names

    def _playbook(self, name: str, given: Mapping[str, Any]) -> None:
        for play in _content(PLAYBOOKS / name):
            known = {**given, **_trusted(play.get("vars", {}))}
            if imported := play.get(f"{ANSIBLE}import_playbook"):
                self._playbook(imported, known)
                continue
            hosts = self._hosts(self._value(play["hosts"], "localhost", known))
            for role in play.get("roles", ()):
                self._tasks(ROLES / role / "tasks" / "main.yml", hosts, known)
            self._each(play.get("tasks", ()), hosts, known, PLAYBOOKS)

    def _hosts(self, pattern: str) -> list[str]:
        if "localhost" in pattern:
            return ["localhost"]
        return [name for name in self.at if name in pattern] or [*self.at]

    def _tasks(self, path: Path, hosts: Sequence[str], known: Mapping[str, Any]) -> None:
        self._each(_content(path), hosts, known, path.parent)

    def _each(
        self, tasks: Sequence[Mapping[str, Any]], hosts: Sequence[str], given: Mapping[str, Any], place: Path
    ) -> None:
        for task in tasks:
            on = hosts[:1] if task.get("run_once") else hosts
            known = {**given, **_trusted(task.get("vars", {}))}
            named = task.get("loop_control", {}).get("loop_var", "item")
            for item in self._value(task["loop"], on[0], known) if "loop" in task else [None]:
                self._task(task, on, {**known, named: item} if "loop" in task else known, place)

    def _task(
        self, task: Mapping[str, Any], hosts: Sequence[str], known: Mapping[str, Any], place: Path
    ) -> None:
        wanted = [host for host in hosts if self._is_wanted(task, host, known)]
        for host in set(hosts) - set(wanted):
            self._register(task, [host], {"skipped": True})
        if not wanted:
            return
        if "block" in task:
            for part in ("block", "always"):
                self._each(task.get(part, ()), wanted, known, place)
            return
        module = next(name for name in task if name.startswith(ANSIBLE)).removeprefix(ANSIBLE)
        arguments = task[ANSIBLE + module]
        if module in INCLUDES:
            self._tasks(_included(arguments, place), wanted, known)
            return
        for host in wanted:
            if module not in WITHOUT_TRACE:
                if len(self.names) == self.stop_at:
                    raise Stopped(task["name"])
                self.names.append(f"{task['name']} ({host})")
            done = getattr(self, f"_{module}")(host, arguments, known)
            self._register(task, hosts if task.get("run_once") else [host], done)

    def _is_wanted(self, task: Mapping[str, Any], host: str, known: Mapping[str, Any]) -> bool:
        conditions = task.get("when", [])
        conditions = conditions if isinstance(conditions, list) else [conditions]
        return all(self._value(f"{{{{ ({each}) | bool }}}}", host, known) for each in conditions)

    def _register(self, task: Mapping[str, Any], hosts: Sequence[str], done: Mapping[str, Any]) -> None:
        for host in hosts:
            self.facts[host][task.get("register", "_")] = done

    def _value(self, template: Any, host: str, known: Mapping[str, Any]) -> Any:
        if isinstance(template, str) and "{" not in template:
            return template
        variables = {**KNOWN, **self.facts[host], "hostvars": self.facts, **known}
        return Templar(DataLoader(), variables=variables).template(_trusted(template))

    # What Ansible's modules do.

    def _set_fact(self, host: str, arguments: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        self.facts[host] |= self._value(arguments, host, known)
        return {}

    def _stat(self, host: str, arguments: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        assert self._value(arguments["path"], host, known).endswith("/bin/p12")
        return {"stat": {"exists": True}}

    def _assert(self, host: str, arguments: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        assert self._is_wanted({"when": arguments["that"]}, host, known)
        return {}

    def _copy(self, host: str, arguments: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        shutil.copy(*(self._value(arguments[name], host, known) for name in ("src", "dest")))
        return {}

    def _template(self, host: str, arguments: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        """Leave where the file is to be which release it is for; its words are not what is walked."""
        path = Path(self._value(arguments["dest"], host, known))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._value("{{ p12_release.release }}", host, known))
        return {"checksum": arguments["src"]}

    def _command(self, host: str, arguments: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        words = self._value(arguments["argv"], host, known)
        told = self._value(arguments.get("stdin"), host, known)
        answer = self._controller(words[3]) if words[1] == "-m" else self._host(words[1:], told)
        return {"stdout": json.dumps(answer, default=str)}

    def _controller(self, verb: str) -> Mapping[str, Any]:
        """What the engineer's machine answers."""
        named = {name: self.document[name] for name in ("release", "commit")}
        return {
            "session": {"owner": "ann@desk", "session": self.session, "dead": "-"},
            "kit": {"id": "0" * 12},
            "resolve": {"document": named},
            "build": {"document": self.document},
        }[verb]

    def _host(self, words: Sequence[str], told: str | None) -> Any:
        steered, rest = self.at[words[0]], words[1:]
        if rest[0] in SIMULATED:
            return SIMULATED[rest[0]](steered, rest[1:])
        verb, rest = find(VERBS, rest, "p12 host")
        options = vars(parse(verb.name, verb.help, (*verb.options, *EVERYWHERE), rest))
        if verb.name == "window wait":
            wait_for(lambda: _is_judged(steered), "the window's verdict", 60)
        before, sys.stdin = sys.stdin, io.StringIO(told or "")
        try:
            return verb.run(steered.target, options)
        finally:
            sys.stdin = before


def _content(path: Path) -> Any:
    if str(path) not in FILES:
        FILES[str(path)] = _read(path)
    return FILES[str(path)]


def _included(arguments: Any, place: Path) -> Path:
    if isinstance(arguments, str):
        return place / arguments
    return ROLES / arguments["name"] / "tasks" / f"{arguments.get('tasks_from', 'main')}.yml"


def _is_judged(steered: Steered) -> bool:
    """Let visitors come and the guard look, until the open window has its verdict."""
    if steered.steering.state().open_window:
        steered.watch(20, 10)
    return not steered.steering.state().open_window


# What real work comes to: on Postgres, on supervisord, under load.


def _migrate(steered: Steered, words: Sequence[str]) -> dict[str, Any]:
    link = steered.directory / "slots" / words[0].removeprefix("--slot=") / "release"
    schema, before = steered.directory / "schema", _schema(steered)
    schema.write_text(link.resolve().name.split("-")[0])
    return {"changed": before != _schema(steered)}


def _schema(steered: Steered) -> str:
    schema = steered.directory / "schema"
    return schema.read_text() if schema.exists() else ""


def _ensure(steered: Steered, words: Sequence[str]) -> dict[str, Any]:
    """Start anew what is described for another release than runs."""
    slot = words[1].removesuffix("-worker")
    ini = steered.home / "supervisor" / "programs" / f"p12-{steered.target.name}-{slot}-worker.ini"
    release = ini.read_text()
    env, link = steered.directory / "slots" / slot / "env", steered.directory / "slots" / slot / "release"
    assert env.read_text() == release == _schema(steered) == link.resolve().name.split("-")[0]
    late = [instance for instance in steered.of(slot) if instance.commit != commit_of(release)]
    for instance in late:
        instance.run(commit_of(release))
    return {"changed": bool(late)}


def _burst(steered: Steered, _: Sequence[str]) -> dict[str, Any]:
    state = steered.steering.state()
    inputs = {"release": state.slots[state.serving or ""].release, "schema": SCHEMA}
    return {"check": "burst", "verdict": "passed", "summary": "no deadlock", "inputs": inputs}


def _backup(_: Steered, words: Sequence[str]) -> dict[str, Any]:
    given = dict(word.removeprefix("--").split("=", 1) for word in words)
    proof = {**json.loads(given["releases"]), "verdict": "passed", "summary": "way back proven"}
    made = {"id": "verified", "verdict": "passed", "summary": "restored", "release": given["release"]}
    return made | {"way_back": proof}


SIMULATED = {
    "preflight": lambda *_: {},
    "migrate": _migrate,
    "processes": _ensure,
    "burst": _burst,
    "backup": _backup,
}


def end_state(steered: Steered) -> dict[str, Any]:
    """What is true when all is over, without times, numbers and ids."""
    state = steered.steering.state()
    rollout = asdict(state.rollout) if state.rollout else {}
    serving = state.slots[state.serving or ""]
    told = [event for event in steered.events() if not event.startswith(("lock.", "window."))]
    # A burst that was not certified is fired, and journaled, once more.
    events = [event for event, _ in groupby(told)]
    slots = steered.directory / "slots"
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
        "backup": {name: (state.backup or {}).get(name) for name in ("id", "release")},
        "way_back": (state.way_back or {}).get("verdict"),
        "good": list(state.good),
        "lock": steered.steering.lock.holder().owner,
        "schema": _schema(steered),
        "links": {link.parent.name: link.resolve().name for link in slots.glob("*/release")},
        "settings": {env.parent.name: env.read_text() for env in slots.glob("*/env")},
        "described": {ini.name: ini.read_text() for ini in (steered.home / "supervisor").rglob("*.ini")},
        "kept": sorted(path.name for kind in KEPT for path in (steered.directory / kind).iterdir()),
        "begun": events.count("rollout.begun"),
        "end": events[-events[::-1].index("rollout.begun") :],
    }
