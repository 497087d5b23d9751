"""Collecting evidence from a real Postgres and a real HTTP server: what is kept, and what never is."""

import contextlib
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest

from rollout.host.installed_servers import Servers
from tests.integration.app.instances import Slot, slot
from tests.running import CHECKOUT, Cluster, cluster, free_port, running, wait_for

SCRIPT = CHECKOUT / "tools" / "collect_prod_evidence.sh"
PASSWORD = "p@ss:w/or%d\\ 'é\"$x&?#*"
HOST_BASED = "host all nobody all trust\nlocal all all trust\nhost all all all scram-sha-256\n"


APP_LOG = """\
[2020-01-01 10:00:00 +0000] [1] an old line
  of two rows
[NOW +0000] [1] a new line
  of two rows
[NOW +0000] connecting to redis://:hunter22@cache:6379/0
NOW {"X-P12-Rehearsal": "1761600000.abcdef", "user": "ana"}
NOW Authorization: Bearer abc.def.ghi
NOW login with password=hunter22&next=/
"""
PG_LOG = """\
2020-01-01 10:00:00 UTC [7] LOG:  an old line
NOW UTC [7] ERROR:  deadlock detected
NOW UTC [7] DETAIL:  Process 7 waits for RowExclusiveLock on relation 16384; blocked by process 8.
	Process 7: INSERT INTO view_log VALUES (1, 'finger''print', '2025-10-28')
NOW UTC [7] STATEMENT:  INSERT INTO notes VALUES ('first secret row
	second secret row') RETURNING id
NOW UTC [7] ERROR:  duplicate key value violates unique constraint "view_log_key"
NOW UTC [7] DETAIL:  Key (note_id, fingerprint)=(1, finger print) already exists.
NOW UTC [7] STATEMENT:  SELECT E'it\\'s a secret', 'another'
"""

# Values that hide behind every way of quoting them.
QUERIES = [
    "SELECT 'secret-1'",
    "SELECT 'it''s secret-1', 'secret-1'",
    "SELECT E'it\\'s secret-1', 'secret-1'",
    "SELECT 'C:\\', 'secret-1'",
    "SELECT $$secret-1$$",
    "SELECT $tag$secret-1$tag$, 'x'",
    "SELECT 1 AS \"it's\", 'secret-1' AS \"that's\"",
    "SELECT 1 /* don't */, 'secret-1' /* can't */",
    "SELECT 1 -- don't\n, 'secret-1' -- can't",
    f"SELECT '{'x' * 1010} secret-1'",
    "SELECT\n 'two\nlines secret-1'",
    "SELECT 73195001",
]


class Service(BaseHTTPRequestHandler):
    """The health pages of a service that has lost its database."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path.endswith("/db") else 200)
        self.send_header("Set-Cookie", "session=cookie-secret")
        self.end_headers()
        self.wfile.write(f'{{"path": "{self.path}", "auth": "{self.headers["Authorization"]}"}}'.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def guarded(servers: Servers, scratch: Path) -> Iterator[Cluster]:
    """A cluster that asks everyone but its superuser for a password."""
    with cluster(servers, scratch / "guarded", log_lock_waits="on", deadlock_timeout="100ms") as made:
        (made.home / "data/pg_hba.conf").write_text(HOST_BASED)
        made.run("SELECT pg_reload_conf()")
        literal = PASSWORD.replace("'", "''")
        made.run(f"CREATE ROLE reader LOGIN PASSWORD '{literal}' IN ROLE pg_monitor")
        made.new_database("notes")
        made.run(
            "CREATE TABLE notes (id int PRIMARY KEY, text text); INSERT INTO notes VALUES (1, '')", "notes"
        )
        yield made


@pytest.fixture(scope="module")
def database_url(guarded: Cluster) -> str:
    return f"postgresql+psycopg2://reader:{quote(PASSWORD, safe='')}@127.0.0.1:{guarded.port}/notes"


class Collected:
    """What one run of the script left."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status, self.said, self.complained = done.returncode, done.stdout, done.stderr
        self.directory = Path(done.stdout.splitlines()[-1] if done.stdout else "/nonexistent")

    def text(self, name: str) -> str:
        return (self.directory / name).read_text()

    def everything(self) -> str:
        kept = [path.read_text() for path in sorted(self.directory.iterdir())]
        return "\n".join([self.said, self.complained, *kept])


