"""What must never be in the service: a second Engine, schema changes in a request, a known commit missing."""

import ast
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from app.metrics import bucket_edges
from app.release import running_release
from app.settings import load_settings
from app.store.database import Database, SecondEngineError
from app.store.schema import HEAD, is_served
from app.store.upgrade import all_scripts
from app.web.answers import route_of

PACKAGE = Path(app.__file__).parent
SETTINGS = load_settings({"DATABASE_URL": "postgresql://db/p12"})
SCHEMA_CHANGE = re.compile(r"\b(CREATE|ALTER|DROP|TRUNCATE|REINDEX|VACUUM)\s+[A-Z]")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def test_only_the_database_and_the_migrations_create_an_engine() -> None:
    creators = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
        and "create_engine" in (getattr(node, "id", ""), getattr(node, "attr", ""))
    }

    assert creators == {"store/database.py", "store/migrate.py"}


def test_no_module_but_the_migrations_changes_the_schema() -> None:
    changing = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SCHEMA_CHANGE.search(node.value)
    }

    assert {name for name in changing if not name.startswith("store/migrations/")} <= {"store/migrate.py"}


def test_the_service_knows_nothing_of_checks_or_rollout() -> None:
    imported = {
        name.split(".")[0]
        for _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [n.name for n in node.names]
        )
    }

    assert not imported & {"checks", "rollout"}


def test_a_process_cannot_have_two_engines() -> None:
    database = Database(SETTINGS)
    try:
        with pytest.raises(SecondEngineError, match="has its Engine already"):
            Database(SETTINGS)
    finally:
        database.close()


def test_the_head_of_the_schema_is_the_last_migration() -> None:
    assert all_scripts().get_heads() == [HEAD]


def test_a_release_serves_its_own_schema_and_every_newer_one() -> None:
    assert is_served(HEAD)
    assert is_served("9999")
    assert not is_served("0001")
    assert not is_served(None)


def test_a_checkout_is_all_zeros_and_an_artifact_names_its_commit(tmp_path: Path) -> None:
    record = tmp_path / "RELEASE.json"
    assert running_release(record).commit == "0" * 40

    record.write_text(json.dumps({"commit": "ab" * 20, "release": "ab" * 6}))

    assert running_release(record).commit == "ab" * 20
    assert running_release(record).name == "ab" * 6


def test_routes_in_metrics_are_templates() -> None:
    assert route_of("/api/notes/<note:note_id>/view") == "/api/notes/{id}/view"
    assert route_of("/static/<path:filename>") == "/static/{filename}"
    assert route_of(None) == "none"


def test_histogram_edges_are_at_most_a_fifth_apart() -> None:
    edges = bucket_edges()

    assert all(wide / narrow < 1.21 for narrow, wide in itertools.pairwise(edges))
    assert edges[0] <= 0.001
    assert edges[-1] >= 15
