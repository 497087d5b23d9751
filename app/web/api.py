"""The public API under /api."""

from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, jsonify, request

from app.counting import count_like, count_report, count_view
from app.errors import BadRequestError, NotFoundError
from app.flags import LEGACY_VIEW
from app.notes import (
    LARGEST_ID,
    create_note,
    find_note,
    list_notes,
    read_before_id,
    read_hours,
    read_page_size,
    read_text,
)
from app.service import flags_in_force, must_be_writable, service
from app.web.clients import author_fingerprint, fingerprint

api = Blueprint("api", __name__, url_prefix="/api")

KEPT_IN_LINKS = ("wrap", "active_only")


@api.before_request
def refuse_what_is_too_large() -> None:
    """Refuse a body that came in chunks and fills the limit: what is read of it ends there without a word."""
    if request.method != "POST" or request.content_length is not None:
        return
    if len(request.get_data()) >= (request.max_content_length or 0):
        abort(413)


@api.post("/notes")
def create() -> tuple[Response, int]:
    here = service()
    must_be_writable()
    given = _body()
    text = read_text(given.get("text"), here.settings.text_limit)
    ttl_hours = given.get("ttl_hours")
    hours = read_hours(given.get("hours") if ttl_hours in (None, "") else ttl_hours)
    return jsonify(create_note(here, text, hours, author_fingerprint(request, here.settings))), 201


@api.get("/notes")
def list_page() -> Response:
    size = read_page_size(request.args.get("limit"))
    page = list_notes(service(), size, read_before_id(request.args.get("before_id")))
    has_more = page.next_before_id is not None
    if _is_true(request.args.get("wrap")):
        response = jsonify({"items": page.items, "has_more": has_more, "next_before_id": page.next_before_id})
    else:
        response = jsonify(page.items)
    if has_more:
        kept = {name: request.args[name] for name in KEPT_IN_LINKS if name in request.args}
        query = urlencode({"limit": size, "before_id": page.next_before_id, **kept})
        response.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return response


@api.get("/notes/<note:note_id>")
def read(note_id: int) -> Response:
    return jsonify(find_note(service(), note_id))


@api.post("/notes/<note:note_id>/view")
def view(note_id: int) -> Response:
    return _count_view(note_id)


@api.post("/notes/<note:note_id>/like")
def like(note_id: int) -> Response:
    here = service()
    must_be_writable()
    likes = count_like(here, flags_in_force(), note_id, fingerprint(request, here.settings))
    return jsonify({"ok": True, "id": note_id, "likes": likes})


@api.post("/notes/<note:note_id>/report")
def report(note_id: int) -> Response:
    here = service()
    must_be_writable()
    reason = str(_body().get("reason") or "").replace("\0", "").encode(errors="replace").decode()
    who = fingerprint(request, here.settings)
    reported = count_report(here, flags_in_force(), note_id, who, reason)
    return jsonify({"ok": True, "id": note_id, "reports": reported.reports, "removed": reported.removed})


@api.post("/view")
def legacy_view() -> Response:
    if not flags_in_force().on(LEGACY_VIEW):
        raise NotFoundError
    given = request.args.get("id") or request.form.get("id") or ""
    if not (given.isascii() and given.isdecimal() and len(given) <= 10 and int(given) <= LARGEST_ID):
        raise NotFoundError("bad_id")
    return _count_view(int(given))


@api.route("/view", methods=["GET"])
@api.route("/like", methods=["GET", "POST"])
@api.route("/report", methods=["GET", "POST"])
def retired() -> Response:
    raise NotFoundError


def _count_view(note_id: int) -> Response:
    here = service()
    must_be_writable()
    views = count_view(here, flags_in_force(), note_id, fingerprint(request, here.settings))
    return jsonify({"ok": True, "id": note_id, "views": views})


def _body() -> dict[str, Any]:
    """Return the fields of a JSON object or a form; an empty body has none."""
    if not request.is_json:
        return dict(request.form)
    if not request.get_data():
        return {}
    try:
        given = request.get_json()
    except RecursionError as error:
        raise BadRequestError("bad_request") from error
    if not isinstance(given, dict):
        raise BadRequestError("bad_request")
    return given


def _is_true(given: str | None) -> bool:
    return (given or "").lower() in {"1", "true", "yes", "on"}