Collect = Callable[..., Collected]


@contextlib.contextmanager
def command_lines() -> Iterator[set[str]]:
    """Watch every process of the machine and keep what ``ps`` would have shown."""
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            for process in os.listdir("/proc"):  # noqa: PTH208 - a Path per process is too slow to miss nothing
                if process.isdigit():
                    with contextlib.suppress(OSError), open(f"/proc/{process}/cmdline") as line:  # noqa: PTH123
                        seen.add(line.read())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def collect(tmp_path: Path, service: str, database_url: str) -> Iterator[Collect]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def run(base: str = "evidence", **settings: str) -> Collected:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {
            "REMOTE_BASE_URL": service,
            "DATABASE_URL": database_url,
            "P12_EVIDENCE_OUT": str(tmp_path / base),
            "TMPDIR": str(temporary),
            "P12_APP_LOG": "/dev/null",
            "P12_PG_LOG": "/dev/null",
            "P12_APP_PROCESS": "no such process",
        }
        done = subprocess.run(
            [SCRIPT],
            env=kept | environment | settings,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
        )
        return Collected(done)

    yield run
    assert list(temporary.iterdir()) == []


def logs(tmp_path: Path) -> dict[str, str]:
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    (tmp_path / "app.log").write_text(APP_LOG.replace("NOW", now))
    (tmp_path / "pg.log").write_text(PG_LOG.replace("NOW", now))
    return {"P12_APP_LOG": str(tmp_path / "app.log"), "P12_PG_LOG": str(tmp_path / "pg.log")}


class TestWhenEverythingAnswers:
    def test_it_keeps_the_six_files_privately_and_exits_0(self, tmp_path: Path, collect: Collect) -> None:
        found = collect(**logs(tmp_path))
        assert found.status == 0, found.complained
        names = {path.name for path in found.directory.iterdir()}
        assert names == {
            "app_env.txt",
            "http_health.txt",
            "pg_diag.txt",
            "app_last_24h.log",
            "pg_last_24h.log",
            "summary.txt",
        }
        modes = {stat.S_IMODE(path.stat().st_mode) for path in found.directory.iterdir()}
        assert (stat.S_IMODE(found.directory.stat().st_mode), modes) == (0o700, {0o600})

    def test_the_summary_is_what_was_said_and_names_each_piece(
        self, tmp_path: Path, collect: Collect
    ) -> None:
        found = collect(**logs(tmp_path))
        summary = found.text("summary.txt")
        assert found.said == f"{summary}{found.directory}\n"
        assert "collected  http_health.txt" in summary
        assert "/api/health/db 503 in" in summary
        assert "of 150 connections, 0 locks waiting, 0 deadlocks since the beginning" in summary

    def test_health_pages_are_kept_with_status_time_headers_and_body(self, collect: Collect) -> None:
        text = collect().text("http_health.txt")
        for expected in (
            "/api/health/db\n503 Service Unavailable in ",
            "/healthz\n200 OK in ",
            "Server: Base",
        ):
            assert expected in text
        assert '"path": "/api/health"' in text
        assert "cookie-secret" not in text

    def test_every_diagnosis_the_report_promises_is_there(self, collect: Collect) -> None:
        text = collect().text("pg_diag.txt")
        for expected in (
            "== pg_stat_activity",
            "== pg_locks not granted",
            "== pg_stat_database",
            "== connections by state",
            "max_connections",
            "| 150",
        ):
            assert expected in text
        assert "ERROR" not in text

    def test_runs_in_the_same_second_keep_both(self, collect: Collect) -> None:
        assert collect().directory != collect().directory


