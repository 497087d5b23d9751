"""Rate limits per client, counted in Redis, in memory while Redis is away, and never in the way."""

import math
import time
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, g, jsonify, request
from flask_limiter import Limiter, RequestLimit

from app.service import service
from app.settings import Settings
from app.web.clients import client_address, limited_address
from app.web.limit_pass import is_rehearsal

REDIS_TIMEOUT_SECONDS = 0.1


def build_limiter(settings: Settings) -> Limiter:
    """Make the limiter; whatever its storage does, a request waits a tenth of a second at most."""
    limiter = Limiter(
        _client,
        storage_uri=settings.limiter_storage,
        storage_options=_storage_options(settings.limiter_storage),  # type: ignore[arg-type]
        key_prefix=f"p12:{settings.target}",
        in_memory_fallback_enabled=True,
        swallow_errors=True,
        strategy="fixed-window",
        on_breach=_say_when_to_come_back,
    )
    limiter.request_filter(_is_lifted)
    return limiter


def limit_routes(app: Flask, limiter: Limiter, settings: Settings) -> None:
    """Put the contract's limits on the routes that have one; all others are free."""
    limiter.init_app(app)

    def put(endpoint: str, *limits: Any) -> None:
        view = app.view_functions[endpoint]
        for limit in limits:
            view = limit(view)
        app.view_functions[endpoint] = view

    put("api.create", limiter.limit(settings.limit_create))
    put("api.list_page", limiter.limit(settings.limit_list))
    put(
        "api.view",
        limiter.limit(settings.limit_view_note, key_func=_client_and_note),
        limiter.shared_limit(settings.limit_view, scope="views"),
    )
    put("api.legacy_view", limiter.limit(settings.limit_alias))


def _say_when_to_come_back(breached: RequestLimit) -> Response:
    window_seconds = breached.limit.get_expiry()
    try:
        left_seconds = math.ceil(breached.reset_at - time.time())
    except Exception:
        # The storage went away in between: the whole window is true in any case.
        left_seconds = window_seconds
    response = jsonify({"error": "rate_limited"})
    response.status_code = 429
    response.headers["Retry-After"] = str(min(max(left_seconds, 1), window_seconds))
    return response


def _client() -> str:
    return limited_address(client_address(request, service().settings.trusted_hops))


def _client_and_note() -> str:
    return f"{_client()}:{(request.view_args or {}).get('note_id')}"


def _is_lifted() -> bool:
    if "rehearsal" not in g:
        settings = service().settings
        given = request.headers.get("X-P12-Rehearsal", "")
        g.rehearsal = is_rehearsal(given, settings.rehearsal_secret, settings.target)
    return bool(g.rehearsal)


def _storage_options(uri: str) -> Mapping[str, Any]:
    if uri.startswith("memory:"):
        return {}
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # The client would try a dead server again three times, with pauses of up to ten seconds.
    return {
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
        "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
