"""What every answer carries and every request leaves behind: headers, measurements, a line if it failed."""

import logging
import re
import time
from functools import cache
from urllib.parse import quote

from flask import Flask, Response, g, request
from sqlalchemy.exc import DBAPIError

from app import telemetry
from app.errors import ReadOnlyError
from app.service import flags_in_force, service
from app.store.retry import sqlstate
from app.web.policy import policy_with

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
HEALTH = ("/healthz", "/api/health")
NOT_TRACED = ("/internal/", *HEALTH)

SECURE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
CORS_METHODS = "GET, POST, OPTIONS"
CORS_HEADERS = "Content-Type, X-Author-Fp, X-Fingerprint, X-FP"
CORS_EXPOSED = "Link, Retry-After, X-P12-Release, X-P12-Flags, X-Request-Id"
CORS_MAX_AGE_SECONDS = "600"
# As the balancer gives them, which replaces what came from outside.
REQUEST_ID = re.compile(r"[0-9A-Za-z-]{1,64}")

log = logging.getLogger(__name__)


def dress_answers(app: Flask) -> None:
    """Register the hooks: first start of the clock, last the headers and the measurement."""
    app.before_request(_start)
    app.after_request(_dress)


@cache
def route_of(rule: str | None) -> str:
    """Return a route as metrics name it: ``/api/notes/{id}/view``; never what a client typed."""
    return (
        re.sub(r"<(?:[^:>]*:)?([^>]*)>", lambda m: "{" + m[1].removeprefix("note_") + "}", rule)
        if rule
        else "none"
    )


def _start() -> None:
    g.started = time.perf_counter()
    g.span = None if request.path.startswith(NOT_TRACED) else service().traces.begin("request")
    flags_in_force()


def _dress(response: Response) -> Response:
    # One hook, since Flask asks of each whether it is a coroutine.
    _allow_origin(response)
    _secure(response)
    _say_who_answered(response)
    _measure(response)
    _log_failure(response.status_code)
    return response


def _say_who_answered(response: Response) -> None:
    here = service()
    response.headers["X-P12-Release"] = here.release.name
    response.headers["X-P12-Flags"] = str(flags_in_force().generation)


def _secure(response: Response) -> None:
    settings = service().settings
    if settings.secure_headers:
        response.headers.setdefault("Content-Security-Policy", _policy(settings.csp_additions))
        for name, value in SECURE_HEADERS.items():
            response.headers.setdefault(name, value)


@cache
def _policy(additions: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    return policy_with(dict(additions))


def _allow_origin(response: Response) -> None:
    if not request.path.startswith("/api/"):
        return
    response.vary.add("Origin")
    settings = service().settings
    origin = request.headers.get("Origin", "").lower()
    if origin and origin in (settings.cors_allowlist or settings.public_base_url):
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = CORS_EXPOSED
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = CORS_METHODS
            response.headers["Access-Control-Allow-Headers"] = CORS_HEADERS
            response.headers["Access-Control-Max-Age"] = CORS_MAX_AGE_SECONDS


def _log_failure(status: int) -> None:
    """Say which request failed, where and why; of what was typed only its path."""
    if status < 500 or request.path.startswith("/internal/"):
        return
    failure = g.get("failure")
    is_foreseen = status == 503
    level = (
        logging.ERROR
        if not is_foreseen
        else logging.INFO
        if isinstance(failure, ReadOnlyError)
        else logging.WARNING
    )
    given = request.headers.get("X-Request-Id", "")
    log.log(
        level,
        "request failed: %s %s status %s, request %s, release %s: %s",
        request.method,
        quote(request.path),
        status,
        given if REQUEST_ID.fullmatch(given) else "-",
        service().release.name,
        _cause(failure),
        exc_info=None if is_foreseen else failure,
    )


def _cause(failure: Exception | None) -> str:
    """Name what failed; never in the words of the driver, which hold what people wrote."""
    named = str(getattr(failure, "code", type(failure).__name__))
    below = failure.__cause__ if failure else None
    if isinstance(below, DBAPIError):
        return f"{named} (SQLSTATE {sqlstate(below)})"
    return f"{named} ({type(below).__name__})" if below else named


def _measure(response: Response) -> None:
    rule = request.url_rule.rule if request.url_rule else None
    method = request.method if request.method in METHODS else "OTHER"
    telemetry.end(g.get("span"), route_of(rule), method, response.status_code)
    if rule and rule.startswith("/internal/"):
        return
    # The balancer does not count its own looks; those that it forwards it does, so they must be known here.
    if rule and rule.startswith(HEALTH) and "X-Forwarded-For" not in request.headers:
        return
    seconds = time.perf_counter() - g.get("started", time.perf_counter())
    service().metrics.count_request(route_of(rule), method, response.status_code, seconds)