class TestThePassword:
    def test_it_is_never_on_a_command_line_nor_in_what_is_kept(self, collect: Collect) -> None:
        with command_lines() as seen:
            found = collect()
        assert found.status == 0, found.said
        assert any("psql" in line for line in seen), "the watcher saw nothing"
        for shape in (PASSWORD, quote(PASSWORD, safe=""), PASSWORD[:8]):
            assert [line for line in seen if shape in line] == []
            assert shape not in found.everything()

    @pytest.mark.parametrize(
        "scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg"]
    )
    def test_every_form_of_address_is_understood(
        self, collect: Collect, guarded: Cluster, scheme: str
    ) -> None:
        password = quote(PASSWORD, safe="")
        address = f"{scheme}://reader:{password}@127.0.0.1:{guarded.port}/notes?sslmode=prefer"
        assert collect(DATABASE_URL=address).status == 0

    def test_user_password_and_host_may_be_in_the_query(self, collect: Collect, guarded: Cluster) -> None:
        password = quote(PASSWORD, safe="")
        address = f"postgresql:///notes?host=127.0.0.1&port={guarded.port}&user=reader&password={password}"
        found = collect(DATABASE_URL=address)
        assert found.status == 0, found.said
        assert password not in found.everything()

    def test_a_socket_directory_may_be_the_host(self, collect: Collect, guarded: Cluster) -> None:
        address = f"postgresql://nobody@/notes?host={quote(str(guarded.home), safe='')}&port={guarded.port}"
        assert collect(DATABASE_URL=address).status == 0

    def test_sslmode_reaches_the_server(self, collect: Collect, database_url: str) -> None:
        found = collect(DATABASE_URL=f"{database_url}?sslmode=require")
        assert found.status == 3
        assert "server does not support SSL" in found.said

    def test_a_wrong_one_is_said_without_showing_it(self, collect: Collect, guarded: Cluster) -> None:
        address = f"postgresql://reader:wrong-password@127.0.0.1:{guarded.port}/notes"
        found = collect(DATABASE_URL=address)
        assert found.status == 3
        assert 'password authentication failed for user "reader"' in found.said
        assert "wrong-password" not in found.everything()


def test_it_works_through_a_transaction_pooler(collect: Collect, pgbouncer: int) -> None:
    found = collect(DATABASE_URL=f"postgresql://nobody@127.0.0.1:{pgbouncer}/postgres")
    assert found.status == 0, found.said + found.text("pg_diag.txt")


class TestQueriesOfOthers:
    def test_a_waiting_lock_is_shown_with_who_blocks_it(self, collect: Collect, guarded: Cluster) -> None:
        update = "UPDATE notes SET text = 'private words' WHERE id = 1"
        with session(guarded, update) as blocker, session(guarded, "SELECT 1") as waiter:
            thread = threading.Thread(target=lambda: waiter.cursor().execute(update))
            thread.start()
            wait_for(
                lambda: guarded.run("SELECT 1 FROM pg_locks WHERE NOT granted"), "a lock being waited for"
            )
            found = collect()
            pids = waiter.info.backend_pid, blocker.info.backend_pid
            blocker.rollback()
            thread.join()
        waiting = found.text("pg_diag.txt").split("== pg_locks not granted")[1].split("== ")[0]
        (row,) = [line for line in waiting.splitlines() if line.strip().startswith(str(pids[0]))]
        assert f"| {pids[1]} | idle in transaction" in " ".join(row.split())
        assert row.count("UPDATE notes SET text = '?' WHERE id = ?") == 2
        assert "private words" not in found.everything()
        assert "1 locks waiting" in found.said

    def test_the_values_in_them_are_never_kept(self, collect: Collect, guarded: Cluster) -> None:
        with contextlib.ExitStack() as sessions:
            opened = [sessions.enter_context(session(guarded, query)) for query in QUERIES]
            pids = [connection.info.backend_pid for connection in opened]
            text = collect().text("pg_diag.txt")
        shown = text.split("== pg_stat_activity")[1].split("== pg_locks")[0].splitlines()
        for pid in pids:
            (row,) = [line for line in shown if line.strip().startswith(f"{pid} ")]
            assert "| SELECT" in row
        assert "secret-1" not in text
        assert "73195001" not in text

    def test_they_are_at_most_200_characters(self, collect: Collect, guarded: Cluster) -> None:
        with session(
            guarded, f"SELECT {', '.join(['note_column'] * 90)} FROM (SELECT now() AS note_column) x"
        ):
            text = collect().text("pg_diag.txt")
        (row,) = [line for line in text.splitlines() if "note_column" in line]
        assert len(row.split("SELECT note_column")[1].rstrip()) <= 200 - len("SELECT note_column")


