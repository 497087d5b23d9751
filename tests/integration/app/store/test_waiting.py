"""A migration waits for its locks without making visitors wait, and says for whom."""

import contextlib
import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

import app.store.migrate
import app.store.upgrade
from app.store.schema import HEAD
from app.store.upgrade import MIGRATIONS, Patience, upgrade
from tests.integration.app.instances import slot
from tests.integration.app.visitors import Visitors
from tests.running import Cluster

ALTER = "op.execute('ALTER TABLE notes ADD COLUMN kind text')"
READ = "SELECT count(*) FROM notes WHERE text <> 'private words' AND id <> 73195001"
ALTERED = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attname = 'kind'"
INDEXES = (
    "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relname = 'by_author'"
)
NEXT, AFTER_NEXT = (f"{int(HEAD) + step:04d}" for step in (1, 2))


@dataclass
class Database:
    """A database at this release's schema, with notes, and migrations of a later one for it."""

    postgres: Cluster
    name: str
    migrations: Path
    _last: str = HEAD

    @property
    def url(self) -> str:
        return self.postgres.url(self.name)

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        return self.postgres.run(sql, self.name)

    def add(self, *statements: str) -> None:
        """Add a migration of these statements of Python."""
        revision = f"{int(self._last) + 1:04d}"
        head = (
            "from alembic import op\nfrom app.store.migrations.online import in_batches, index_concurrently\n"
            f"revision, down_revision = {revision!r}, {self._last!r}\ndef upgrade():\n"
        )
        body = "".join(f"    {statement}\n" for statement in statements)
        (self.migrations / "versions" / f"{revision}.py").write_text(head + body)
        self._last = revision

    def upgrade(self, seconds: float = 20, monitor: str = "") -> tuple[int, dict[str, Any], str]:
        """Migrate as the command does; give its status, its answer and what it said meanwhile."""
        environ = {
            "DATABASE_URL": self.url,
            "P12_MIGRATION_SECONDS": str(seconds),
            "P12_MONITOR_URL": monitor,
        }
        with (
            contextlib.redirect_stdout(io.StringIO()) as output,
            contextlib.redirect_stderr(io.StringIO()) as said,
        ):
            status = app.store.migrate.main(["upgrade"], environ)
        return status, json.loads(output.getvalue()), said.getvalue()

    @contextlib.contextmanager
    def reader(self) -> Iterator[psycopg2.extensions.connection]:
        """Somebody who has read the notes in a transaction and does not end it."""
        with contextlib.closing(psycopg2.connect(self.url, application_name="report")) as connection:
            connection.cursor().execute(READ)
            yield connection

    @property
    def revision(self) -> str:
        return str(self.run("SELECT version_num FROM alembic_version")[0][0])


