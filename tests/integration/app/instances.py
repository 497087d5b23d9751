"""Running the service itself for its tests: instances of a slot, and its migrations."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import requests
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

import app.store.migrate
from app.live_flags import signature
from tests.running import free_port, wait_for

UNLIMITED = {
    name: "1000000 per second"
    for name in (
        "P12_LIMIT_CREATE",
        "P12_LIMIT_LIST",
        "P12_LIMIT_VIEW",
        "P12_LIMIT_VIEW_NOTE",
        "P12_LIMIT_ALIAS",
    )
}
FLAGS_SECRET = "flags-secret"


@dataclass
class Slot:
    """Running instances of one slot, which share a database and a flags file."""

    urls: list[str]
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]]
    generation: int = 0

    def set_flags(self, **flags: str) -> None:
        """Push a document to one instance; the others see the file."""
        self.generation += 1
        body = flag_document(self.generation, **flags)
        headers = {"X-P12-Signature": signature(FLAGS_SECRET, body)}
        answer = requests.put(f"{self.urls[0]}/internal/flags", data=body, headers=headers, timeout=10)
        assert answer.status_code == 200, answer.text

    def put_flags_there(self, **flags: str) -> None:
        """Replace the flags file beside the service, as a push from elsewhere on the host does."""
        self.generation += 1
        path = Path(self.environment["P12_FLAGS_FILE"])
        written = path.with_name("written")
        written.write_bytes(flag_document(self.generation, **flags))
        written.replace(path)

    def metric(self, name: str, **labels: str) -> float:
        """Add up a metric over the instances."""
        texts = (requests.get(f"{url}/internal/metrics", timeout=10).text for url in self.urls)
        return sum(value for text in texts for value in values(text, name, **labels))

    def kill(self, number: int, *, whole: bool) -> None:
        """End an instance as if memory had run out: its worker process alone, or all of it."""
        master = psutil.Process(self.processes[number].pid)
        for process in [*([master] if whole else []), *master.children()]:
            process.kill()
        if whole:
            self.processes[number].wait(10)

    def start(self, number: int) -> None:
        """Start an instance, also one that is gone again, as its supervisor does; does not wait for it."""
        command = [sys.executable, "-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app"]
        bind = self.urls[number].removeprefix("http://")
        mine = {**self.environment, "P12_BIND": bind, "P12_INSTANCE": f"blue-{number + 1}"}
        process = subprocess.Popen(command, env=mine, stderr=subprocess.DEVNULL)
        self.processes[number : number + 1] = [process]

    def drain(self) -> None:
        """Let a worker count what is queued."""
        with running_worker(self.environment):
            self.wait_drained()

    def wait_drained(self) -> None:
        """Wait until nothing is queued; what a worker has in hand still is."""
        with contextlib.closing(psycopg2.connect(self.environment["DATABASE_URL"])) as connection:
            connection.autocommit = True
            cursor = connection.cursor()

            def is_empty() -> bool:
                cursor.execute("SELECT NOT EXISTS (SELECT FROM view_queue)")
                return bool(cursor.fetchone()[0])

            wait_for(is_empty, "an empty queue", seconds=60)


@contextlib.contextmanager
def running_worker(environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "app.worker"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def values(text: str, name: str, **labels: str) -> list[float]:
    """Find a metric's samples in Prometheus text."""
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def metric(client: FlaskClient, name: str, **labels: str) -> float:
    """Return the one value of a metric of the application in this process."""
    (value,) = values(client.get("/internal/metrics").text, name, **labels)
    return value


@contextlib.contextmanager
def slot(url: str, directory: Path, environ: Mapping[str, str], instances: int = 2) -> Iterator[Slot]:
    """Start instances as a host does, and wait until each of them answers."""
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "P12_FLAGS_FILE": str(directory / "flags.json"),
        "P12_FLAGS_SECRET": FLAGS_SECRET,
        "P12_TRUSTED_HOPS": "0",
        **UNLIMITED,
        **environ,
    }
    started = Slot([f"http://127.0.0.1:{free_port()}" for _ in range(instances)], environment, [])
    try:
        for number in range(instances):
            started.start(number)
        for base in started.urls:
            wait_for(lambda base=base: requests.get(f"{base}/healthz", timeout=5).ok, f"{base} answering")  # type: ignore[misc]
        yield started
    finally:
        for process in reversed(started.processes):
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def flag_document(generation: int, target: str = "dev", slot: str = "blue", **flags: str) -> bytes:
    content = {"target": target, "slot": slot, "generation": generation, "flags": flags}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def migrate(verb: str, url: str, **environ: str) -> tuple[int, dict[str, Any]]:
    """Run a migration command in this process; give its exit status and its answer."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = app.store.migrate.main([verb], {"DATABASE_URL": url, **environ})
    return status, json.loads(output.getvalue())
