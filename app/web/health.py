"""Is it alive, and is its database? Asked by people and balancers, free of rate limits."""

from flask import Blueprint, Response, g, jsonify

from app.errors import BusyError, UnavailableError
from app.service import service

health = Blueprint("health", __name__)

SELECT_CONNECTIONS = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL) AS connections,
       current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int AS reserved_connections
"""


@health.get("/healthz")
def process_health() -> Response:
    return jsonify({"ok": True})


@health.get("/api/health")
def api_health() -> Response:
    release = service().release
    response = jsonify(
        {"ok": True, "status": "ok", "api": True, "ver": release.name, "commit": release.commit}
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@health.get("/api/health/db")
def database_health() -> tuple[Response, int]:
    here = service()
    try:
        row = here.retry.run(lambda: here.database.one(SELECT_CONNECTIONS, {}))
        found = dict(row._mapping) if row else {}
        body = {"ok": True, "db": True, "dialect": "postgresql", **found, **here.database.pool_status()}
        status = 200
    except (BusyError, UnavailableError) as error:
        g.failure = error
        body, status = {"ok": False, "db": False, "error": "db_unavailable"}, 503
    response = jsonify(body)
    response.headers["Cache-Control"] = "no-store"
    return response, status
