"""A small front door that keeps the contract on a real database, with faults to switch on."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any

import psycopg2
from aiohttp import web

RELEASE = "0123456789ab"
VIEW = """
WITH logged AS (
    INSERT INTO view_log (note_id, fingerprint, day)
    SELECT id, %(fp)s, to_char(timezone('utc', now()), 'YYYY-MM-DD') FROM notes WHERE id = %(id)s
    ON CONFLICT DO NOTHING RETURNING note_id
), counted AS (UPDATE notes SET views = views + 1 FROM logged WHERE id = note_id RETURNING views)
SELECT coalesce((SELECT views FROM counted), (SELECT views FROM notes WHERE id = %(id)s))
"""
COUNT_ONCE = """
WITH logged AS (
    INSERT INTO {kind}_log (note_id, fingerprint) SELECT id, %(fp)s FROM notes WHERE id = %(id)s
    ON CONFLICT DO NOTHING RETURNING note_id
), counted AS (UPDATE notes SET {kind}s = {kind}s + 1 FROM logged WHERE id = note_id RETURNING {kind}s)
SELECT coalesce((SELECT {kind}s FROM counted), (SELECT {kind}s FROM notes WHERE id = %(id)s))
"""
Fault = Callable[[web.Request], web.StreamResponse | None]


class FrontDoor:
    """Answers notes, views, the alias, health and metrics on ``url``.

    ``fault`` may answer instead; ``after`` may replace an answer whose work is done.
    """

    def __init__(self, database: str) -> None:
        self.fault: Fault = lambda _: None
        self.after: Fault = lambda _: None
        self.limited = True
        self.deadlocks = 0
        self.started = time.time()
        self.rehearsals: list[str] = []
        self.url = ""
        self._alias: list[float] = []
        self._pool: SimpleQueue[Any] = SimpleQueue()
        self._threads = ThreadPoolExecutor(8)
        for _ in range(8):
            connection = psycopg2.connect(database)
            connection.autocommit = True
            self._pool.put(connection)

    def __enter__(self) -> "FrontDoor":
        serving: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(serving)))
        self._thread.start()
        serving.result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._threads.shutdown()
        while not self._pool.empty():
            self._pool.get().close()

    async def _serve(self, serving: Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = await self._start()
        serving.set_result(None)
        await self._stop.wait()
        # asyncio leaks a connection whose server closes while it is being accepted: first accept no more.
        self._loop.remove_reader(self._listening)
        for _ in range(5):
            await asyncio.sleep(0)
        await runner.cleanup()

    async def _start(self) -> web.AppRunner:
        @web.middleware
        async def around(request: web.Request, handler: Any) -> web.StreamResponse:
            return await self._around(request, handler)

        app = web.Application(middlewares=[around])
        app.router.add_get("/api/health", self._health)
        app.router.add_post("/api/notes", self._create)
        app.router.add_get("/api/notes", self._list)
        app.router.add_get("/api/notes/{id}", self._read)
        app.router.add_post("/api/notes/{id}/view", self._view)
        app.router.add_post("/api/notes/{id}/{kind:like|report}", self._count_once)
        app.router.add_post("/api/view", self._legacy_view)
        app.router.add_get("/internal/metrics", self._metrics)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        await web.SockSite(runner, self._listening, backlog=1024).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if given := request.headers.get("X-P12-Rehearsal"):
            self.rehearsals.append(given)
        answer = self.fault(request)
        if answer is None:
            answer = await handler(request)
            answer = self.after(request) or answer
        answer.headers["X-P12-Release"] = RELEASE
        return answer

    async def _sql(self, sql: str, **parameters: Any) -> Any:
        def run() -> Any:
            connection = self._pool.get()
            try:
                with connection.cursor() as cursor:
                    cursor.execute(sql, parameters)
                    return cursor.fetchone()
            finally:
                self._pool.put(connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def _create(self, request: web.Request) -> web.Response:
        text = (await request.json())["text"]
        (note_id,) = await self._sql("INSERT INTO notes (text) VALUES (%(text)s) RETURNING id", text=text)
        return web.json_response({"id": note_id, "text": text}, status=201)

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([])

    async def _read(self, request: web.Request) -> web.Response:
        return web.json_response({"id": int(request.match_info["id"]), "text": "a note"})

    async def _view(self, request: web.Request) -> web.Response:
        return await self._count(int(request.match_info["id"]), request)

    async def _legacy_view(self, request: web.Request) -> web.Response:
        if self.limited and "X-P12-Rehearsal" not in request.headers:
            self._alias = [at for at in self._alias if at > time.time() - 60]
            if len(self._alias) >= 5:
                return web.json_response({"error": "rate_limited"}, status=429)
            self._alias.append(time.time())
        return await self._count(int(request.query["id"]), request)

    async def _count(self, note_id: int, request: web.Request) -> web.Response:
        (views,) = await self._sql(VIEW, id=note_id, fp=request.headers["X-Author-Fp"])
        if views is None:
            return web.json_response({"error": "not_found"}, status=404)
        return web.json_response({"ok": True, "id": note_id, "views": views})

    async def _count_once(self, request: web.Request) -> web.Response:
        kind, note_id = request.match_info["kind"], int(request.match_info["id"])
        sql = COUNT_ONCE.format(kind=kind)
        (number,) = await self._sql(sql, id=note_id, fp=request.headers["X-Author-Fp"])
        return web.json_response({"ok": True, "id": note_id, f"{kind}s": number})

    async def _metrics(self, _: web.Request) -> web.Response:
        lines = [
            f"p12_process_start_time_seconds {self.started}",
            f'p12_db_errors_total{{sqlstate="40P01"}} {self.deadlocks}',
            'p12_db_errors_total{sqlstate="55P03"} 0',
        ]
        return web.Response(text="\n".join(lines) + "\n")
