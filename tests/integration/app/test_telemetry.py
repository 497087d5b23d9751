"""Metrics reach an OpenTelemetry collector over HTTP, and one that is dead or hangs is nobody's trouble."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.telemetry import OneLineAnHour
from tests.integration.app.instances import Slot, slot
from tests.running import Cluster, wait_for

FINGERPRINT = "visitor-4711"
MEASURED = {
    "p12_http_requests_total": {"route", "method", "status"},
    "p12_http_request_duration_seconds": {"route", "status"},
    "p12_view_transaction_seconds": {"arm"},
    "p12_views_accepted_total": {"arm"},
    "p12_db_retries_total": {"sqlstate"},
    "p12_db_errors_total": {"sqlstate"},
    "p12_worker_db_errors_total": {"sqlstate"},
    "p12_db_transaction_seconds": {"kind", "outcome"},
    "p12_pool_checkout_seconds": set[str](),
    "p12_db_longest_lock_wait_seconds": set[str](),
    "p12_db_lock_waiters": set[str](),
    "p12_view_queue_lag_seconds": set[str](),
    "p12_limiter_degraded": set[str](),
    "p12_process_start_time_seconds": set[str](),
}
OFTEN = {"OTEL_METRIC_EXPORT_INTERVAL": "100", "P12_SAMPLE_INTERVAL_SECONDS": "0.05"}


class Collector(ThreadingHTTPServer):
    """An OTLP/HTTP receiver that keeps what it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.received: list[ExportMetricsServiceRequest] = []
        self.traced: list[ExportTraceServiceRequest] = []

    def attributes(self) -> dict[str, list[dict[str, str]]]:
        """Return the attributes of all points received, by metric."""
        found: dict[str, list[dict[str, str]]] = {}
        for export in tuple(self.received):
            for resource in export.resource_metrics:
                for metric in (each for scope in resource.scope_metrics for each in scope.metrics):
                    kind = metric.WhichOneof("data")
                    assert kind is not None
                    points = getattr(metric, kind).data_points
                    found.setdefault(metric.name, []).extend(_as_dict(p.attributes) for p in points)
        return found

    def units(self) -> dict[str, str]:
        """Return the units of all that was received, by metric."""
        scopes = [
            s for export in tuple(self.received) for r in export.resource_metrics for s in r.scope_metrics
        ]
        return {metric.name: metric.unit for scope in scopes for metric in scope.metrics}

    def spans(self) -> "list[Span]":
        """Return the spans received."""
        scopes = [s for export in tuple(self.traced) for r in export.resource_spans for s in r.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    def resource(self) -> dict[str, str]:
        return _as_dict(self.received[0].resource_metrics[0].resource.attributes)


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/x-protobuf"
        if self.path == "/v1/traces":
            self.server.traced.append(ExportTraceServiceRequest.FromString(body))
        else:
            assert self.path == "/v1/metrics"
            self.server.received.append(ExportMetricsServiceRequest.FromString(body))
        answer = ExportMetricsServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


def _as_dict(attributes: "Iterator[KeyValue] | list[KeyValue]") -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in attributes}


@contextlib.contextmanager
def receiving() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


def visit(running: Slot) -> list[int]:
    """Write a note, view it twice and look for one that is not there."""
    url, headers = running.urls[0], {"X-FP": FINGERPRINT}
    note_id = requests.post(f"{url}/api/notes", json={"text": "a"}, timeout=30).json()["id"]
    views = [requests.post(f"{url}/api/notes/{note_id}/view", headers=headers, timeout=30) for _ in range(2)]
    return [*(answer.status_code for answer in views), requests.get(f"{url}/nothing", timeout=30).status_code]


def test_a_collector_receives_what_is_measured_without_ids_or_fingerprints(
    postgres: Cluster, database: str, tmp_path: Path
) -> None:
    with receiving() as collector:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}", **OFTEN}
        with slot(postgres.url(database), tmp_path, environ, instances=1) as running:
            assert visit(running) == [200, 200, 404]

            wait_for(lambda: MEASURED.keys() <= collector.attributes().keys(), "every metric received")
            wanted = {"route": "/api/notes/{id}/view", "method": "POST", "status": "200"}
            requested = wait_for(
                lambda: [
                    point
                    for point in collector.attributes()["p12_http_requests_total"]
                    if wanted.items() <= point.items()
                ],
                "the views received",
            )
            text = requests.get(f"{running.urls[0]}/internal/metrics", timeout=30).text

    assert requested[0] == {**wanted, "slot": "blue", "release": "0" * 12}
    for name, attributes in MEASURED.items():
        here = [set(point) for point in collector.attributes()[name]]
        assert all(found == attributes | {"slot", "release"} for found in here), name
        assert name in text
    assert not any(FINGERPRINT.encode() in export.SerializeToString() for export in collector.received)
    assert collector.traced == []
    assert {name for name, unit in collector.units().items() if not unit} == {"p12_limiter_degraded"}
    assert {unit for name, unit in collector.units().items() if name.endswith("_seconds")} == {"s"}
    assert collector.resource()["service.name"] == "paste12"
    assert collector.resource()["service.instance.id"] == "blue-1"