@contextlib.contextmanager
def session(guarded: Cluster, query: str) -> Iterator[psycopg2.extensions.connection]:
    """A session that is idle in a transaction after one query."""
    connection = psycopg2.connect(guarded.url("notes"))
    try:
        connection.cursor().execute(query)
        yield connection
    finally:
        connection.close()


class TestWhenSomethingIsAway:
    def test_a_database_that_is_away_costs_only_its_own_piece(self, collect: Collect) -> None:
        found = collect(DATABASE_URL=f"postgresql://reader:secret@127.0.0.1:{free_port()}/notes")
        assert found.status == 3
        assert "missing    pg_diag.txt" in found.said
        assert "Connection refused" in found.said
        assert "collected  http_health.txt" in found.said

    def test_a_service_that_is_away_costs_only_its_own_piece(self, collect: Collect) -> None:
        found = collect(REMOTE_BASE_URL=f"http://127.0.0.1:{free_port()}/")
        assert found.status == 3
        assert "missing    http_health.txt   /api/health no answer" in found.said
        assert "collected  pg_diag.txt" in found.said

    def test_without_psql_the_one_command_is_said(self, tmp_path: Path, collect: Collect) -> None:
        found = collect(PATH=path_without(tmp_path, "psql"))
        if Path("/usr/lib/postgresql").exists():
            assert found.status == 0, "psql is found beside the server"
        else:
            assert "Type: sudo apt-get install postgresql-client" in found.said

    def test_without_a_journal_the_log_setting_is_named(self, tmp_path: Path, collect: Collect) -> None:
        found = collect(PATH=path_without(tmp_path, "journalctl"), P12_APP_LOG="", P12_PG_LOG="")
        assert found.status == 0, found.said
        assert "journalctl is not here; name a log file in P12_APP_LOG" in found.said
        assert "journalctl is not here; name a log file in P12_PG_LOG" in found.said

    def test_a_log_that_cannot_be_read_is_named(self, collect: Collect) -> None:
        found = collect(P12_APP_LOG="/nonexistent/app.log")
        assert found.status == 0
        assert "/nonexistent/app.log" in found.said
        assert "No such file or directory" in found.said

    def test_a_base_directory_that_cannot_be_made_is_named(self, tmp_path: Path, collect: Collect) -> None:
        (tmp_path / "file").write_text("")
        found = collect(base="file")
        assert found.status == 1
        assert f"{tmp_path}/file/logs" in found.complained
        assert "P12_EVIDENCE_OUT" in found.complained


