"""The rooms of the house, and who may look into which: read from the imports alone."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.running import CHECKOUT

GROUND = {"rollout", "checks", "checks.base"}
# A room and what it may import beside itself; what stands in no row may import nothing of the three packages.
MAY_IMPORT: Mapping[str, set[str]] = {
    "checks": {"checks.base"},  # its command imports each check by name
    "checks.base": set(),
    "checks.adoption": {"checks.base", "checks.budget"},
    "checks.backup": {"checks.base"},
    "checks.budget": {"checks.base"},
    "checks.visitors": {"checks.base"},
    "checks.burst": {"checks.base", "checks.visitors"},
    "checks.window": {"checks.base"},
    "checks.migrations": {"checks.base"},
    "checks.way_back": {"checks.base", "checks.visitors"},
    "rollout": set(),
    "rollout.target": {"rollout"},
    "rollout.steps": GROUND | {"rollout.target", "checks.window"},
    "rollout.guard": GROUND | {"rollout.target", "rollout.steps", "checks.window"},
    "rollout.host": GROUND | {"rollout.target", "checks.backup", "checks.budget"},
    "rollout.database": GROUND
    | {"rollout.target", "rollout.steps", "rollout.host"}
    | {"checks.backup", "checks.budget", "checks.way_back"},
    "rollout.build": {"rollout", "checks.base", "checks.migrations"},
    "rollout.cli": GROUND
    | {"rollout.target", "rollout.steps", "rollout.guard", "rollout.host", "rollout.database"}
    | {"rollout.build", "checks.backup"},
}
# The p12 command itself hands over to the room of what is typed.
ENTRIES = {"rollout.__main__"}


def modules(*packages: str) -> dict[str, Path]:
    """Every module of the packages by its dotted name; a package stands for its ``__init__``."""
    found = {}
    for package in packages:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            parts = path.relative_to(CHECKOUT).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports_of(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules among ``known`` that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            inside = [name for name in names if name in known]
            yield from inside
            if len(inside) < len(names) and node.module in known:
                yield node.module


def room_of(module: str) -> str:
    path = modules(module.split(".")[0])[module]
    return ".".join(path.relative_to(CHECKOUT).parts[:-1])


def crossings(package: str) -> Iterator[tuple[str, str, str]]:
    known = modules("app", "checks", "rollout")
    for module, path in modules(package).items():
        for imported in imports_of(path, known):
            if room_of(module) != room_of(imported):
                yield module, room_of(module), room_of(imported)


def test_the_service_imports_neither_checks_nor_rollout() -> None:
    others = {room for _, _, room in crossings("app") if not room.startswith("app")}

    assert not others


@pytest.mark.parametrize("package", ["checks", "rollout"])
def test_a_room_imports_only_the_rooms_below_it(package: str) -> None:
    upwards = [
        f"{module} imports of {room}"
        for module, own, room in crossings(package)
        if room not in MAY_IMPORT[own] and module not in ENTRIES
    ]

    assert not upwards


def test_what_runs_on_a_host_imports_nothing_that_builds() -> None:
    importers = {own for _, own, room in crossings("rollout") if room == "rollout.build"}

    assert importers <= {"rollout.cli"}


def test_no_file_is_in_a_circle() -> None:
    known = modules("app", "checks", "rollout")

    order = TopologicalSorter({module: set(imports_of(path, known)) for module, path in known.items()})

    order.prepare()  # names the circle, if there is one


@pytest.mark.parametrize("package", ["app", "checks", "rollout"])
def test_every_room_says_in_a_sentence_what_never_happens_in_it(package: str) -> None:
    rooms = [path for name, path in modules(package).items() if path.name == "__init__.py"]
    said = {path: ast.get_docstring(ast.parse(path.read_text())) or "" for path in rooms}

    silent = [
        str(path.relative_to(CHECKOUT))
        for path, words in said.items()
        if "migrations" not in path.parts
        and not {"never", "Nothing", "nothing", "no", "No"} & set(words.split())
    ]

    assert not silent
