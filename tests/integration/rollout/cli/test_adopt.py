"""The look at what runs today, as it is typed: on a real Postgres, with exit statuses, words and JSON."""

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rollout.host.installed_servers import Servers
from tests.running import CHECKOUT, UNPRIVILEGED, Cluster, free_port, running, wait_for
from tests.today.database import TABLES, TODAY

CLEAN = TABLES + "".join(
    f"ALTER TABLE notes ALTER COLUMN {name} SET DEFAULT 0, ALTER COLUMN {name} SET NOT NULL;"
    for name in ("likes", "views", "reports")
)
PASSWORD = "geheim-4711"
ADOPT = [sys.executable, "-P", "-m", "rollout", "adopt", "--check"]


@pytest.fixture
def old(postgres: Cluster, tmp_path: Path) -> Iterator[str]:
    name = f"old_{tmp_path.name}".replace("-", "_").lower()[:60]
    postgres.new_database(name)
    yield name
    postgres.run(f'DROP DATABASE "{name}" WITH (FORCE)')


def looked(directory: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    file = directory / "url"
    file.write_text(url.replace("nobody@", f"nobody:{PASSWORD}@"))
    file.chmod(0o600)
    done = subprocess.run(
        [*ADOPT, "--database-url-file", str(file), *words],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert PASSWORD not in done.stdout + done.stderr
    return done


@contextlib.contextmanager
def answering(status: int, location: str = "") -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def read_until(terminal: int, words: bytes, seconds: float = 30) -> bytes:
    """What a program says on its terminal, up to what it is waited for."""
    seen, deadline = b"", time.monotonic() + seconds
    while words not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096)
    return seen


def dump(postgres: Cluster, database: str, servers: Servers) -> str:
    command = [servers.path("pg_dump"), postgres.url(database)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return "".join(line for line in done.stdout.splitlines(True) if not line.startswith("\\"))


def test_a_clean_database_passes_with_what_is_there(postgres: Cluster, old: str, tmp_path: Path) -> None:
    postgres.run(CLEAN, old)

    with answering(200) as url:
        done = looked(tmp_path, postgres.url(old), "--today-url", url)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is in the way. Nothing was changed." in done.stdout
    assert f"{url}: /api/health 200 in " in done.stdout
    assert "role         nobody, superuser, owns the database, may create in public" in done.stdout


def test_todays_database_is_told_in_words_and_in_json_and_is_not_changed(
    postgres: Cluster, old: str, tmp_path: Path, servers: Servers
) -> None:
    postgres.run(TODAY, old)
    before = dump(postgres, old, servers)

    words, shown = looked(tmp_path, postgres.url(old)), looked(tmp_path, postgres.url(old), "--json")

    assert (words.returncode, shown.returncode) == (3, 3)
    assert "trg_parent_note_guard on view_log runs with every change there" in words.stdout
    assert "RAISE EXCEPTION 'note % is not there'" in words.stdout
    assert "off; after 30 days it would delete 9 notes and 18 rows of their logs for good" in words.stdout
    answer = json.loads(shown.stdout)
    assert (answer["verdict"], answer["notes"]["expired"]) == ("failed", 26)
    assert [each["kind"] for each in answer["obstacles"]].count("trigger") == 4
    assert answer["connections"]["wanted"] == 33
    assert dump(postgres, old, servers) == before


@pytest.mark.parametrize("away", ["port", "database"])
def test_a_server_or_a_database_that_is_not_there_is_unknown(
    postgres: Cluster, tmp_path: Path, away: str
) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/old"
    done = looked(tmp_path, nowhere if away == "port" else postgres.url("never_made"))

    assert done.returncode == 4
    assert "Postgres does not let us in" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_without_any_address_it_says_where_to_write_one() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    done = subprocess.run(
        ADOPT,
        env={**environment, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip

    assert (done.returncode, "--database-url-file FILE" in done.stderr) == (2, True)


def test_at_a_terminal_it_is_asked_for_and_not_shown() -> None:
    terminal, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    asked = subprocess.Popen(
        ADOPT,
        env={**environment, "PYTHONPATH": str(CHECKOUT)},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    seen = read_until(terminal, b"(not shown): ")
    os.write(terminal, f"postgresql://ann:{PASSWORD}@127.0.0.1:{free_port()}/old\n".encode())
    seen += read_until(terminal, b"does not let us in")

    assert asked.wait(30) == 4
    assert PASSWORD.encode() not in seen
    os.close(terminal)
    os.close(theirs)


def test_a_service_that_sends_elsewhere_or_fails_is_in_the_way(
    postgres: Cluster, old: str, tmp_path: Path
) -> None:
    postgres.run(CLEAN, old)

    with answering(301, "https://elsewhere/") as url:
        moved = looked(tmp_path, postgres.url(old), "--today-url", url)
    with answering(500) as url:
        failing = looked(tmp_path, postgres.url(old), "--today-url", url)

    assert (moved.returncode, "it leads to https://elsewhere/" in moved.stdout) == (3, True)
    assert (failing.returncode, "/api/health: status 500" in failing.stdout) == (3, True)


@pytest.mark.parametrize("url", ["paste12.example", "ftp://old/", "http://ann:geheim@old/", "http://old:x/"])
def test_an_address_of_no_service_is_usage(postgres: Cluster, old: str, tmp_path: Path, url: str) -> None:
    done = looked(tmp_path, postgres.url(old), "--today-url", url)

    assert (done.returncode, "is no address of a service" in done.stderr) == (2, True)
    assert "geheim" not in done.stdout + done.stderr


def test_a_replica_is_in_the_way(
    postgres: Cluster, old: str, tmp_path: Path, servers: Servers, scratch: Path
) -> None:
    postgres.run(CLEAN, old)
    home, port = scratch / f"replica{free_port()}", free_port()
    home.mkdir()
    home.chmod(0o777)
    basebackup = Path(servers.path("initdb")).with_name("pg_basebackup")
    copy = [str(basebackup), "-R", "-D", str(home / "data"), "-c", "fast", "-d", postgres.url()]
    subprocess.run([*UNPRIVILEGED, *copy], check=True, capture_output=True, cwd="/")
    server = [servers.path("postgres"), "-D", home / "data", "-k", home, "-p", str(port)]
    with running([*server, "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=150"], home):
        url = f"postgresql://nobody@127.0.0.1:{port}/{old}"
        wait_for(lambda: looked(tmp_path, url).returncode == 3, "the replica's answer")
        done = looked(tmp_path, url)

    assert "read_only (stops): the server is a replica, which takes no writes" in done.stdout


def test_a_look_through_a_pooler_leaves_nothing_on_its_connections(
    postgres: Cluster, pgbouncer: int, old: str, tmp_path: Path
) -> None:
    postgres.run(CLEAN, old)
    url = f"postgresql://nobody@127.0.0.1:{pgbouncer}/{old}"

    done = looked(tmp_path, url)

    assert done.returncode == 0, done.stdout + done.stderr
    through = Cluster(pgbouncer, postgres.home, postgres.process)
    for setting, value in (
        ("statement_timeout", "0"), ("lock_timeout", "0"), ("default_transaction_read_only", "off"),
    ):  # fmt: skip
        assert through.run(f"SHOW {setting}", old) == [(value,)]


def test_a_role_with_a_limit_below_what_the_kit_opens_is_told(
    postgres: Cluster, old: str, tmp_path: Path
) -> None:
    role = f"narrow_{old}"[:60]
    postgres.run(
        f'CREATE ROLE "{role}" LOGIN CONNECTION LIMIT 10; GRANT ALL ON SCHEMA public TO "{role}"', old
    )
    try:
        done = looked(tmp_path, postgres.url(old, role))
    finally:
        postgres.run(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"', old)

    assert (done.returncode, "connection_limit 33 (limit <= 10)" in done.stdout) == (3, True)


def test_a_sites_own_setting_is_used_and_stands_on_no_command_line(
    postgres: Cluster, old: str, tmp_path: Path
) -> None:
    postgres.run(TODAY, old)
    url = postgres.url(old).replace("nobody@", f"nobody:{PASSWORD}@")
    site = {
        "all": {"children": {"production": {"hosts": {"one": {
            "p12_database_url_direct": "{{ kept }}", "kept": url, "p12_purge_after_days": 1,
            "p12_pgbouncer_pool_size": 20,
        }}}}}
    }  # fmt: skip
    (tmp_path / "hosts.yml").write_text(json.dumps(site))

    done = subprocess.run(
        [*ADOPT, "--json", "-i", str(tmp_path / "hosts.yml")],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip

    assert done.returncode == 3, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["connections"]["wanted"], answer["inputs"]["dbname"]) == (23, old)
    assert answer["notes"]["purge"]["is_on"] is True
    assert PASSWORD not in done.stdout + done.stderr