class TestLogs:
    def test_only_the_last_24_hours_are_kept(self, tmp_path: Path, collect: Collect) -> None:
        found = collect(**logs(tmp_path))
        text = found.text("app_last_24h.log")
        assert "a new line\n  of two rows" in text
        assert "an old line" not in text + found.text("pg_last_24h.log")
        assert text.count("of two rows") == 1

    def test_several_files_are_kept_one_after_the_other(self, tmp_path: Path, collect: Collect) -> None:
        app, pg = logs(tmp_path).values()
        found = collect(P12_APP_LOG=f"{app}:/nonexistent:{pg}")
        text = found.text("app_last_24h.log")
        assert text.index(f"==> {app} <==") < text.index("a new line") < text.index("deadlock detected")
        assert "/nonexistent" in found.said

    def test_secrets_in_them_are_masked(self, tmp_path: Path, collect: Collect) -> None:
        text = collect(**logs(tmp_path)).text("app_last_24h.log")
        assert "redis://***@cache:6379/0" in text
        assert "password=***&next=/" in text
        assert '"X-P12-Rehearsal": "***", "user": "ana"' in text
        for secret in ("hunter22", "abcdef", "abc.def.ghi"):
            assert secret not in text

    def test_a_secret_of_the_settings_is_masked_wherever_it_turns_up(
        self, tmp_path: Path, collect: Collect
    ) -> None:
        (tmp_path / "odd.log").write_text("the salt is s4lt*and[pepper], they say: s4lt*and[pepper]\n")
        found = collect(P12_APP_LOG=str(tmp_path / "odd.log"), P12_FP_SALT="s4lt*and[pepper]")
        assert "the salt is ***, they say: ***" in found.text("app_last_24h.log")

    def test_literals_in_the_database_log_are_masked_and_its_words_kept(
        self, tmp_path: Path, collect: Collect
    ) -> None:
        text = collect(**logs(tmp_path)).text("pg_last_24h.log")
        assert "Process 7 waits for RowExclusiveLock on relation 16384; blocked by process 8." in text
        assert "INSERT INTO view_log VALUES (1, '?''?', '?')" in text
        assert "RETURNING id" in text
        assert "Key (…)=(?) already exists" in text
        for secret in ("finger", "secret", "another"):
            assert secret not in text

    def test_the_journal_is_asked_for_the_units_given(self, tmp_path: Path, collect: Collect) -> None:
        fake = tmp_path / "bin" / "journalctl"
        fake.parent.mkdir()
        fake.write_text('#!/bin/sh\necho "asked: $*"\n')
        fake.chmod(0o755)
        found = collect(
            PATH=f"{fake.parent}:{os.environ['PATH']}",
            P12_APP_LOG="",
            P12_PG_LOG="",
            P12_APP_UNIT="paste12-blue.service paste12-green.service",
        )
        asked = found.text("app_last_24h.log")
        assert "--since 24 hours ago" in asked
        assert "--unit paste12-blue.service --unit paste12-green.service" in asked
        assert "--unit postgresql*" in found.text("pg_last_24h.log")


@pytest.fixture
def instance(postgres: Cluster, tmp_path: Path) -> Iterator[Slot]:
    settings = {
        "P12_FP_SALT": "peppered",
        "FLASK_LIMITER_STORAGE_URI": "redis://:hunter22@127.0.0.1:1/0",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer abc",
        "UNRELATED": "not kept",
    }
    with slot(postgres.url(), tmp_path, settings, instances=1) as made:
        made.set_flags(P12_READ_ONLY="1")
        yield made


# No port, pid or path has it in it.
OF_THE_SHELL = "as-many-as-this-shell-says"


def test_settings_and_flags_are_those_of_the_running_service_and_not_of_this_shell(
    collect: Collect, instance: Slot
) -> None:
    found = collect(P12_APP_PROCESS="", P12_DB_POOL_SIZE=OF_THE_SHELL, P12_OURS="shell's")
    text = found.text("app_env.txt")
    bind = instance.urls[0].removeprefix("http://")
    here = next(part for part in text.split("# in force in pid") if bind in part)
    for expected in (
        "P12_FLAGS_SECRET=***",
        "P12_FP_SALT=***",
        "FLASK_LIMITER_STORAGE_URI=redis://***@127.0.0.1:1/0",
        "OTEL_EXPORTER_OTLP_HEADERS=***",
        f"P12_BIND={bind}",
        f"/internal/flags of {bind}: ",
        '"P12_READ_ONLY":"1"',
        '"ok":',
    ):
        assert expected in here
    assert bind not in collect(P12_APP_PROCESS="", P12_APP_TARGET="production").text("app_env.txt")
    assert "shell's" not in text
    assert OF_THE_SHELL not in here
    assert "UNRELATED" not in text
    assert "hunter" not in found.everything()
    assert "p12_limiter_degraded" in found.text("app_metrics.txt")
    assert "== timeouts of the service" in found.text("pg_diag.txt")


