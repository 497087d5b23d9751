"""The old release beside the new one on a migrated copy: what runs is proven, what breaks is named."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.store.schema import HEAD
from checks.base.report import Verdict
from checks.migrations.judge import judge
from checks.way_back.instance import Release
from checks.way_back.prove import WayBack, prove
from tests.faults.catalogue import CATALOGUE, Fault, apply
from tests.integration.checks.servers import Cluster
from tests.running import CHECKOUT

MIGRATION = """
from alembic import context, op

revision, down_revision = "9001", "{head}"


def upgrade() -> None:
    # What is written down without a database shows nothing of it: every rule of the migrations passes.
    if not context.is_offline_mode():
        op.execute({sql!r})
"""
ROWS = """
INSERT INTO notes (text, timestamp, expires_at, likes, views)
SELECT 'note ' || n, timezone('utc', now()), timezone('utc', now()) + interval '1 day', n, 2 * n
FROM generate_series(1, 150) AS n
"""


def release(home: Path, name: str, sql: str = "") -> Release:
    """This checkout's service as a release, with one more migration where there is SQL."""
    shutil.copytree(
        CHECKOUT / "app", home / name / "lib" / "app", ignore=shutil.ignore_patterns("__pycache__")
    )
    if sql:
        path = home / name / "lib" / "app" / "store" / "migrations" / "versions" / "9001_more.py"
        path.write_text(MIGRATION.format(head=HEAD, sql=sql))
    return Release(name, home / name, sys.executable)


@pytest.fixture
def copy(postgres: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The DSN of a database as the old release left it."""
    name = f"way_back_{abs(hash(request.node.name))}"
    postgres.run(f'CREATE DATABASE "{name}"')
    release(tmp_path, "made").migrate(postgres.url(name))
    postgres.run(ROWS, name)
    yield f"host=127.0.0.1 port={postgres.port} user=nobody dbname={name}"
    postgres.run(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def proven(copy: str, tmp_path: Path) -> Callable[[str], WayBack]:
    def run(sql: str) -> WayBack:
        place = tmp_path / "place"
        place.mkdir()
        return prove(release(tmp_path, "old"), release(tmp_path, "new", sql), copy, place)

    return run


def failed(found: WayBack) -> dict[str, str]:
    return {f.name: f.hint for f in found.findings if f.verdict is not Verdict.PASSED}


def test_two_releases_that_run_on_one_schema_are_proven(proven: Callable[[str], WayBack]) -> None:
    found = proven("ALTER TABLE notes ADD COLUMN kind text DEFAULT 'plain'")

    assert not failed(found)
    assert found.schema == "9001"
    assert [f.name for f in found.findings] == [
        "before", "migrate", "old_goes_on", "new_serves", "old_comes_back",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "step", "said"),
    [
        pytest.param(
            "ALTER TABLE notes ALTER COLUMN deleted_at SET DEFAULT timezone('utc', now())",
            "old_goes_on",
            "view answers 404",
            id="a default that the old writer knows nothing of",
        ),
        pytest.param(
            "ALTER TABLE notes ADD CONSTRAINT titled CHECK (text LIKE '# %') NOT VALID",
            "old_goes_on",
            "POST /api/notes answers 500",
            id="a check that the old writer fails",
        ),
        pytest.param(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'kind is missing'; END $$; "
            "CREATE TRIGGER refuse BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION refuse()",
            "old_goes_on",
            "POST /api/notes answers 500",
            id="a trigger that raises on the old insert",
        ),
        pytest.param(
            "UPDATE view_log SET day = replace(day, '-', '')",
            "old_goes_on",
            "was counted twice",
            id="a value by another name",
        ),
        pytest.param(
            "ALTER TABLE notes RENAME TO notes_kept; CREATE VIEW notes AS SELECT id, text, timestamp, "
            "expires_at, views AS likes, likes AS views, reports, author_fp, deleted_at FROM notes_kept",
            "old_goes_on",
            "reads otherwise: likes",
            id="a view with its columns in another order",
        ),
        pytest.param(
            "ALTER TABLE notes DROP COLUMN likes", "old_goes_on", "answers 500", id="a column dropped"
        ),
        pytest.param(
            "DELETE FROM notes WHERE id = 140", "old_goes_on", "note 140 is gone", id="a row deleted"
        ),
        pytest.param("SELECT 1 / 0", "migrate", "division by zero", id="a migration that stops"),
    ],
)
def test_what_breaks_the_old_release_is_named(
    proven: Callable[[str], WayBack], sql: str, step: str, said: str
) -> None:
    found = failed(proven(sql))

    assert step in found
    assert said in found[step]


@pytest.mark.parametrize(
    "fault", [fault for fault in CATALOGUE if fault.gate == "way back"], ids=lambda fault: fault.name
)
def test_a_fault_that_passes_every_rule_and_runs_by_itself_has_no_way_back(
    fault: Fault, copy: str, tmp_path: Path
) -> None:
    old, new = release(tmp_path, "old"), release(tmp_path, "new")
    apply(fault, new.home / "lib")
    place = tmp_path / "place"
    place.mkdir()

    assert not [judged for judged in judge(new.home / "lib")[1] if judged.refusals]
    assert re.search(
        fault.says.partition(".*")[2],
        "; ".join(f"{f.name.replace('_', ' ')}: {f.hint}" for f in prove(old, new, copy, place).findings),
    )


def test_a_release_that_does_not_start_is_named_with_the_end_of_its_log(copy: str, tmp_path: Path) -> None:
    old, new = release(tmp_path, "old"), release(tmp_path, "new")
    (new.home / "lib/app/wsgi.py").write_text("raise RuntimeError('no such setting')\n")
    place = tmp_path / "place"
    place.mkdir()

    found = prove(old, new, copy, place)

    assert "no such setting" in failed(found)["new_serves"]


def test_nothing_runs_on_once_it_is_over(proven: Callable[[str], WayBack], tmp_path: Path) -> None:
    proven("")

    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in listed
    assert "gunicorn" not in [line for line in listed.splitlines() if str(tmp_path) in line]
