"""The site's own signals, from a real Postgres and from what speaks Prometheus' /api/v1/query."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from checks.window.signal_reading import read
from checks.window.signals import Signal, parse
from rollout.errors import Refused
from rollout.files import write_json
from rollout.guard.signals import reader, show
from rollout.steps.window import samples_path
from rollout.target.target import Target
from tests.integration.rollout.steered import NEW, SECRETS, Steered
from tests.running import Cluster, wait_for

NAME, PASSWORD = "signalled", "hunter2:/?"


class Prometheus(ThreadingHTTPServer):
    """Answers each query with ``value``, once it is told the password; or with what ``told`` says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.value = 40.0
        self.told: Any = None
        self.status = 200
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://me:hunter2%3A%2F%3F@127.0.0.1:{self.server_port}/prom"


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Prometheus)
        login = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        asked = urlsplit(self.path)
        server.asked.append(parse_qs(asked.query)["query"][0])
        known = self.headers["Authorization"] == f"Basic {login}" and asked.path == "/prom/api/v1/query"
        series = [{"metric": {}, "value": [time.time(), str(server.value)]}]
        told = server.told or {"status": "success", "data": {"resultType": "vector", "result": series}}
        self.send_response(server.status if known else 401)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with Prometheus() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def asking(prometheus: Prometheus, **more: Any) -> dict[str, Any]:
    query = {"query": "sum(rate(notes_total[1m]))", "url": prometheus.url}
    return {"name": "writes", "better": "higher", "tolerable": "30%", **query, **more}


def answer(prometheus: Prometheus) -> Any:
    return read(parse([asking(prometheus)]), None, lambda: 1.0)["writes"]


def test_a_prometheus_answers_a_query_with_one_number(prometheus: Prometheus) -> None:
    assert answer(prometheus) == {"at": 1.0, "value": 40.0}
    assert prometheus.asked == ["sum(rate(notes_total[1m]))"]


@pytest.mark.parametrize(
    ("told", "status", "said"),
    [
        ({"data": {"resultType": "scalar", "result": [1, "7"]}}, 200, 7.0),
        ({"data": {"resultType": "vector", "result": []}}, 200, "its query gives no series; one number"),
        ({"data": {"resultType": "vector", "result": [1, 2]}}, 200, "its query gives 2 series; one number"),
        ({"data": {"resultType": "matrix", "result": []}}, 200, "its query gives a matrix; one number"),
        ({"data": {"resultType": "scalar", "result": [1, "NaN"]}}, 200, "it gives 'NaN', which is no number"),
        (
            {"error": "parse error: unexpected )"},
            400,
            "its Prometheus answers 400: parse error: unexpected )",
        ),
        (["?"], 200, "its Prometheus answers something else than a value"),
        ({"a": 1}, 503, "its Prometheus answers 503"),
    ],
)
def test_anything_else_than_a_number_is_no_data_with_the_reason(
    prometheus: Prometheus, told: Any, status: int, said: str | float
) -> None:
    prometheus.told, prometheus.status = told, status

    found = answer(prometheus)

    assert found.get("value") == said if isinstance(said, float) else found["error"].startswith(said)


def test_a_prometheus_that_is_away_is_no_data_and_its_password_is_not_told(prometheus: Prometheus) -> None:
    prometheus.server_close()

    found = answer(prometheus)

    assert found["error"].startswith("its Prometheus does not answer")
    assert "hunter2" not in str(found)


# SQL.


@pytest.fixture(scope="module")
def database(postgres: Cluster) -> Cluster:
    postgres.make_monitor()
    postgres.new_database(NAME)
    return postgres


@pytest.fixture
def reading_target(database: Cluster, tmp_path: Path) -> Target:
    settings = {
        "database": NAME,
        "database_address": "127.0.0.1",
        "postgres_port": database.port,
        "guard": {"signal_seconds": 0},
    }
    return Target("production", tmp_path, settings)


def with_sql(target: Target, sql: str) -> dict[str, Any]:
    """Keep one signal among the target's secrets, and read it."""
    signal = {"name": "writes", "sql": sql, "better": "higher", "tolerable": 5}
    write_json(target.directory / "secrets.json", {"monitor": "m" * 16, "signals": [signal]})
    return show(target)


