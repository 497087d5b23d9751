"""What goes to an OpenTelemetry collector besides metrics: spans, if asked for; and how its loss is told.

A request is one span and each transaction in it another. Nothing in them is a note's id, an address, a
fingerprint or a text, and a visitor's own trace headers are not believed: whoever asks, the share is ours.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

REPEAT_SECONDS = 3600.0
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SHUTDOWN_MILLISECONDS = 2000


class Traces:
    """The spans of one process; of none while ``ratio`` is 0 or no collector is named."""

    def __init__(self, ratio: float, resource: Resource) -> None:
        self._provider = _provider(ratio, resource) if ratio and any(map(os.environ.get, ENDPOINTS)) else None
        self._tracer = self._provider.get_tracer("paste12") if self._provider else None

    def begin(self, name: str) -> Span | None:
        """Begin a request's span; None where nothing is traced."""
        return self._tracer.start_span(name, kind=SpanKind.SERVER) if self._tracer else None

    @contextmanager
    def transaction(self, request: Span | None, kind: str) -> Iterator[Span | None]:
        """Make what is done in the block a span of the request's."""
        if self._tracer is None or request is None:
            yield None
            return
        context = set_span_in_context(request)
        attributes = {"db.system.name": "postgresql", "db.operation.name": kind}
        with self._tracer.start_as_current_span(
            f"transaction {kind}",
            context,
            SpanKind.CLIENT,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    def close(self) -> None:
        """Send what is left, if there is a collector."""
        if self._provider:
            self._provider.force_flush(SHUTDOWN_MILLISECONDS)
            self._provider.shutdown()


def end(span: Span | None, route: str, method: str, status: int) -> None:
    """End a request's span with what came of it."""
    if span is None:
        return
    span.update_name(f"{method} {route}")
    span.set_attributes(
        {"http.request.method": method, "http.route": route, "http.response.status_code": status}
    )
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def _provider(ratio: float, resource: Resource) -> TracerProvider:
    # Imported only when used, as the exporter of metrics is.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    hush_exporters()
    provider = TracerProvider(TraceIdRatioBased(ratio), resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class OneLineAnHour(logging.Handler):
    """Says in a line what the exporters have to say, and how many more there were since the last."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._monotonic = monotonic
        self._said = -REPEAT_SECONDS
        self._kept_back = 0

    def emit(self, record: logging.LogRecord) -> None:
        now = self._monotonic()
        if now - self._said < REPEAT_SECONDS:
            self._kept_back += 1
            return
        self._said, kept_back, self._kept_back = now, self._kept_back, 0
        reason = record.exc_info[1] if record.exc_info and record.exc_info[1] else record.getMessage()
        line = " ".join(str(reason).split())[:300]
        logging.getLogger(__name__).warning(
            "the collector of telemetry: %s; %d more since an hour ago", line, kept_back
        )


def hush_exporters() -> None:
    """Have a collector that is gone cost one line an hour, whatever its exporters say every few seconds."""
    exporters = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, OneLineAnHour) for handler in exporters.handlers):
        exporters.addHandler(OneLineAnHour())
        exporters.propagate = False
