"""A small instance of the service: its contract towards balancer and kit, and faults to switch on."""

import hashlib
import hmac
import itertools
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KNOWN = {
    "P12_ENABLE_ADVISORY_LOCKS": "0",
    "P12_ENABLE_VIEW_QUEUE": "0",
    "P12_ENABLE_LEGACY_VIEW": "1",
    "P12_READ_ONLY": "0",
}
SLOW = "/api/slow"
EDGES = ("0.004", "0.2", "+Inf")
PATIENCE_SECONDS = 30.0


class SmallInstance:
    """One process of a slot, as seen from outside. It keeps its flags while it is dead, as a file would.

    ``fault`` is the status that visitors get instead of 200; ``cut`` drops the connection after the request
    was read; ``took`` is the bucket of its latency that a request falls into; ``hold`` keeps requests for
    ``SLOW`` waiting until ``let_go``; ``freeze`` keeps everybody.
    """

    def __init__(self, name: str, slot: str, target: str, secret: str) -> None:
        self.name, self.slot, self.target = name, slot, target
        self._secret = secret
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._thawed = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.port = 0
        self.reset()

    def reset(self) -> None:
        """Be as new: no release, no flags, no fault, nothing seen; and listen."""
        self.let_go()
        self.thaw()
        self.secret = self._secret
        self.known: dict[str, str] = dict(KNOWN)
        self.commit = "0" * 40
        self.fault = 0
        self.cut = False
        self.unready = False
        self.took = "0.004"
        self.metrics_text: str | None = None
        self.broken_flags = False
        self.deaf = False
        self.body: bytes | None = None
        self.seen: Counter[str] = Counter()
        self.paths: list[str] = []
        self.forwarded_for: list[str | None] = []
        self.request_ids: list[str | None] = []
        self.most_busy = 0
        self.busy = 0
        self.pushes: list[int] = []
        self.start()

    @property
    def release(self) -> str:
        return self.commit[:12]

    @property
    def generation(self) -> int:
        return int(json.loads(self.body)["generation"]) if self.body else 0

    @property
    def flags(self) -> dict[str, str]:
        given: dict[str, str] = json.loads(self.body)["flags"] if self.body else {}
        return self.known | given

    @property
    def alive(self) -> bool:
        return self._server is not None

    def start(self) -> None:
        """Listen again, on the port of the first time; a new process, so its counters begin at zero."""
        if self._server is None:
            self._server = _Server(self, self.port)
            self.port = self._server.server_address[1]
            self.run(self.commit)
            self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
            self._thread.start()

    def run(self, commit: str) -> None:
        """Be a new process, of this commit; it listens where the one before did."""
        self.commit = commit
        self.started = time.time()
        self.deadlocks = 0
        self.retries = 0
        self.purge_after_days: int | None = None
        self.looked_after = 0
        self.answered: Counter[tuple[int, str]] = Counter()

    def die(self) -> None:
        """Vanish as a killed process does: the port is closed, and so is every connection."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()
            server.cut_all()

    def hold(self) -> None:
        self._open.clear()

    def let_go(self) -> None:
        self._open.set()

    def freeze(self) -> None:
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes] | None:
        """Return status and body, or ``None`` to cut the connection."""
        self._thawed.wait(PATIENCE_SECONDS)
        if path == "/healthz":
            with self._lock:
                self.looked_after += "X-Forwarded-For" in headers
            return 200, b'{"ok":true}'
        if path.startswith("/internal"):
            return self._internal(method, path, headers, body)
        with self._lock:
            self.seen[method] += 1
            self.paths.append(path)
            self.forwarded_for.append(headers.get("X-Forwarded-For"))
            self.request_ids.append(headers.get("X-Request-Id"))
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            if self.cut:
                return None
            if path.startswith(SLOW):
                self._open.wait(PATIENCE_SECONDS)
            return self._answered(self.fault or 200), b'{"ok":true}'
        finally:
            with self._lock:
                self.busy -= 1

    def _answered(self, status: int) -> int:
        with self._lock:
            self.answered[status, self.took] += 1
        return status

    def _internal(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        if "X-Forwarded-For" in headers:
            self.paths.append(path)
            return 404, b"{}"
        match method, path:
            case "GET", "/internal/ready":
                status, document = 503 if self.unready else 200, self._ready()
            case "GET", "/internal/metrics":
                return 200, self._metrics().encode()
            case "GET", "/internal/flags":
                status, document = (500, {}) if self.broken_flags else (200, self._shown())
            case "PUT", "/internal/flags":
                status, document = self._put(headers, body)
            case _:
                status, document = 404, {}
        return status, json.dumps(document).encode()

    def _ready(self) -> dict[str, Any]:
        schema = {"revision": "0002", "head": "0002"}
        identity = {"commit": self.commit, "release": self.release, "target": self.target, "slot": self.slot}
        return {"ok": not self.unready, "instance": self.name, "schema": schema, **identity}

    def _shown(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.body).hexdigest() if self.body else None
        return {
            "target": self.target,
            "slot": self.slot,
            "generation": self.generation,
            "sha256": digest,
            "flags": self.flags,
            "known": self.known,
            "error": None,
            "purge_after_days": self.purge_after_days,
        }

    def _put(self, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        signature = "sha256=" + hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature, headers.get("X-P12-Signature", "")):
            return 401, {"error": "unsigned"}
        document = json.loads(body)
        for field, error in (("target", "wrong_target"), ("slot", "wrong_slot")):
            if document[field] != getattr(self, field):
                return 422, {"error": error, "name": document[field], "accepted": getattr(self, field)}
        for name, value in document["flags"].items():
            if name not in self.known:
                return 422, {"error": "unknown_flag", "name": name, "accepted": ", ".join(self.known)}
            if value not in ("0", "1", "25%"):
                return 422, {"error": "bad_value", "name": name, "accepted": "0, 1 or a percentage"}
        with self._lock:
            if document["generation"] <= self.generation and body != self.body:
                return 409, {"error": "stale_generation", "generation": self.generation}
            self.pushes.append(document["generation"])
            self.body = self.body if self.deaf and self.body else body
        return 200, self._shown()

    def _metrics(self) -> str:
        if self.metrics_text is not None:
            return self.metrics_text
        lines = [
            f"p12_process_start_time_seconds {self.started}",
            f'p12_db_errors_total{{sqlstate="40P01"}} {self.deadlocks}',
            f'p12_db_retries_total{{sqlstate="55P03"}} {self.retries}',
            f'p12_http_requests_total{{method="GET",route="/healthz",status="200"}} {self.looked_after}',
            "p12_process_resident_bytes 8e+07",
        ]
        with self._lock:
            answered = dict(self.answered)
        for status in {status for status, _ in answered} | {200}:
            labels = f'route="/api/notes/{{id}}/view",status="{status}"'
            by_edge = [answered.get((status, edge), 0) for edge in EDGES]
            lines.append(f'p12_http_requests_total{{method="GET",{labels}}} {sum(by_edge)}')
            lines += [
                f'p12_http_request_duration_seconds_bucket{{le="{edge}",{labels}}} {below}'
                for edge, below in zip(EDGES, itertools.accumulate(by_edge), strict=True)
            ]
        return "\n".join(lines) + "\n"


class TodaysServer(SmallInstance):
    """A server of a Paste12 that is not the kit's: it knows visitors, and a page that shows it lives."""

    def speak_tls(self, pem: Path) -> None:
        """Be a server that only takes TLS, with a certificate and its key."""
        assert self._server
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes] | None:
        if path == "/":
            return (503 if self.unready else 200), b"a page"
        if path.startswith("/internal"):
            self.paths.append(path)
            return 404, b"{}"
        return super().answer(method, path, headers, body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(self, instance: SmallInstance, port: int) -> None:
        self.instance = instance
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # The library's own asks the resolver for our name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        for connection in [*self.connections]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Visitors who left and connections that were cut are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        instance = self.server.instance
        answer = instance.answer(self.command, self.path, self.headers, body)
        if answer is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, content = answer
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-P12-Release", instance.release)
        self.send_header("X-P12-Flags", str(instance.generation))
        self.send_header("X-Instance", instance.name)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = handle_one  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""
