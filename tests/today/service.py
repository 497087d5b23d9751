"""The Paste12 that runs today, played: ``DATABASE_URL=… python -m tests.today.service PORT``.

Written from what is known of it: it changes the schema at each start and makes its triggers anew; a view, a
like and a report each make their unique index in their own transaction, without a lock time-out; views are
tried again after a deadlock, likes and reports are not; removed and expired notes are listed.
"""

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2
import psycopg2.errors
import requests

from tests.running import CHECKOUT, free_port, wait_for
from tests.today.database import AT_START, UNIQUE_INDEXES

CONNECTIONS = 16
# Its own deadlocks end in errors after so many tries; more of them, and what fails is somebody else's doing.
TRIES = int(os.environ.get("TODAY_TRIES", "3"))
COLUMNS = "id, text, timestamp, expires_at, likes, views, reports, author_fp"
# Of each kind of count: its log, its column, and what names a row of the log beside note and fingerprint.
COUNTED = {"view": ("view_log", "views", ", day"), "like": ("like_log", "likes", ""),
           "report": ("report_log", "reports", "")}  # fmt: skip
REMOVED_AT = 5


class Today:
    """Its work on the database."""

    def __init__(self, url: str) -> None:
        self.idle: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(CONNECTIONS):
            self.idle.put(psycopg2.connect(url))
        with self.transaction() as cursor:
            cursor.execute(AT_START)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        connection = self.idle.get()
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        finally:
            self.idle.put(connection)

    def create(self, text: str, hours: int) -> dict[str, Any]:
        with self.transaction() as cursor:
            cursor.execute(
                "INSERT INTO notes (text, expires_at)"
                f" VALUES (%s, timezone('utc', now()) + %s * interval '1 h') RETURNING {COLUMNS}",
                (text, hours),
            )
            row = cursor.fetchone()
            cursor.execute("INSERT INTO note (id, text) VALUES (%s, %s)", (row[0], text))
            return note(row)

    def listed(self, limit: int) -> list[dict[str, Any]]:
        with self.transaction() as cursor:
            cursor.execute(f"SELECT {COLUMNS} FROM notes ORDER BY id DESC LIMIT %s", (limit,))
            return [note(row) for row in cursor.fetchall()]

    def one(self, note_id: int) -> dict[str, Any] | None:
        with self.transaction() as cursor:
            cursor.execute(f"SELECT {COLUMNS} FROM notes WHERE id = %s", (note_id,))
            row = cursor.fetchone()
            return note(row) if row else None

    def count(self, kind: str, note_id: int, fingerprint: str) -> int | None:
        """Count once; a view is tried again after a deadlock."""
        for left in range(TRIES if kind == "view" else 1, 0, -1):
            try:
                return self._count(kind, note_id, fingerprint)
            except psycopg2.errors.DeadlockDetected:
                if left == 1:
                    raise
        raise AssertionError

    def _count(self, kind: str, note_id: int, fingerprint: str) -> int | None:
        log, column, day = COUNTED[kind]
        today = ", to_char(timezone('utc', now()), 'YYYY-MM-DD')" if day else ""
        with self.transaction() as cursor:
            cursor.execute(UNIQUE_INDEXES[log])
            cursor.execute(
                f"INSERT INTO {log} (note_id, fingerprint{day}) VALUES (%s, %s{today})"
                " ON CONFLICT DO NOTHING",
                (note_id, fingerprint),
            )
            if cursor.rowcount:
                cursor.execute(
                    f"UPDATE notes SET {column} = coalesce({column}, 0) + 1 WHERE id = %s", (note_id,)
                )
            if kind == "report":
                cursor.execute(
                    "UPDATE notes SET deleted_at = timezone('utc', now())"
                    " WHERE id = %s AND reports >= %s AND deleted_at IS NULL",
                    (note_id, REMOVED_AT),
                )
            cursor.execute(f"SELECT coalesce({column}, 0) FROM notes WHERE id = %s", (note_id,))
            row = cursor.fetchone()
            return row[0] if row else None


def note(row: tuple[Any, ...]) -> dict[str, Any]:
    names = COLUMNS.split(", ")
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in zip(names, row, strict=True)
    } | {name: value or 0 for name, value in zip(names[4:7], row[4:7], strict=True)}


def counted(today: Today, kind: str, note_id: int, fingerprint: str) -> tuple[int, dict[str, Any]]:
    """Count, and say it as a client hears it."""
    try:
        count = today.count(kind, note_id, fingerprint)
    except psycopg2.errors.DeadlockDetected:
        return 503, {"ok": False, "error": "db_busy"}
    except psycopg2.Error as error:
        return 500, {"ok": False, "error": str(error)}
    return 200, {"ok": True, "id": note_id, COUNTED[kind][1]: count}


def handler(today: Today) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            if path in ("/api/health", "/healthz"):
                return self._say(200, {"ok": True, "status": "ok", "api": True, "ver": "today"})
            if path == "/api/notes":
                return self._say(200, today.listed(int(query.get("limit", ["20"])[0])))
            if found := re.fullmatch(r"/api/notes/(\d+)", path):
                shown = today.one(int(found[1]))
                return self._say(200, shown) if shown else self._say(404, {"error": "not_found"})
            return self._say(404, {"error": "not_found"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/api/notes":
                given = json.loads(body or "{}")
                return self._say(201, today.create(given.get("text", ""), int(given.get("ttl_hours", 24))))
            found = re.fullmatch(r"/api/notes/(\d+)/(view|like|report)", self.path)
            if not found:
                return self._say(404, {"error": "not_found"})
            given = self.headers.get("X-FP") or self.headers.get("X-Author-Fp")
            status, document = counted(today, found[2], int(found[1]), given or self.client_address[0])
            return self._say(status, document)

        def _say(self, status: int, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextlib.contextmanager
def running_today(url: str, port: int = 0, tries: int = TRIES) -> Iterator[str]:
    """Run it as a process of its own, and end it with the block; gives its address."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.today.service", str(port)],
        env={**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(CHECKOUT), "TODAY_TRIES": str(tries)},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: requests.get(f"{address}/api/health", timeout=5).ok, "today's service")
        yield address
    finally:
        process.terminate()
        process.wait(10)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who goes without an answer, as a balancer's check does, is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), handler(Today(os.environ["DATABASE_URL"]))).serve_forever()
