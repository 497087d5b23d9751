"""An instance starts fast, says why when it cannot, and changes nothing in the database."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import psycopg2
import pytest
import requests
from flask.testing import FlaskClient

from tests.integration.app.instances import slot
from tests.running import Cluster, wait_for

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app"]


@pytest.mark.parametrize("command", [GUNICORN, [sys.executable, "-m", "app.worker"]])
def test_a_bad_setting_stops_the_start_with_one_line(command: list[str]) -> None:
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://x", "P12_THREADS": "many"}

    started = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=30
    )

    assert started.returncode == 1
    assert (
        started.stderr.strip()
        == "P12_THREADS=many is not an accepted value. Use a whole number from 1 to 200."
    )


def test_an_instance_is_one_process_with_threads_and_stays_small(
    postgres: Cluster, database: str, tmp_path: Path
) -> None:
    me = psutil.Process()
    others = {child.pid for child in me.children()}
    with slot(postgres.url(database), tmp_path, {"P12_THREADS": "4"}, instances=1) as one:
        requests.post(f"{one.urls[0]}/api/notes", json={"text": "a"}, timeout=10)
        (worker,) = [
            grandchild
            for child in me.children()
            if child.pid not in others
            for grandchild in child.children()
            if "app.wsgi:app" in " ".join(grandchild.cmdline())
        ]

        assert worker.memory_info().rss < 90 * 2**20
        opened = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'paste12-blue-1'"
        assert postgres.run(opened)[0][0] in range(1, 5)


class Collector(BaseHTTPRequestHandler):
    """Takes what an OTLP exporter sends."""

    received: threading.Event

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/metrics":
            self.received.set()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[tuple[str, threading.Event]]:
    received = threading.Event()
    handler = type("Collector", (Collector,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


def test_metrics_go_to_a_collector_when_one_is_named(
    collector: tuple[str, threading.Event],
    make_client: Callable[..., FlaskClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint, received = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")

    client = make_client("postgresql://127.0.0.1:1/none")

    assert client.get("/healthz").status_code == 200
    assert received.wait(10)


def test_a_request_in_flight_is_finished_when_the_instance_is_told_to_stop(
    postgres: Cluster, database: str, tmp_path: Path
) -> None:
    postgres.run("INSERT INTO notes (text) VALUES ('hot')", database)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    holder = psycopg2.connect(postgres.url(database))
    holder.cursor().execute("SELECT FROM notes FOR UPDATE")

    with slot(postgres.url(database), tmp_path, {"P12_DB_LOCK_TIMEOUT_MS": "10000"}, instances=1) as one:
        with ThreadPoolExecutor(1) as visitor:
            answer = visitor.submit(requests.post, f"{one.urls[0]}/api/notes/1/view", timeout=20)
            wait_for(lambda: postgres.run(waiting) == [(1,)], "the view waiting for the note")
            one.processes[0].terminate()
            holder.close()
            assert answer.result().json() == {"ok": True, "id": 1, "views": 1}
        assert one.processes[0].wait(10) == 0
