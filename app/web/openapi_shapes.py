"""The pieces that the API's description is made of."""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
STRING: Schema = {"type": "string"}
TIME: Schema = {
    "type": "string",
    "description": "ISO 8601, UTC, without a zone",
    "examples": ["2025-10-28T12:00:00"],
}
LENIENT_INTEGER: Schema = {"type": ["integer", "string"]}
LENIENT_BOOLEAN: Schema = {"type": ["boolean", "string"], "description": "true is 1, true, yes or on"}
BODY_KINDS = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
REFUSED_TEXTS = ("text required", "text_not_a_string", "text_too_long", "text_has_nul", "text_not_unicode")
COUNTED_ONCE = "Counted once per fingerprint."


def record(**properties: Schema) -> Schema:
    """Describe an object that has all of these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def component(kind: str, name: str) -> Schema:
    """Refer to a part of the document that is described once."""
    return {"$ref": f"#/components/{kind}/{name}"}


NOTE = record(
    id=INTEGER,
    text=STRING,
    timestamp=TIME,
    expires_at=or_null(TIME),
    likes=INTEGER,
    views=INTEGER,
    reports=INTEGER,
    author_fp=or_null(STRING),
)
NOTES: Schema = {"type": "array", "items": component("schemas", "Note")}
PAGE = record(items=NOTES, has_more=BOOLEAN, next_before_id=or_null(INTEGER))
REPORT: Schema = {
    "type": "object",
    "properties": {"reason": {"description": "kept as text, up to 500 characters"}},
}


def header(description: str, pattern: str) -> Schema:
    return {"description": description, "required": True, "schema": {"type": "string", "pattern": pattern}}


HEADERS: Schema = {
    "X-P12-Release": header("which release answered", "^[0-9a-f]{12}$"),
    "X-P12-Flags": header("the generation of its flags", "^[0-9]+$"),
    "Retry-After": header("seconds after which to try again", "^[0-9]+$"),
    "Link": {"description": 'where the next page is, rel="next"; absent on the last one', "schema": STRING},
}
FINGERPRINTS: Mapping[str, Schema] = {
    place: {
        "name": place,
        "in": "cookie" if place == "fp" else "header",
        "schema": STRING,
        "description": "the visitor's fingerprint; the first of X-Author-Fp, X-Fingerprint, X-FP and the "
        "cookie fp that is given, else one made from address and agent",
    }
    for place in ("X-Author-Fp", "X-Fingerprint", "X-FP", "fp")
}
WHO = tuple(component("parameters", place) for place in FINGERPRINTS)
NOTE_ID: Schema = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
}


def new_note(text_limit: int) -> Schema:
    """Describe what a note is made from; ``text_limit`` is in characters."""
    lives = "1 to 168, else the nearest of them; 0 or nonsense means 24"
    return {
        "type": "object",
        "required": ["text"],
        "properties": {
            "text": {
                "type": "string",
                "description": "trimmed",
                "pattern": r"^[^\u0000]*[^\u0000\s][^\u0000]*$",
                "maxLength": text_limit,
            },
            "ttl_hours": {"description": lives},
            "hours": {"description": f"used without ttl_hours: {lives}"},
        },
    }


def answer(description: str, schema: Schema, *headers: str, kind: str = "application/json") -> Schema:
    """Describe an answer, with the headers that it has besides those of every answer."""
    names = ("X-P12-Release", "X-P12-Flags", *headers)
    return {
        "description": description,
        "headers": {name: component("headers", name) for name in names},
        "content": {kind: {"schema": schema}},
    }


def refusal(description: str, *codes: str) -> Schema:
    return answer(description, record(error=one_of(*codes)))


def not_now(*codes: str) -> Schema:
    return answer("try again later", record(ok=BOOLEAN, error=one_of(*codes)), "Retry-After")


BAD_NOTE = refusal("not a note", "bad_request", *REFUSED_TEXTS)
BAD_REQUEST = refusal("not readable", "bad_request")
NOT_FOUND = refusal("no such note, or it is gone", "not_found")
TOO_LARGE = refusal("the body is too large", "too_large")
LIMITED = answer("too many requests", record(error=one_of("rate_limited")), "Retry-After")
FAILED = refusal("our mistake", "server_error")
AWAY = not_now("db_busy", "db_unavailable")
NOT_WRITABLE = not_now("db_busy", "db_unavailable", "read_only")
WRITE_TROUBLE = {"400": BAD_REQUEST, "413": TOO_LARGE, "500": FAILED, "503": NOT_WRITABLE}
READ_TROUBLE = {"500": FAILED, "503": AWAY}


def operation(
    summary: str,
    answers: Mapping[str, Schema],
    *parameters: Schema,
    body: Schema | None = None,
    body_needed: bool = False,
) -> Schema:
    found: dict[str, Any] = {"summary": summary, "responses": dict(sorted(answers.items()))}
    if parameters:
        found["parameters"] = list(parameters)
    if body is not None:
        content = {kind: {"schema": body} for kind in BODY_KINDS}
        found["requestBody"] = {"content": content, "required": body_needed}
    return found


def query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def counting(summary: str, **counted: Schema) -> Mapping[str, Schema]:
    body = record(ok=BOOLEAN, id=INTEGER, **counted)
    return {"200": answer(summary, body), "404": NOT_FOUND, **WRITE_TROUBLE}


def retired(summary: str) -> Schema:
    return {**operation(summary, {"404": refusal("always", "not_found")}), "deprecated": True}
