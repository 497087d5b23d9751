"""What the pages say is true: links lead somewhere, commands, files, settings and flags are there."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from app.flags import FLAGS
from app.settings import SETTINGS
from checks.base.report import EXIT_STATUS
from docs import generate
from rollout.cli.engineer_verbs import VERBS
from rollout.cli.verb_table import find, parser_of
from tests.running import CHECKOUT

PAGES = sorted({*CHECKOUT.glob("*.md"), *generate.pages()})
REFERENCE = CHECKOUT / "docs/reference"
CODE = re.compile(r"```.*?```", re.DOTALL)
# What p12 makes on a host or on this machine is no file of the repository.
MADE = (".p12/", ".venv")
BY_NAME = {page.relative_to(CHECKOUT).as_posix(): page for page in PAGES}


def anchors(page: Path) -> set[str]:
    """Return the names that a page's headings have on GitHub."""
    headings = re.findall(r"^#+ +(.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_link_leads_somewhere(name: str) -> None:
    page = BY_NAME[name]
    links = re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", page.read_text()))
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith(("https://", "http://")):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(link)

    assert not broken


def commands(page: Path) -> Iterator[list[str]]:
    """The words after each ``./p12`` of a page, in a block of code or in backticks."""
    text = page.read_text()
    lines = [line for block in CODE.findall(text) for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", CODE.sub("", text))
    for line in [*lines, *inline]:
        for typed in re.findall(r"\./p12 ([^#;&]+)", line):
            yield shlex.split(typed.replace("'…'", "why"))


@pytest.mark.parametrize("name", BY_NAME)
def test_every_command_has_the_verb_and_the_options_that_a_page_shows(name: str) -> None:
    wrong = []
    for verb, *words in commands(BY_NAME[name]):
        if verb == "check" and words:
            parser = generate.check_parser(words[0])
        elif verb == "replay":
            parser = generate.check_parser("replay")
        elif verb in ("VERB", "--help", "…"):
            continue
        else:
            row, _ = find(VERBS, [verb, *words], "p12", first_is_meant=True)
            parser = parser_of(verb, row.help, row.options)
        known = {option for action in parser._actions for option in action.option_strings}
        given = {word.split("=")[0] for word in words if word.startswith("-")}
        wrong += [f"{verb} {option}" for option in given - known if verb not in ("test", "host")]

    assert not wrong


@pytest.mark.parametrize("name", BY_NAME)
def test_every_file_that_is_named_is_there(name: str) -> None:
    top = {path.name for path in CHECKOUT.iterdir()}
    words = re.findall(r"`([\w./*-]+)`", CODE.sub("", BY_NAME[name].read_text()))
    named = [word for word in words if word.split("/")[0] in top and not word.startswith(MADE)]
    # VERB, NAME and the like stand for a name of one's own.
    named = [word for word in named if not re.search(r"[A-Z]{4}", word) or word.endswith(".md")]

    assert not [word for word in named if not list(CHECKOUT.glob(word.rstrip("/")))]


@pytest.mark.parametrize("name", BY_NAME)
def test_every_program_of_ours_that_is_typed_is_there(name: str) -> None:
    typed = re.findall(r"bin/python -m ([\w.]+)", BY_NAME[name].read_text())
    paths = [CHECKOUT / module.replace(".", "/") for module in typed if module != "pytest"]

    assert not [
        path for path in paths if not ((path / "__main__.py").exists() or path.with_suffix(".py").exists())
    ]


def test_what_is_generated_is_what_the_code_says_now() -> None:
    stale = [
        page.name for page in generate.pages() if page.read_text() != generate.generated(page.read_text())
    ]

    assert not stale, "Type: .venv/bin/python -m docs.generate"


def test_every_flag_and_every_setting_is_documented() -> None:
    service = (REFERENCE / "service.md").read_text()
    settings = (REFERENCE / "settings.md").read_text()
    given = {
        name
        for path in CHECKOUT.glob("inventories/*/group_vars/*/*.yml")
        for name in yaml.safe_load(path.read_text()) or {}
        if name.startswith("p12_") and name != "p12_secret_file"
    }

    missing = [
        name
        for name in (*FLAGS, *(setting.name for setting in SETTINGS.values()))
        if f"`{name}`" not in service
    ]
    missing += [name for name in {*given, *generate.role_options()} if f"`{name}`" not in settings]

    assert not missing


@pytest.mark.parametrize("name", BY_NAME)
def test_every_setting_that_is_named_exists(name: str) -> None:
    known = {*generate.role_options(), *generate.site_settings()}
    words = set(re.findall(r"`(p12_[a-z_]+)\b", BY_NAME[name].read_text())) - {"p12_monitor"}

    assert not {word for word in words if word not in known and not word.endswith("_")}


def test_every_kind_of_obstacle_is_explained() -> None:
    folder = CHECKOUT / "app/store/migrations/adoption"
    code = "".join(path.read_text() for path in folder.glob("*.py"))
    kinds = set(re.findall(r'Obstacle\(\s*"(\w+)"', code))
    page = (CHECKOUT / "docs/how-to/take-over.md").read_text()
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", page, re.M)

    assert len(kinds) >= 20
    assert {kind for row in rows for kind in re.findall(r"`(\w+)`", row)} == kinds


def test_every_journal_event_is_explained() -> None:
    shown = re.findall(
        r"^\| `([a-z_.]+)` \|", (REFERENCE / "journal.md").read_text().split("## Events")[1], re.M
    )

    assert shown == sorted(generate.journal_events())


DELETING = re.compile(
    r"DELETE FROM|DROP (DATABASE|TABLE|INDEX|SCHEMA|TRIGGER|FUNCTION) |TRUNCATE|[.]truncate\(|[.]unlink\("
    r"|rmtree\(|os[.]remove\(|state: absent|\brm -|deleted_at = "
)
# They judge or show somebody else's statements.
TALKING = ("checks/migrations/", "app/store/migrations/adoption/")


def test_every_file_that_deletes_something_is_on_the_page_of_deletions() -> None:
    page = (REFERENCE / "deletions.md").read_text()
    folders = ("app", "checks", "rollout", "playbooks", "tools")
    files = [path for folder in folders for path in (CHECKOUT / folder).rglob("*") if path.is_file()]
    deleting = {
        path.relative_to(CHECKOUT).as_posix()
        for path in (*files, CHECKOUT / "p12")
        if path.suffix in (".py", ".yml", ".sh", ".j2", "") and DELETING.search(path.read_text())
    }
    named = set(re.findall(r"`((?:app|checks|rollout|playbooks|tools)/[\w./]+|p12)`", page))

    assert named == {name for name in deleting if not name.startswith(TALKING)}


def test_a_checks_exit_statuses_are_those_of_its_verdicts() -> None:
    rows = re.findall(
        r"^\| `\./p12 check`.*\| ([0-9]) \| (\w+)", (REFERENCE / "exit-statuses.md").read_text(), re.M
    )

    assert {word: int(status) for status, word in rows} == EXIT_STATUS


def names_in(path: Path) -> set[str]:
    """Return what a file defines: functions, classes, their methods, constants, or the keys of YAML."""
    if path.suffix == ".yml":
        return set(re.findall(r"^(\w+):", path.read_text(), re.MULTILINE))
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def decisions() -> list[tuple[str, str]]:
    rows = re.findall(r"\| `([\w./]+)`: `([\w.]+)`", (REFERENCE / "decisions.md").read_text())
    assert len(rows) >= 25
    return rows


@pytest.mark.parametrize(("file", "name"), decisions())
def test_what_decides_is_where_the_page_says(file: str, name: str) -> None:
    assert name in names_in(CHECKOUT / file)


def test_every_room_is_on_the_map() -> None:
    assert set(generate.rooms()) <= {entry for entry in generate.MAP if isinstance(entry, str)}


def test_who_asks_where_a_thing_is_decided_gets_there_in_one_step_from_the_readme() -> None:
    assert "](docs/reference/decisions.md)" in (CHECKOUT / "README.md").read_text().split("## The map")[1]


def test_the_version_is_the_newest_one_of_the_changelog() -> None:
    released = re.findall(
        r"^## \[([0-9.]+)\] - \d{4}-\d\d-\d\d$", (CHECKOUT / "CHANGELOG.md").read_text(), re.M
    )

    assert tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"] == released[0]
