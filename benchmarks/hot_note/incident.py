"""The service as it was when it deadlocked, as far as a view goes. For comparison only.

Every view makes sure of its unique index first. That takes a ShareLock on the whole log, which two requests
may hold at once; each then inserts, for which it needs a RowExclusiveLock, and waits for the other. The
retries hide most of it. Run by gunicorn with the service's own settings, limiter and pool.
"""

import os
import random
import time
from datetime import UTC, datetime
from types import SimpleNamespace

from flask import Flask, Response, jsonify, request
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from app.service import EXTENSION
from app.settings import Settings, load_settings
from app.web.limits import build_limiter

TRIES = 5
FIRST_PAUSE_SECONDS = 0.05
RETRIED = ("40P01", "40001", "55P03")

ENSURE_INDEX = text("CREATE UNIQUE INDEX IF NOT EXISTS view_log_once ON view_log (note_id, fingerprint, day)")
LOG_VIEW = text(
    "INSERT INTO view_log (note_id, fingerprint, day, created_at) VALUES (:note_id, :fingerprint, :day, :now)"
    " ON CONFLICT (note_id, fingerprint, day) DO NOTHING"
)
COUNT_VIEW = text("UPDATE notes SET views = views + 1 WHERE id = :note_id")
SELECT_VIEWS = text("SELECT views FROM notes WHERE id = :note_id")


def count_view(sessions: sessionmaker[Session], note_id: int, fingerprint: str) -> int | None:
    """Count a view in one transaction, tried again after a deadlock; None when no try got through."""
    now = datetime.now(UTC).replace(tzinfo=None)
    logged = {"note_id": note_id, "fingerprint": fingerprint, "day": f"{now:%Y-%m-%d}", "now": now}
    for attempt in range(TRIES):
        try:
            with sessions.begin() as session:
                session.execute(ENSURE_INDEX)
                if session.execute(LOG_VIEW, logged).rowcount:  # type: ignore[attr-defined]
                    session.execute(COUNT_VIEW, logged)
                return int(session.execute(SELECT_VIEWS, logged).scalar_one())
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) not in RETRIED:
                raise
        time.sleep(FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
    return None


def create_app(settings: Settings) -> Flask:
    app = Flask("incident")
    engine = create_engine(
        settings.database_url,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout,
        pool_recycle=settings.pool_recycle,
        pool_pre_ping=True,
    )
    sessions = sessionmaker(engine)
    app.extensions[EXTENSION] = SimpleNamespace(settings=settings, close=engine.dispose)
    limiter = build_limiter(settings)
    limiter.init_app(app)

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"ok": True})

    @app.post("/api/notes/<int:note_id>/view")
    @limiter.shared_limit(settings.limit_view, scope="views")
    @limiter.limit(settings.limit_view_note)
    def view(note_id: int) -> Response:
        views = count_view(sessions, note_id, request.headers["X-Author-Fp"])
        answer = jsonify({"ok": views is not None, "id": note_id, "views": views})
        answer.status_code = 200 if views is not None else 503
        return answer

    return app


app = create_app(load_settings(os.environ))