def test_where_no_process_of_the_service_can_be_seen_that_is_said(collect: Collect) -> None:
    found = collect(P12_DB_POOL_SIZE=OF_THE_SHELL)
    assert "missing    app_env.txt" in found.said
    assert OF_THE_SHELL not in found.text("app_env.txt")


def test_timeouts_are_those_of_sessions_and_not_of_this_script(collect: Collect, guarded: Cluster) -> None:
    guarded.run("ALTER ROLE reader SET statement_timeout = '7321ms'")
    try:
        text = collect().text("pg_diag.txt")
    finally:
        guarded.run("ALTER ROLE reader RESET statement_timeout")
    (row,) = [line for line in text.splitlines() if line.strip().startswith("statement_timeout ")]
    assert [word.strip() for word in row.split("|")][1:3] == ["7321", "ms"]
    assert "{statement_timeout=7321ms}" in text


def test_the_first_reading_says_who_waits_for_whom(collect: Collect, guarded: Cluster) -> None:
    guarded.run(
        "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(60); RETURN $1; END'",
        "notes",
    )
    with contextlib.ExitStack() as stack:
        holder, *waiters = [stack.enter_context(session(guarded, "SELECT 1")) for _ in range(4)]
        queries = ["CREATE INDEX slowly ON notes (slow(id))", *["DELETE FROM notes WHERE id = 2"] * 3]
        threads = [
            threading.Thread(target=ended_by_cancel, args=(connection, query))
            for connection, query in zip((holder, *waiters), queries, strict=True)
        ]
        for number, thread in enumerate(threads):
            thread.start()
            wait_for(
                lambda n=number: guarded.run(  # type: ignore[misc]
                    f"SELECT 1 FROM pg_locks WHERE relation = 'notes'::regclass AND mode = 'ShareLock' "
                    f"AND (SELECT count(*) FROM pg_locks WHERE NOT granted) = {n}",
                    "notes",
                ),
                "locks",
            )
        pid, found = holder.info.backend_pid, collect()
        for connection in (*waiters, holder):
            connection.cancel()
        for thread in threads:
            thread.join()
    assert (
        f"reading    3 sessions wait for notes; pid {pid} holds it, running CREATE INDEX, for " in found.said
    )
    assert found.said.index("collected  pg_diag.txt") < found.said.index("reading ")


def ended_by_cancel(connection: psycopg2.extensions.connection, query: str) -> None:
    with contextlib.suppress(psycopg2.errors.QueryCanceled):
        connection.cursor().execute(query)


