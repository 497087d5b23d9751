"""What can go wrong with a request, each with its status and code, and how it is told as JSON.
``g.failure`` keeps it for the log.

``ServiceError`` is the root. ``BadRequestError`` is the client's; ``BusyError`` and
``UnavailableError`` are the database's, ``ReadOnlyError`` the operator's: those three are 503 and say
when to come back. Nothing the database driver said ever reaches a client.
"""

from flask import Flask, Response, g, jsonify, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.response import Response as WSGIResponse

MOST_READ_OFF_BYTES, PIECE_BYTES = 2**20, 2**16
HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class ServiceError(Exception):
    """A request that cannot be served; ``retry_after`` is in seconds, 0 for never."""

    status = 500
    retry_after = 0
    code = "server_error"

    def __init__(self, code: str = "") -> None:
        self.code = code or self.code
        super().__init__(self.code)


class BadRequestError(ServiceError):
    """The request is not one we take; the code says which part."""

    status = 400


class NotFoundError(ServiceError):
    """There is no such note, or it is gone."""

    status = 404
    code = "not_found"


class BusyError(ServiceError):
    """The database is there but could not serve in time."""

    status = 503
    retry_after = 1
    code = "db_busy"


class UnavailableError(ServiceError):
    """The database is away."""

    status = 503
    retry_after = 2
    code = "db_unavailable"


class ReadOnlyError(ServiceError):
    """Writes are switched off."""

    status = 503
    retry_after = 30
    code = "read_only"


def answer_errors_as_json(app: Flask) -> None:
    app.register_error_handler(ServiceError, _service_error)
    app.register_error_handler(HTTPException, _http_error)
    # A body in chunks is taken apart while it is read, so what is wrong with it shows up in the middle.
    app.register_error_handler(ParseException, lambda _: _service_error(BadRequestError("bad_request")))
    app.register_error_handler(Exception, _unforeseen)


def _service_error(error: ServiceError) -> Response:
    g.failure = error
    body = {"ok": False, "error": error.code} if error.status == 503 else {"error": error.code}
    response = jsonify(body)
    response.status_code = error.status
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _http_error(error: HTTPException) -> WSGIResponse:
    if error.response is not None:
        return error.response
    status = error.code or 500
    if status == 413:
        _read_off()
    response = jsonify({"error": HTTP_CODES.get(status, "server_error" if status >= 500 else "bad_request")})
    response.status_code = status
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _read_off() -> None:
    """Read what is left of a refused body, as far as that is reasonable.

    The server closes a connection with unread bytes on it, and takes the client's next request with it.
    """
    stream = request.environ["wsgi.input"]
    for _ in range(MOST_READ_OFF_BYTES // PIECE_BYTES):
        if not stream.read(PIECE_BYTES):
            return


def _unforeseen(error: Exception) -> Response:
    g.failure = error
    response = jsonify({"error": "server_error"})
    response.status_code = 500
    return response