@pytest.fixture
def later(
    postgres: Cluster, empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Database:
    shutil.copytree(MIGRATIONS, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(app.store.upgrade, "MIGRATIONS", tmp_path / "migrations")
    made = Database(postgres, empty_database, tmp_path / "migrations")
    assert made.upgrade()[0] == 0
    made.run("INSERT INTO notes (text) SELECT 'note ' || n FROM generate_series(1, 50) n")
    return made


@pytest.fixture
def visited(later: Database, pgbouncer: int, tmp_path: Path) -> Iterator[Visitors]:
    """Visitors of the database's service, who come during the test."""
    with slot(f"postgresql://nobody@127.0.0.1:{pgbouncer}/{later.name}", tmp_path, {}, 1) as instances:
        visitors = Visitors(instances.urls, range(1, 21))
        with visitors.visiting():
            yield visitors


def test_behind_a_long_read_it_gives_up_naming_the_reader_and_visitors_never_notice(
    later: Database, visited: Visitors
) -> None:
    later.add(ALTER)

    with later.reader() as reader:
        pid = reader.info.backend_pid
        status, answer, said = later.upgrade(seconds=3)

    assert status == 1
    assert answer["error"].startswith(
        f"{NEXT} did not get its lock within 3 s: AccessExclusiveLock on notes is held by "
        f"pid {pid} (nobody, report) since "
    )
    assert answer["error"].endswith(f"The schema stays at {HEAD}")
    assert f"pg_terminate_backend({pid})" in answer["hint"]
    assert (answer["holders"][0]["pid"], answer["holders"][0]["state"]) == (pid, "idle in transaction")
    assert "SELECT count(*) FROM notes WHERE text <> '?' AND id <> ?" in said
    assert said.count(f"{NEXT} waits: ") >= 2
    assert "private words" not in f"{answer}{said}"
    assert "73195001" not in f"{answer}{said}"
    assert (later.revision, later.run(ALTERED)) == (HEAD, [(0,)])
    assert set(visited.statuses()) == {200}


def test_it_goes_through_once_the_reader_ends(later: Database, visited: Visitors) -> None:
    later.add(ALTER)

    with later.reader() as reader:
        told: list[str] = []

        def end_the_read(line: str) -> None:
            told.append(line)
            reader.rollback()

        engines = [
            app.store.migrate._engine({"DATABASE_URL": later.url}, name)
            for name in ("DATABASE_URL", "P12_MONITOR_URL")
        ]
        answer = upgrade(*engines, Patience(20, end_the_read))

    assert (answer["before"], answer["after"], answer["changed"]) == (HEAD, NEXT, True)
    assert len(told) == len(answer["waited_for"]) == 1
    assert later.run(ALTERED) == [(1,)]
    # A machine that stands still under all tests sheds a view or two; the wait fails nobody.
    statuses = list(visited.statuses())
    assert statuses.count(200) >= 0.99 * len(statuses)


def test_no_statement_waits_for_longer_whatever_a_migration_sets(later: Database) -> None:
    seen = "op.execute(\"CREATE TABLE {} AS SELECT current_setting('lock_timeout') AS waits\")"
    later.add("op.execute(\"SET lock_timeout = '1h'\")", seen.format("first"))
    later.add(seen.format("second"))

    assert later.upgrade()[0] == 0

    assert later.run("SELECT waits FROM first UNION ALL SELECT waits FROM second") == [("200ms",), ("200ms",)]


def test_each_migration_commits_by_itself_and_one_that_is_locked_out_leaves_nothing(later: Database) -> None:
    later.add("op.execute('CREATE TABLE done (id int)')")
    later.add("op.execute('CREATE TABLE half (id int)')", ALTER)

    with later.reader():
        status, answer, _ = later.upgrade(seconds=0.2)

    assert (status, later.revision) == (1, NEXT)
    assert answer["error"].endswith(f"The schema stays at {NEXT}")
    assert later.run("SELECT to_regclass('done') IS NULL, to_regclass('half') IS NULL") == [(False, True)]
    assert later.upgrade()[1] == {"before": NEXT, "after": AFTER_NEXT, "changed": True}


def test_a_role_that_may_not_see_queries_says_who_and_one_that_may_says_what(later: Database) -> None:
    later.run("CREATE ROLE shy LOGIN; CREATE ROLE seer LOGIN; GRANT pg_monitor TO seer")
    try:
        later.add(ALTER)
        with later.reader() as reader:
            pid = reader.info.backend_pid
            hidden = later.upgrade(0.3, later.postgres.url(later.name, "shy"))[1]["holders"][0]
            shown = later.upgrade(0.3, later.postgres.url(later.name, "seer"))[1]["holders"][0]
    finally:
        later.run("DROP ROLE shy; DROP ROLE seer")

    assert (hidden["pid"], hidden["user"], hidden["query"], hidden["since"]) == (pid, "nobody", "", "")
    assert (shown["pid"], shown["query"]) == (pid, "SELECT count(*) FROM notes WHERE text <> '?' AND id <> ?")


def test_an_index_is_built_beside_a_reader_and_visitors_and_left_whole_or_not_at_all(
    later: Database, visited: Visitors
) -> None:
    later.add("index_concurrently('by_author', 'notes (author_fp)')")
    later.run("CREATE INDEX by_author ON notes (likes)")
    later.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_author'::regclass")

    with later.reader() as reader:
        status, answer, _ = later.upgrade(seconds=1)
        assert (status, later.revision) == (1, HEAD)
        assert f"is held by pid {reader.info.backend_pid} (nobody, report)" in answer["error"]
        assert later.run(INDEXES) in ([], [("by_author", False)])
        assert ("unfinished: by_author" in answer["error"]) == bool(later.run(INDEXES))

    assert later.upgrade()[1]["after"] == NEXT
    assert later.run(INDEXES) == [("by_author", True)]
    assert later.run("SELECT indkey::text FROM pg_index WHERE indexrelid = 'by_author'::regclass") == [("8",)]
    assert set(visited.statuses()) == {200}


def test_an_index_that_cannot_be_built_is_taken_away_at_once(later: Database) -> None:
    later.add("index_concurrently('by_author', 'notes (likes)', unique=True)")

    status, answer, _ = later.upgrade()

    assert (status, later.revision) == (1, HEAD)
    assert 'could not create unique index "by_author"' in answer["error"]
    assert later.run(INDEXES) == []


def test_batches_go_on_where_an_earlier_run_stopped(later: Database) -> None:
    later.add("op.execute('ALTER TABLE notes ADD COLUMN kind text')")
    later.add("in_batches('notes', \"kind = 'plain'\", 'kind IS NULL', rows=10)")
    refuse = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not yet'; END $$;"
        "CREATE TRIGGER refusing BEFORE UPDATE ON notes FOR EACH ROW WHEN (OLD.id = 35) "
        "EXECUTE FUNCTION refuse()"
    )
    filled = "SELECT count(*), max(id), array_agg(xmin::text ORDER BY id) FROM notes WHERE kind = 'plain'"
    later.run(refuse)

    status, answer, _ = later.upgrade()

    assert (status, answer["error"].splitlines()[0], later.revision) == (1, "not yet", NEXT)
    ((count, last, written),) = later.run(filled)
    assert (count, last) == (30, 30)

    later.run("DROP TRIGGER refusing ON notes")
    assert later.upgrade()[1]["after"] == AFTER_NEXT
    ((count, _, after),) = later.run(filled)
    assert (count, after[:30], len(set(after))) == (50, written, 5)


@pytest.mark.parametrize("rows", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_visitors_do_not_notice_that_a_column_is_filled_and_an_index_built(
    later: Database, visited: Visitors, rows: int
) -> None:
    later.run(f"INSERT INTO notes (text) SELECT 'note ' || n FROM generate_series(1, {rows}) n")
    later.run("VACUUM ANALYZE notes")
    later.add(ALTER)
    later.add("in_batches('notes', \"kind = 'plain'\", 'kind IS NULL')")
    later.add("index_concurrently('by_author', 'notes (kind, id)')")
    before = p99_ms(visited, lambda: enough(visited))

    during = p99_ms(visited, lambda: later.upgrade(seconds=60))

    assert later.run("SELECT count(*) FROM notes WHERE kind IS NULL") == [(0,)]
    assert later.run(INDEXES) == [("by_author", True)]
    assert set(visited.statuses()) == {200}
    assert during <= 2 * before, f"p99 {during:.1f} ms, before {before:.1f} ms"


def enough(visitors: Visitors, answers: int = 800) -> None:
    wanted = len(visitors.answers) + answers
    is_there = threading.Event()
    while len(visitors.answers) < wanted:
        is_there.wait(0.02)


def p99_ms(visitors: Visitors, act: Callable[[], object]) -> float:
    """Return the 99th percentile of what visitors waited for while something happened."""
    first = len(visitors.answers)
    act()
    took = sorted(answer.ended - answer.started for answer in visitors.answers[first:])
    return 1000 * took[int(len(took) * 0.99)]