def test_pgbouncer_is_asked_and_its_clients_are_summed(collect: Collect, pgbouncer: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            there = psycopg2.connect(f"postgresql://nobody@127.0.0.1:{pgbouncer}/postgres")
            stack.callback(there.close)
        found = collect(P12_PGBOUNCER_URL=f"postgresql://nobody@127.0.0.1:{pgbouncer}/pgbouncer")
    text = found.text("pgbouncer.txt")
    assert "collected  pgbouncer.txt" in found.said
    assert "cl_waiting" in text.split("== SHOW STATS")[0]
    assert "3|nobody|postgres|active|127.0.0.1" in text


def test_haproxy_is_asked_and_what_is_down_is_read_aloud(
    collect: Collect, servers: Servers, scratch: Path
) -> None:
    home = scratch / "haproxy"
    home.mkdir()
    (home / "haproxy.cfg").write_text(
        f"global\n stats socket {home}/s mode 666\ndefaults\n mode http\n timeout connect 1s\n"
        " timeout client 1s\n timeout server 1s\nbackend paste12\n"
        f" server blue-1.local 127.0.0.1:{free_port()} check inter 50ms fall 1\n"
    )
    with running([servers.path("haproxy"), "-db", "-f", home / "haproxy.cfg"], home):
        found = wait_for(
            lambda: "down" in (one := collect(P12_HAPROXY_SOCKET=f"{home}/s")).said and one, "blue-1 down"
        )
    assert "reading    HAProxy sees blue-1.local down" in found.said
    assert "Uptime_sec: " in found.text("haproxy.txt")
    assert "paste12,blue-1.local," in found.text("haproxy.txt")
    assert "missing    haproxy.txt" in collect(P12_HAPROXY_SOCKET=f"{home}/gone").said


def test_python_is_not_needed(tmp_path: Path, collect: Collect) -> None:
    found = collect(PATH=path_without(tmp_path, "python3"))
    assert (found.status, found.complained) == (0, "")


def test_no_tool_complains_in_the_summary(tmp_path: Path, collect: Collect) -> None:
    found = collect(P12_APP_LOG=f"{tmp_path}/gone.log:{tmp_path}", P12_PG_LOG=str(tmp_path / "none"))
    assert "tail:" not in found.said
    assert f"{tmp_path}/gone.log: No such file or directory" in found.said


def test_credentials_for_the_service_are_sent_and_masked(collect: Collect, service: str) -> None:
    found = collect(REMOTE_BASE_URL=service.replace("http://", "http://ops:open%20sesame@"))
    assert found.status == 0, found.said
    assert "sesame" not in found.everything()
    assert "b3BzOm9wZW4gc2VzYW1l" not in found.everything()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"REMOTE_BASE_URL": ""},
            "REMOTE_BASE_URL= is not the address of a service. Use http:// or https://",
        ),
        ({"REMOTE_BASE_URL": "paste12.example"}, "REMOTE_BASE_URL=paste12.example is not the address"),
        ({"REMOTE_BASE_URL": "ftp://me:secret-1@x"}, "REMOTE_BASE_URL=ftp://***@x is not the address"),
        ({"DATABASE_URL": ""}, "DATABASE_URL is not set. Use postgresql://user:password@host:5432/database"),
        ({"DATABASE_URL": "mysql://me:secret-1@db/x"}, "DATABASE_URL=mysql://***@db/x is not the address"),
        ({"DATABASE_URL": "me:secret-1@db/x"}, "DATABASE_URL=***@db/x is not the address"),
        ({"DATABASE_URL": "host=db password='secret-1 a'"}, "DATABASE_URL=host=db password=*** is not the"),
        ({"P12_PGBOUNCER_URL": "me:secret-1@db/x"}, "P12_PGBOUNCER_URL=***@db/x is not the address"),
        (
            {"DATABASE_URL": "postgresql://me:secret-1@db:port/x"},
            "DATABASE_URL names the host db:port, which",
        ),
        ({"DATABASE_URL": "postgresql://me:secret-1@[::1/x"}, "DATABASE_URL names the host [::1, which"),
    ],
)
def test_bad_input_is_refused_by_name_with_what_is_accepted(
    tmp_path: Path, collect: Collect, settings: dict[str, str], expected: str
) -> None:
    found = collect(**settings)
    assert (found.status, found.said) == (2, "")
    assert expected in found.complained
    assert "secret-1" not in found.complained
    assert not (tmp_path / "evidence").exists()


def test_the_script_is_clean_for_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True)
    assert done.stdout == ""


def path_without(tmp_path: Path, name: str) -> str:
    """A PATH of links to everything but one program."""
    links = tmp_path / "links"
    links.mkdir()
    for directory in ("/usr/bin", "/bin", "/usr/sbin"):
        for program in Path(directory).iterdir():
            if program.name != name and not (links / program.name).is_symlink():
                (links / program.name).symlink_to(program)
    return str(links)
