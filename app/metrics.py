"""What the service measures about itself, for Prometheus and, when one is named, an OTLP collector."""

import math
import os
import resource
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

from app.flags import Arm
from app.release import Release
from app.settings import Settings
from app.store.retry import CONTENTION
from app.telemetry import hush_exporters
from app.worker_errors import WorkerErrors

FASTEST_SECONDS, SLOWEST_SECONDS, EDGE_RATIO = 0.001, 15.0, 1.2
# What nobody judges by has fewer.
COARSE_RATIO = 1.6


def bucket_edges(
    fastest: float = FASTEST_SECONDS, slowest: float = SLOWEST_SECONDS, ratio: float = EDGE_RATIO
) -> list[float]:
    """Return histogram edges in seconds, each 1.2 times the one before.

    So a quantile read from the buckets is at most a fifth too high, wherever the objective lies.
    """
    steps = math.ceil(math.log(slowest / fastest, ratio))
    return [float(f"{fastest * ratio**step:.4g}") for step in range(steps + 1)]


def resident_bytes() -> float | None:
    """Return what this process keeps in memory; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def open_files() -> float | None:
    """Return how many files and sockets this process has open; None where the system does not tell."""
    try:
        return float(sum(1 for _ in Path("/proc/self/fd").iterdir()))
    except OSError:
        return None


@dataclass(frozen=True)
class Pressure:
    """What the database said last: sessions that wait for a lock, the longest such wait, and the age of the
    oldest queued view.

    Nothing is known any more after ``good_until``, in seconds of the monotonic clock.
    """

    lock_waiters: int
    lock_wait_seconds: float
    queue_lag_seconds: float
    good_until: float


class Metrics:
    """The instruments of one process. Labels never hold a note id, an address or a fingerprint.

    While ``pressure`` is None or old, its gauges are absent. ``is_limiter_degraded``
    tells whether rate limits are counted in this process alone because their storage is away;
    ``connections_in_use`` how many of the pool's connections are given out, None before there is a pool.
    """

    def __init__(self, settings: Settings, release: Release) -> None:
        self.pressure: Pressure | None = None
        self.is_limiter_degraded: Callable[[], bool] = lambda: False
        self.connections_in_use: Callable[[], int | None] = lambda: None
        self._most_connections = settings.pool_size + settings.max_overflow
        self._started = time.time()
        self._here = {"slot": settings.slot, "release": release.name}
        self._registry = CollectorRegistry(auto_describe=False)
        self._scrape = threading.Lock()
        self._provider = MeterProvider(
            self._readers(), resource_of(settings, release), shutdown_on_exit=False
        )
        meter = self._provider.get_meter("paste12")
        self._requests = meter.create_counter("p12_http_requests_total", "{request}", "Requests answered.")
        self._views = meter.create_counter(
            "p12_views_accepted_total", "{view}", "Views logged for the first time."
        )
        self._retries = meter.create_counter("p12_db_retries_total", "{retry}", "Transactions tried again.")
        self._errors = meter.create_counter(
            "p12_db_errors_total", "{error}", "SQLSTATEs the database raised."
        )
        self._make_histograms(meter)
        self._make_gauges(meter)
        self._tell_of_workers(meter, WorkerErrors(settings.flags_file))
        self._start_at_zero()

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        answered = {"route": route, "status": str(status), **self._here}
        self._requests.add(1, {"method": method, **answered})
        self._request_seconds.record(seconds, answered)

    def count_view(self, arm: Arm) -> None:
        self._views.add(1, {"arm": arm, **self._here})

    def count_retry(self, sqlstate: str) -> None:
        self._retries.add(1, {"sqlstate": sqlstate, **self._here})

    def count_error(self, sqlstate: str) -> None:
        self._errors.add(1, {"sqlstate": sqlstate, **self._here})

    def time_view(self, arm: Arm, seconds: float) -> None:
        self._view_seconds.record(seconds, {"arm": arm, **self._here})

    def time_transaction(self, kind: str, outcome: str, seconds: float) -> None:
        self._transaction_seconds.record(seconds, {"kind": kind, "outcome": outcome, **self._here})

    def time_lock_wait(self, kind: str, seconds: float) -> None:
        self._lock_wait_seconds.record(seconds, {"kind": kind, **self._here})

    def time_checkout(self, seconds: float) -> None:
        self._checkout_seconds.record(seconds, self._here)

    def exposition(self) -> bytes:
        """Render all metrics as Prometheus text."""
        with self._scrape:  # The reader mixes up scrapes that overlap.
            return generate_latest(self._registry)

    def close(self) -> None:
        """Send what is left to the collector, if there is one."""
        self._provider.shutdown(timeout_millis=2000)

    def _readers(self) -> list[MetricReader]:
        prometheus = PrometheusMetricReader(
            disable_target_info=True, scope_info_enabled=False, registry=self._registry
        )
        named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
        return [prometheus, _otlp_reader()] if any(map(os.environ.get, named)) else [prometheus]

    def _make_histograms(self, meter: Meter) -> None:
        def histogram(name: str, description: str, ratio: float = EDGE_RATIO) -> Histogram:
            edges = bucket_edges(ratio=ratio)
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=edges)

        self._request_seconds = histogram("p12_http_request_duration_seconds", "Time to answer a request.")
        self._view_seconds = histogram("p12_view_transaction_seconds", "One try of a view's transaction.")
        self._checkout_seconds = histogram("p12_pool_checkout_seconds", "Wait for a database connection.")
        tried = "One try of a transaction: view, like, report, create, read or list."
        self._transaction_seconds = histogram("p12_db_transaction_seconds", tried, COARSE_RATIO)
        waited = "One try that ended since a lock could not be had in time, or in a deadlock."
        self._lock_wait_seconds = histogram("p12_db_lock_wait_seconds", waited, COARSE_RATIO)

    def _make_gauges(self, meter: Meter) -> None:
        def gauge(name: str, unit: str, description: str, read: Callable[[], float | None]) -> None:
            def observe(_: CallbackOptions) -> Iterable[Observation]:
                if (value := read()) is not None:
                    yield Observation(value, self._here)

            meter.create_observable_gauge(name, [observe], unit, description)

        gauge("p12_process_start_time_seconds", "s", "Unix time of the start.", lambda: self._started)
        gauge("p12_process_resident_bytes", "By", "Memory that the process holds.", resident_bytes)
        gauge("p12_process_open_fds", "{file}", "Files and sockets that the process has open.", open_files)
        most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        gauge("p12_process_max_fds", "{file}", "How many it may have open.", lambda: most_files)
        connections = "{connection}"
        gauge(
            "p12_db_connections_in_use",
            connections,
            "Of the pool, given out.",
            lambda: self.connections_in_use(),
        )
        most = self._most_connections
        gauge("p12_db_connections_max", connections, "What the pool may give out.", lambda: most)
        gauge(
            "p12_limiter_degraded",
            "",
            "1 while rate limits are counted in this process alone.",
            lambda: float(self.is_limiter_degraded()),
        )
        self._make_gauges_of_pressure(gauge)

    def _make_gauges_of_pressure(
        self, gauge: Callable[[str, str, str, Callable[[], float | None]], None]
    ) -> None:
        gauge(
            "p12_db_lock_waiters",
            "{session}",
            "Sessions waiting for a lock in the whole database.",
            lambda: known.lock_waiters if (known := self._known_pressure()) else None,
        )
        gauge(
            "p12_db_longest_lock_wait_seconds",
            "s",
            "For how long the session that has waited longest for a lock has.",
            lambda: known.lock_wait_seconds if (known := self._known_pressure()) else None,
        )
        gauge(
            "p12_view_queue_lag_seconds",
            "s",
            "Age of the oldest queued view, 0 when the queue is empty.",
            lambda: known.queue_lag_seconds if (known := self._known_pressure()) else None,
        )

    def _tell_of_workers(self, meter: Meter, errors: WorkerErrors) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if (counts := errors.counts()) is not None:
                for state, count in {**dict.fromkeys(CONTENTION, 0), **counts}.items():
                    yield Observation(count, {"sqlstate": state, **self._here})

        # Not part of p12_db_errors_total, which is added up over the instances.
        meter.create_observable_counter(
            "p12_worker_db_errors_total",
            [observe],
            "{error}",
            description="SQLSTATEs the slot's workers on this host met; each of its instances says the same.",
        )

    def _known_pressure(self) -> Pressure | None:
        known = self.pressure
        return known if known and time.monotonic() < known.good_until else None

    def _start_at_zero(self) -> None:
        # A counter that is absent and one that is zero are different answers to a gate.
        for arm in Arm:
            self._views.add(0, {"arm": arm, **self._here})
        for state in CONTENTION:
            self._retries.add(0, {"sqlstate": state, **self._here})
            self._errors.add(0, {"sqlstate": state, **self._here})


def _otlp_reader() -> MetricReader:
    # Imported only when used: it costs a sixth of the start and four megabytes.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    hush_exporters()
    return PeriodicExportingMetricReader(OTLPMetricExporter())


def resource_of(settings: Settings, release: Release) -> Resource:
    return Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", "paste12"),
            "service.version": release.name,
            "service.instance.id": settings.instance,
            "deployment.environment.name": settings.target,
            "p12.slot": settings.slot,
        }
    )
