"""Write the generated parts of the reference and of the README's map: ``python -m docs.generate``.

A page says ``<!-- generated: NAME -->`` and ``<!-- end -->``; what stands between them comes from the tables
of the code that ``BLOCKS`` names.
"""

import argparse
import ast
import dataclasses
import functools
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from app.flags import FLAGS
from app.settings import SETTINGS
from checks.__main__ import CHECKS
from checks.burst.limits import BurstLimits
from checks.window.limits import WindowLimits
from rollout.cli import engineer_verbs, host_verbs, verb_table

CHECKOUT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# Their variables are passed from one role or step to another; no site sets them.
INNER_ROLES = ("process", "steer")
INNER_VARIABLES = ("p12_slot",)
# What each verb takes is said once, above the tables.
EVERY_VERB = ("inventory", "ansible")
# From the top down: nothing imports what stands above it.
MAP = (
    ("p12", "The bootstrap: makes .venv once, then runs the p12 command."),
    (
        "playbooks",
        "The story of each command; begin with release.yml. roles/ hold the how. Python decides.",
    ),
    *("rollout/cli", "rollout/guard", "rollout/database", "rollout/steps", "rollout/host"),
    *("rollout/target", "rollout/build", "rollout"),
    *("checks", "checks/burst", "checks/visitors", "checks/window", "checks/backup", "checks/budget"),
    *("checks/adoption", "checks/migrations", "checks/way_back", "checks/base"),
    *("app", "app/web", "app/worker", "app/store", "app/store/migrations/adoption", "app/store/migrations"),
    (
        "inventories",
        "The sites: local is this machine, lab is real hosts made on it, example is the template for yours.",
    ),
    ("tests, benchmarks", "They mirror the rooms; tests/faults/ holds the faults that the gates must find."),
    ("tools", "collect_prod_evidence.sh, which ./p12 evidence runs."),
    ("docs", "Tutorial, how-to guides, reference, explanation; generate.py writes parts of the reference."),
)
# Before these the picture goes one floor down.
FLOORS = ("playbooks", "rollout/cli", "checks", "app", "inventories")
SITES = ("inventories/example", "inventories/local")


class Seen(Exception):
    """A command's parser, caught as it was about to read words."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(main: Callable[[list[str]], Any], words: list[str]) -> argparse.ArgumentParser:
    """Return the parser that a command would read its words with."""

    def seen(self: argparse.ArgumentParser, *_: Any) -> None:
        raise Seen(self)

    try:
        with mock.patch.object(argparse.ArgumentParser, "parse_args", seen):
            main(words)
    except Seen as found:
        return found.parser
    raise LookupError(f"{main} reads its words without a parser")


def verbs_of(
    table: Mapping[str, engineer_verbs.Verb | host_verbs.Verb],
) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Return each verb's help and parser."""
    return {
        name: (verb.help, verb_table.parser_of(name, verb.help, verb.options)) for name, verb in table.items()
    }


@functools.cache
def check_parser(name: str) -> argparse.ArgumentParser:
    return parser_of(importlib.import_module(CHECKS[name][0]).main, ["--help"])


def options_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if action.dest != "help")


def _typed(action: argparse.Action) -> str:
    """An option as it is typed: ``--slot blue|green``, ``FILE``, ``--json [FILE]``."""
    choices = "|".join(str(choice) for choice in action.choices or () if choice != "")
    value = "" if action.nargs == 0 else str(action.metavar or choices or action.dest.upper())
    if action.nargs in ("?", "*"):
        value = f"[{value}]"
    value += " …" if action.nargs in ("*", "+") else ""
    return f"{', '.join(action.option_strings)} {value}".strip()


def _default(action: argparse.Action) -> str:
    # A path of its own is of the machine that generates this page.
    given = action.default
    if given is False or isinstance(given, Path) or given in (None, "", [], argparse.SUPPRESS):
        return ""
    return f"`{','.join(map(str, given)) if isinstance(given, list | tuple) else given}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _commands() -> str:
    parts = []
    for name, (said, parser) in verbs_of(engineer_verbs.VERBS).items():
        mine = [a for a in options_of(parser) if a.dest not in EVERY_VERB]
        rows = [(f"`{_typed(a)}`", _default(a), a.help or "") for a in mine]
        parts.append(f"### {name}\n\n{said[:1].upper()}{said[1:]}.\n")
        if rows:
            parts.append(table(("option", "default", "meaning"), rows))
    return "\n".join(parts)


def _host_verbs() -> str:
    rows = []
    for name, (said, parser) in sorted(verbs_of(host_verbs.VERBS).items()):
        words = [_typed(a) for a in options_of(parser)]
        reads = host_verbs.VERBS[name].reads
        told = (
            f"JSON on standard input: {reads if isinstance(reads, str) else ', '.join(reads)}"
            if reads
            else ""
        )
        rows.append(
            (f"`{name}`", said, "; ".join(filter(None, [f"`{' '.join(words)}`" if words else "", told])))
        )
    return table(("verb", "meaning", "takes"), rows)


def _checks() -> str:
    common = {action.dest for action in options_of(check_parser("replay"))} - {"limits", "file"}
    parts = []
    for name, (_, said) in CHECKS.items():
        mine = [a for a in options_of(check_parser(name)) if a.dest not in common]
        rows = [(f"`{_typed(a)}`", _default(a), a.help or "") for a in mine]
        parts.append(f"### {name}\n\n{said[:1].upper()}{said[1:]}.\n")
        parts.append(table(("option", "default", "meaning"), rows))
    return "\n".join(parts)


