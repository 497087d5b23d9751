"""A target whose Postgres, pooler and Redis are somebody else's: what is asked, and what is refused."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from playbooks.filter_plugins.elsewhere import p12_postgres_url, p12_url_database
from rollout.database import backup, restart, restore_copy
from rollout.database.postgres import Cluster
from rollout.errors import Refused, RolloutError
from rollout.files import write_json
from rollout.guard.database_reader import reader
from rollout.host import preflight
from rollout.host.installed_servers import Servers
from rollout.target.dsn import MONITOR, OWNER, database_url
from rollout.target.target import Target
from tests.elsewhere import DATABASE, POOLED, SECRETS, Elsewhere, elsewhere
from tests.running import free_port

Make = Callable[..., Target]


@pytest.fixture(scope="module")
def there(servers: Servers, scratch: Path) -> Iterator[Elsewhere]:
    with elsewhere(servers, scratch / "elsewhere") as made:
        yield made


@pytest.fixture
def make(there: Elsewhere, servers: Servers, tmp_path: Path) -> Make:
    """A target as provision would leave it; words replace its secrets."""

    def made(roles: tuple[str, ...] = ("app", "backup"), **secrets: str) -> Target:
        for name in ("artifacts", "backups"):
            (tmp_path / name).mkdir(exist_ok=True)
        ca = str(there.ca)
        given = {
            "database_url_direct": p12_postgres_url(there.direct(), "direct", ca),
            "database_url_monitor": p12_postgres_url(there.direct("looker"), "monitor", ca),
            "pgbouncer_url": there.console(),
            "redis_url": there.redis(),
        }
        write_json(tmp_path / "secrets.json", given | secrets)
        settings: dict[str, Any] = {
            **{"roles": list(roles), "database_elsewhere": True, "redis_elsewhere": True},
            **{"database": DATABASE, "pooled_database": POOLED, "postgres_bin": str(servers.postgres_bin)},
            **{"ports": {}, "guard": {"database_seconds": 0}, "backup": {}, "run": str(tmp_path)},
            "budget": {
                **{"hosts": 1, "instances": 2, "threads": 8, "pool_size": 8, "max_overflow": 8},
                **{"limiter_storage": "redis", "max_client_conn": 400, "pooler_pool_size": 30},
                **{"max_db_connections": 0, "pool_mode": "transaction"},
            },
        }
        return Target("production", tmp_path, settings)

    return made


def test_it_is_ready_and_says_what_nobody_can_read(make: Make) -> None:
    assert preflight.preflight(make(), "")["say"] == (
        "production: app, backup ready; not seen here: Postgres's log"
    )


def test_without_a_console_and_a_role_that_looks_more_is_not_seen(make: Make, there: Elsewhere) -> None:
    owner = p12_postgres_url(there.direct(), "direct", str(there.ca))

    said = preflight.preflight(make(database_url_monitor=owner, pgbouncer_url=""), "")["say"]

    assert "what others' sessions do, for who looks is not pg_monitor" in said
    assert "who waits in the pooler's line, which has no console for us" in said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("?sslmode=disable", "no pg_hba.conf entry"),
        ("?sslmode=verify-full&sslrootcert=/nonexistent", "root certificate file"),
    ],
)
def test_a_server_that_takes_tls_only_is_named_in_its_words_without_a_password(
    make: Make, there: Elsewhere, url: str, said: str
) -> None:
    target = make(database_url_direct=there.direct(options=url))

    with pytest.raises(Refused, match="The database cannot be reached: ") as refused:
        preflight.preflight(target, "")

    assert said in str(refused.value)
    assert "100%" not in str(refused.value)


@pytest.mark.parametrize("wrong", ["password", "certificate", "port"])
def test_a_redis_that_does_not_let_us_in_is_named_without_its_password(
    make: Make, there: Elsewhere, wrong: str
) -> None:
    port = free_port()
    urls = {
        "password": f"rediss://:wrong@localhost:{there.redis_port}/0?ssl_ca_certs={there.ca}",
        "certificate": there.redis().partition("?")[0],
        "port": there.redis().replace(f":{there.redis_port}/", f":{port}/"),
    }
    words = {"password": "WRONGPASS", "certificate": "certificate verify failed", "port": f"localhost:{port}"}

    with pytest.raises(Refused, match="Redis") as refused:
        preflight.preflight(make(("app",), redis_url=urls[wrong]), "")

    assert words[wrong] in str(refused.value)
    assert SECRETS["redis"] not in str(refused.value)


@pytest.mark.parametrize("role", ["looker", "today"])
@pytest.mark.parametrize("console", [True, False])
def test_the_guard_reads_what_there_is_and_names_the_rest(
    make: Make, there: Elsewhere, role: str, console: bool
) -> None:
    there.cluster.run("CREATE TABLE IF NOT EXISTS notes (); ALTER TABLE notes OWNER TO today", DATABASE)
    monitor = p12_postgres_url(there.direct(role), "monitor", str(there.ca))
    reading = reader(make(database_url_monitor=monitor, pgbouncer_url=there.console() if console else ""))

    found = reading.latest()

    assert found, reading.error
    assert found["connections"] >= 1
    unread = ["transaction_seconds"] * (role == "today") + ["pooler_waiting"] * (not console)
    assert found.get("unread", []) == unread
    assert not set(unread) & found.keys()


def test_what_takes_the_superuser_is_refused_in_words(make: Make) -> None:
    target = make()

    for care in (
        lambda: Cluster.of(target),
        lambda: restart.restart_postgres(target),
        lambda: restart.restart_pgbouncer(target),
        lambda: restore_copy.drop(target, "restored_x"),
    ):
        with pytest.raises(Refused, match="production: its Postgres is somebody else's") as refused:
            care()
        assert "docs/how-to/servers-elsewhere.md" in refused.value.hint


def test_backups_are_listed_without_asking_the_server(make: Make) -> None:
    assert restore_copy.listed(make())["say"] == (
        "production: backups, oldest first\n  none yet: ./p12 backup"
    )


def test_a_copy_of_the_database_is_reached_with_the_same_words(make: Make) -> None:
    target = make()

    assert "/another?sslmode=verify-full&sslrootcert=" in database_url(target, OWNER, "another")
    assert database_url(target, MONITOR).startswith("postgresql://looker:l00k%20%26%20see@localhost:")


def snapshot_with(target: Target, *words: str) -> str:
    target.settings["backup"]["snapshot_command"] = list(words)  # type: ignore[index]
    return backup.take_snapshot(target)


def test_a_providers_snapshot_is_asked_for_and_its_id_is_the_last_line(make: Make) -> None:
    script = "print('creating …'); print('rds:paste-2026-11-29 ')"

    assert snapshot_with(make(), sys.executable, "-c", script) == "rds:paste-2026-11-29"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("/nonexistent/snap",), "cannot be asked for: .*/nonexistent/snap"),
        ((sys.executable, "-c", "raise SystemExit('quota exceeded')"), "status 1: quota exceeded"),
        ((sys.executable, "-c", ""), "gives no snapshot: it ended with status 0"),
    ],
)
def test_a_snapshot_that_cannot_be_had_stops_before_the_dump(
    make: Make, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(RolloutError, match=said) as refused:
        snapshot_with(make(), *words)

    assert "p12_snapshot_command" in refused.value.hint


def test_an_address_says_tls_unless_it_says_something_itself() -> None:
    assert p12_postgres_url("postgres://u:p@h/d", "x") == "postgresql://u:p@h/d?sslmode=require"
    assert p12_postgres_url("postgresql+psycopg2://u@h:1/d?sslmode=disable", "x", "/ca") == (
        "postgresql://u@h:1/d?sslmode=disable"
    )
    assert p12_postgres_url("postgresql://u@h/d", "x", "/ca.pem") == (
        "postgresql://u@h/d?sslmode=verify-full&sslrootcert=/ca.pem"
    )
    assert p12_url_database("postgresql://u@h/d?sslmode=require") == "d"


@pytest.mark.parametrize("given", ["", "mysql://u:secret@h/d", "postgresql://u:secret@h", "u:secret@h/d"])
def test_an_address_that_is_none_is_named_and_not_shown(given: str) -> None:
    with pytest.raises(AnsibleFilterError, match="p12_database_url_direct") as wrong:
        p12_postgres_url(given, "p12_database_url_direct")

    assert "secret" not in json.dumps(str(wrong.value))
