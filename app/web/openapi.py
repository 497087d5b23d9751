"""The API's description of itself, OpenAPI 3.1, at ``/api/openapi.json``."""

from collections.abc import Mapping

from flask import Blueprint, Response, jsonify

from app.service import service
from app.web import openapi_shapes as shapes
from app.web.openapi_shapes import (
    BOOLEAN,
    INTEGER,
    NOTE_ID,
    STRING,
    WHO,
    Schema,
    answer,
    component,
    counting,
    one_of,
    operation,
    query,
    record,
    refusal,
    retired,
)

openapi = Blueprint("openapi", __name__)

VIEW = f"View a note. {shapes.COUNTED_ONCE} Per UTC day."
VIEWED = {**counting("the note's views", views=INTEGER), "429": shapes.LIMITED}
NOTE = component("schemas", "Note")
HEALTHY = record(ok=BOOLEAN, db=BOOLEAN, dialect=STRING, connections=INTEGER, max_connections=INTEGER)
LIST = operation(
    "List notes, newest first",
    {
        "200": answer("a page, as an array or as an object", {"anyOf": [shapes.NOTES, shapes.PAGE]}, "Link"),
        "429": shapes.LIMITED,
        **shapes.READ_TROUBLE,
    },
    query("limit", shapes.LENIENT_INTEGER, "notes a page: 1 to 100, else the nearest; nonsense means 20"),
    query("before_id", shapes.LENIENT_INTEGER, "start below this id; nonsense means at the newest"),
    query("wrap", shapes.LENIENT_BOOLEAN, "answer an object with items, has_more and next_before_id"),
    query("active_only", shapes.LENIENT_BOOLEAN, "kept for older clients: what is gone is never listed"),
)
CREATE = operation(
    "Write a note",
    {"201": answer("the note", NOTE), "429": shapes.LIMITED, **shapes.WRITE_TROUBLE, "400": shapes.BAD_NOTE},
    *WHO,
    body=component("schemas", "NewNote"),
    body_needed=True,
)
READ = operation(
    "Read a note",
    {"200": answer("the note", NOTE), "404": shapes.NOT_FOUND, **shapes.READ_TROUBLE},
    NOTE_ID,
)
LIKE = operation(
    f"Like a note. {shapes.COUNTED_ONCE}", counting("the note's likes", likes=INTEGER), NOTE_ID, *WHO
)
REPORT = operation(
    f"Report a note; enough reports remove it. {shapes.COUNTED_ONCE}",
    counting("the note's reports", reports=INTEGER, removed=BOOLEAN),
    NOTE_ID,
    *WHO,
    body=shapes.REPORT,
)
OLD_VIEW = operation(
    "View a note, the old way",
    {**VIEWED, "404": refusal("no such note, no id, or switched off", "not_found", "bad_id")},
    query("id", shapes.LENIENT_INTEGER, "the note; may be sent as a form field instead"),
    *WHO,
)
HEALTH = operation(
    "Say which commit runs; asks no database",
    {"200": answer("alive", record(ok=BOOLEAN, status=STRING, api=BOOLEAN, ver=STRING, commit=STRING))},
)
DATABASE_HEALTH = operation(
    "Say whether the database answers",
    {
        "200": answer("it does", HEALTHY),
        "500": shapes.FAILED,
        "503": answer("it does not", record(ok=BOOLEAN, db=BOOLEAN, error=one_of("db_unavailable"))),
    },
)
OWNERS_ANSWERS = {
    "200": answer("the file", STRING, kind="*/*"),
    "404": refusal("there is none", "not_found"),
}
OWNERS = operation("A file of the site's owner, or what stands for it", OWNERS_ANSWERS)
OWNERS_NAMED = operation(
    "A file of the site's owner",
    OWNERS_ANSWERS,
    {"name": "name", "in": "path", "required": True, "schema": STRING, "description": "its path there"},
)
PATHS: Mapping[str, Mapping[str, Schema]] = {
    "/": {
        "get": operation(
            "The page: read, write, like and report notes",
            {"200": answer("the page", STRING, kind="text/html")},
            query("id", STRING, "open this note"),
            query("note", STRING, "the same, as older links have it"),
            query("before_id", shapes.LENIENT_INTEGER, "without JavaScript: start below this id"),
            query("lang", STRING, "es or en; remembered in a cookie"),
        )
    },
    **{f"/{name}": {"get": OWNERS} for name in ("terms", "privacy", "ads.txt", "robots.txt", "favicon.ico")},
    **{f"{place}/{{name}}": {"get": OWNERS_NAMED} for place in ("", "/.well-known", "/images")},
    "/api/notes": {"get": LIST, "post": CREATE},
    "/api/notes/{id}": {"get": READ},
    "/api/notes/{id}/view": {"post": operation(VIEW, VIEWED, NOTE_ID, *WHO)},
    "/api/notes/{id}/like": {"post": LIKE},
    "/api/notes/{id}/report": {"post": REPORT},
    "/api/view": {"get": retired("Retired"), "post": {**OLD_VIEW, "deprecated": True}},
    "/api/like": {"get": retired("Retired"), "post": retired("Retired")},
    "/api/report": {"get": retired("Retired"), "post": retired("Retired")},
    "/healthz": {
        "get": operation("Say that the process lives", {"200": answer("alive", record(ok=BOOLEAN))})
    },
    "/api/health": {"get": HEALTH},
    "/api/health/db": {"get": DATABASE_HEALTH},
    "/api/openapi.json": {
        "get": operation("This document", {"200": answer("OpenAPI 3.1", {"type": "object"})})
    },
}


@openapi.get("/api/openapi.json")
def document() -> Response:
    here = service()
    return jsonify(describe(here.release.name, here.settings.text_limit))


def describe(version: str, text_limit: int) -> Schema:
    """Return the whole document for one release; ``text_limit`` is in characters."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Paste12",
            "version": version,
            "description": "Short notes that expire. HEAD works wherever GET does, and OPTIONS everywhere. A "
            "wrong method is 405 method_not_allowed with Allow, an unknown path 404 not_found. What is under "
            "/internal is for the host and the balancer, and not described here.",
        },
        "paths": PATHS,
        "components": {
            "schemas": {"Note": shapes.NOTE, "NewNote": shapes.new_note(text_limit)},
            "headers": shapes.HEADERS,
            "parameters": shapes.FINGERPRINTS,
        },
    }