def test_what_was_measured_last_is_sent_when_an_instance_ends(
    postgres: Cluster, database: str, tmp_path: Path
) -> None:
    with receiving() as collector:
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "3600000"}
        with slot(postgres.url(database), tmp_path, environ, instances=1) as running:
            visit(running)
            assert collector.received == []

    assert {point["status"] for point in collector.attributes()["p12_http_requests_total"]} >= {"200", "404"}


def test_a_collector_that_hangs_or_is_dead_keeps_neither_requests_nor_the_end_waiting(
    postgres: Cluster, database: str, tmp_path: Path
) -> None:
    # Who connects to it is taken and never answered.
    with socket.create_server(("127.0.0.1", 0)) as hung:
        hung.settimeout(20)
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{hung.getsockname()[1]}", **OFTEN}
        with slot(postgres.url(database), tmp_path, environ, instances=1) as running:
            taken, _ = hung.accept()
            assert visit(running) == [200, 200, 404]

            taken.close()
            hung.close()
            assert visit(running) == [200, 200, 404]

    # It ended when told to: it was not killed for taking longer than is allowed.
    assert [process.returncode for process in running.processes] == [0]


def test_a_request_is_a_span_and_its_transaction_another_if_traces_are_asked_for(
    postgres: Cluster, database: str, tmp_path: Path
) -> None:
    theirs = f"00-{'1' * 32}-{'2' * 16}-00"
    with receiving() as collector:
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "P12_TRACE_RATIO": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with slot(postgres.url(database), tmp_path, environ, instances=1) as running:
            assert visit(running) == [200, 200, 404]
            requests.post(
                f"{running.urls[0]}/api/notes/1/like", headers={"traceparent": theirs}, timeout=30
            ).raise_for_status()
            spans = wait_for(
                lambda: found if len(found := collector.spans()) >= 9 else None, "every span received"
            )

    named = {span.name: span for span in spans}
    request, transaction = named["POST /api/notes/{id}/like"], named["transaction like"]
    assert (transaction.trace_id, transaction.parent_span_id) == (request.trace_id, request.span_id)
    assert (request.parent_span_id, request.trace_id.hex()) != (b"2" * 8, "1" * 32)
    assert _as_dict(request.attributes)["http.route"] == "/api/notes/{id}/like"
    assert not [name for name in named if "health" in name or "internal" in name]
    assert {"GET none", "POST /api/notes", "transaction create", "transaction view"} <= named.keys()
    sent = b"".join(export.SerializeToString() for export in collector.traced)
    assert FINGERPRINT.encode() not in sent


def test_a_collector_that_is_gone_costs_one_line_an_hour() -> None:
    program = (
        "import logging, os, sys; logging.basicConfig(); from app.metrics import Metrics; "
        "from app.release import running_release; from app.settings import load_settings; "
        "from app.telemetry import Traces, end; from app.metrics import resource_of; "
        "settings = load_settings(os.environ); metrics = Metrics(settings, running_release()); "
        "traces = Traces(1, resource_of(settings, running_release())); "
        "end(traces.begin('x'), 'x', 'GET', 200); "
        "print('ready', flush=True); sys.stdin.read(); traces.close(); metrics.close()"
    )
    with socket.create_server(("127.0.0.1", 0)) as rude:
        endpoint = f"http://127.0.0.1:{rude.getsockname()[1]}"
        often = {
            "OTEL_METRIC_EXPORT_INTERVAL": "50",
            "OTEL_METRIC_EXPORT_TIMEOUT": "50",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        environ = {
            **os.environ,
            "DATABASE_URL": "postgresql://db/p12",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        }
        command = [sys.executable, "-c", program]
        with subprocess.Popen(
            command,
            env=environ | often,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as process:
            for _ in range(8):
                rude.settimeout(30)
                rude.accept()[0].close()
            rude.close()
            _, said = process.communicate(timeout=60)

    assert len(said.splitlines()) == 1, said
    assert "the collector of telemetry: " in said


def test_what_was_kept_back_is_counted_in_the_next_hours_line(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    handler = OneLineAnHour(lambda: now)
    for at in (0, 1, 3599, 3601):
        now = float(at)
        handler.emit(logging.LogRecord("x", logging.WARNING, "", 1, "gone\n%s", ("away",), None))

    assert [record.getMessage() for record in caplog.records] == [
        f"the collector of telemetry: gone away; {count} more since an hour ago" for count in (0, 2)
    ]