def test_sql_of_one_number_is_read_as_the_role_that_may_only_look(reading_target: Target) -> None:
    sql = "SELECT count(*) + 0.5 FROM pg_roles WHERE rolname = current_user AND rolname = 'p12_monitor'"

    answer = with_sql(reading_target, sql)

    assert answer["signals"]["writes"]["value"] == 1.5
    assert answer["say"] == "production: the site's signals: writes 1.5"


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT 1, 2", "its SQL gives 2 columns; one number is asked for"),
        ("SELECT generate_series(1, 3)", "its SQL gives 2 rows; one number is asked for"),
        ("SELECT 1 WHERE false", "its SQL gives no rows; one number is asked for"),
        ("SELECT 'many'", "it gives 'many', which is no number"),
        ("SELECT null", "it gives None, which is no number"),
        ("SELECT nothing", "Postgres says: column"),
        (
            "CREATE TABLE mine (id int)",
            "Postgres says: cannot execute CREATE TABLE in a read-only transaction",
        ),
        ("SELECT pg_sleep(9)", "Postgres says: canceling statement due to statement timeout"),
    ],
)
def test_sql_that_gives_no_number_is_refused_in_words(reading_target: Target, sql: str, said: str) -> None:
    with pytest.raises(Refused, match="p12_signals: writes: ") as raised:
        with_sql(reading_target, sql)

    assert said in str(raised.value)


def test_a_lost_connection_is_made_anew(reading_target: Target, database: Cluster) -> None:
    signals = (Signal("writes", "higher", 5, sql="SELECT pg_backend_pid()"),)
    write_json(reading_target.directory / "secrets.json", {"monitor": "m" * 16})
    watching = reader(reading_target, signals, time.time)

    def pid() -> int:
        return int(((watching.latest() or {}).get("writes") or {}).get("value", 0))

    first = wait_for(pid, "a reading")
    database.run(f"SELECT pg_terminate_backend({first})")

    assert wait_for(lambda: pid() not in (0, first), "another connection")


# In a window.


@pytest.fixture
def signalled(live: Steered, prometheus: Prometheus) -> Iterator[Steered]:
    """A live target with a signal, which was read for a while before a release went to its first step."""
    write_json(live.directory / "secrets.json", SECRETS | {"signals": [asking(prometheus)]})
    live.target.__dict__.pop("secrets", None)
    live.settings["guard"]["signal_seconds"] = 0
    live.settings["steps"] = [25, 100]
    for n in range(12):
        prometheus.value = 40.0 + n % 3
        live.watch(0, 5)
    live.offer(NEW)
    live.shift(NEW, 25)
    with ExitStack() as stack:
        stack.callback(lambda: live.target.__dict__.pop("secrets", None))
        stack.callback(lambda: write_json(live.directory / "secrets.json", SECRETS))
        yield live


def test_a_signal_as_before_lets_a_window_pass(signalled: Steered) -> None:
    signalled.open()
    signalled.watch(12, 5, rounds=8)

    assert signalled.steering.state().windows[-1].verdict == "passed"


def test_a_signal_that_falls_holds_a_window_and_traffic_goes_back(
    signalled: Steered, prometheus: Prometheus
) -> None:
    window = signalled.open()
    prometheus.value = 4.0

    signalled.watch(12, 5, rounds=8)

    held = signalled.window(window)
    assert held.verdict == "held"
    assert "writes: 4 now, 41 before the release (tolerable 30% less)" in held.summary
    assert signalled.steering.balancer.shares() == {"blue": 100, "green": 0}


def test_a_signal_that_nobody_answers_makes_a_window_unknown(
    signalled: Steered, prometheus: Prometheus
) -> None:
    window = signalled.open()
    prometheus.status = 503

    signalled.watch(12, 10, rounds=13)

    unknown = signalled.window(window)
    assert unknown.verdict == "unknown"
    assert "writes: its Prometheus answers 503" in unknown.summary


def test_what_is_kept_and_journaled_holds_no_password(signalled: Steered, prometheus: Prometheus) -> None:
    window = signalled.open()
    prometheus.value = 4.0
    signalled.watch(12, 5, rounds=8)
    signalled.now += 60
    signalled.guard.look()

    kept = samples_path(signalled.target, window.id).read_text()
    assert '"signals_before": {"writes": [40.0, ' in kept
    assert kept.count("signals_before") == 1
    written = [path for path in signalled.target.steering.rglob("*") if path.is_file()]
    assert not [path for path in written if b"hunter2" in path.read_bytes()]


def test_signals_that_nobody_understands_open_no_window_and_stop_no_guard(signalled: Steered) -> None:
    signalled.target.__dict__["secrets"] = SECRETS | {"signals": [{"name": "writes"}]}
    signalled.guard.site_signals = None

    with pytest.raises(Refused, match="p12_signals: writes: it has no better"):
        signalled.open()
    signalled.guard.look()