@functools.cache
def role_options() -> dict[str, dict[str, Any]]:
    """Return what a site may set, by name, as the roles' argument specs say it; ``roles`` is who takes it."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((CHECKOUT / "playbooks/roles").glob("*/meta/argument_specs.yml")):
        role = path.parents[1].name
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            for name, option in entry["options"].items():
                if role not in INNER_ROLES and name.startswith("p12_") and name not in INNER_VARIABLES:
                    found.setdefault(name, {**option, "roles": set()})["roles"].add(role)
    return dict(sorted(found.items()))


@functools.cache
def site_settings() -> dict[str, tuple[str, str]]:
    """Return what only an inventory says, with its value and the comment above it there."""
    found: dict[str, tuple[str, str]] = {}
    for site in SITES:
        for path in sorted((CHECKOUT / site).glob("group_vars/*/main.yml")):
            values, comment = yaml.safe_load(path.read_text()) or {}, ""
            for line in path.read_text().splitlines():
                if line.startswith("#"):
                    comment += line.lstrip("# ") + " "
                elif match := re.match(r"(p12_\w+|address):", line):
                    found.setdefault(match[1], (_value(values[match[1]]), comment.strip()))
                elif not line.strip():
                    comment = ""
    return {name: said for name, said in found.items() if name not in role_options() and said[1]}


def _value(value: Any) -> str:
    if value == "":
        return "empty"
    return f"`{json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value}`"


def _settings() -> str:
    rows = []
    for name, option in role_options().items():
        default = "must be set" if option.get("required") else _value(option["default"])
        kinds = f" One of {', '.join(option['choices'])}." if "choices" in option else ""
        rows.append((f"`{name}`", default, option["description"] + kinds, ", ".join(sorted(option["roles"]))))
        for inner, said in option.get("options", {}).items():
            rows.append((f"`{name}.{inner}`", "must be set", said["description"], ""))
    return table(("setting", "default", "meaning", "roles"), rows)


def _site_settings() -> str:
    rows = [(f"`{name}`", value, said) for name, (value, said) in site_settings().items()]
    return table(("setting", "in the template", "meaning"), rows)


def _limits(kind: type[Any]) -> str:
    rows = []
    for limit in dataclasses.fields(kind):
        factory = limit.default_factory
        value = factory() if factory is not dataclasses.MISSING else limit.default
        shown = "must be set" if value is dataclasses.MISSING else "" if value is None else f"`{value}`"
        rows.append((f"`{limit.name}`", shown))
    words = re.sub(r"\s*Raises [^.]*\.", "", inspect.cleandoc(kind.__doc__ or "")).replace("``", "`")
    return f"{words}\n\n" + table(("limit", "default"), rows)


def _flags() -> str:
    rows = [(f"`{n}`", f"`{f.default}`", f.help, f.accepts) for n, f in FLAGS.items()]
    return table(("flag", "default", "on, it makes the service", "accepts"), rows)


def _service_settings() -> str:
    rows = [
        (f"`{s.name}`" + (f", `{s.also}`" if s.also else ""),
         "must be set" if s.default is None else _value(s.default), s.help)
        for s in SETTINGS.values()
    ]  # fmt: skip
    return table(("variable", "default", "meaning"), rows)


def journal_events() -> dict[str, set[str]]:
    """Return every event that is written to a journal, and the files that write it."""
    found: dict[str, set[str]] = {}
    for path in sorted((CHECKOUT / "rollout").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                words = [
                    a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
                ]
                if words and ast.unparse(node.func).endswith(("journal.append", "chained")):
                    found.setdefault(words[0], set()).add(str(path.relative_to(CHECKOUT)))
    return found


def rooms() -> dict[str, str]:
    """Return what each package says of itself, by its folder."""
    found = {}
    for package in ("rollout", "checks", "app"):
        for path in sorted((CHECKOUT / package).rglob("__init__.py")):
            said = ast.get_docstring(ast.parse(path.read_text())) or ""
            found[path.parent.relative_to(CHECKOUT).as_posix()] = " ".join(said.split())
    return found


def _map() -> str:
    said, lines = rooms(), []
    for entry in MAP:
        name, words = entry if isinstance(entry, tuple) else (entry, said[entry])
        if name in FLOORS:
            lines.append("  ↓" if name in ("playbooks", "rollout/cli", "checks") else "")
        shown = name if name in ("p12", "tests, benchmarks") else f"{name}/"
        lines.append(f"{shown:<21} {words}")
    return "```\n" + "\n".join(lines) + "\n```\n"


BLOCKS: Mapping[str, Callable[[], str]] = {
    "map": _map,
    "commands": _commands,
    "host-verbs": _host_verbs,
    "checks": _checks,
    "settings": _settings,
    "site-settings": _site_settings,
    "window-limits": lambda: _limits(WindowLimits),
    "burst-limits": lambda: _limits(BurstLimits),
    "flags": _flags,
    "service-settings": _service_settings,
}


def generated(text: str) -> str:
    """Return a page with its generated parts as the code has them now."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{BLOCKS[block[2]]()}\n{block[3]}", text)


def pages() -> list[Path]:
    return [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(generated(page.read_text()))
