"""Put the web application together."""

from flask import Flask
from werkzeug.routing import BaseConverter, ValidationError

from app.errors import answer_errors_as_json
from app.notes import LARGEST_ID
from app.public_files import IMAGE_TYPES
from app.release import Release, running_release
from app.service import EXTENSION, build_service
from app.settings import Settings
from app.web.answers import dress_answers
from app.web.api import api
from app.web.health import health
from app.web.internal import internal
from app.web.limits import build_limiter, limit_routes
from app.web.openapi import openapi
from app.web.page import page, prepare
from app.web.public import public


class ImageConverter(BaseConverter):
    """The name of a picture at the top; any other path there stays nobody's."""

    regex = rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}\.(?:{'|'.join(IMAGE_TYPES)})"


class NoteIdConverter(BaseConverter):
    """A note's id in a path: what does not fit the column is not found, rather than an error."""

    regex = "[0-9]{1,10}"

    def to_python(self, value: str) -> int:
        if int(value) > LARGEST_ID:
            raise ValidationError
        return int(value)


def create_app(settings: Settings, release: Release | None = None) -> Flask:
    """Build the application of one instance. Opens no connection and changes no schema."""
    app = Flask("app", template_folder="web/templates", static_folder="web/static")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.config["MAX_CONTENT_LENGTH"] = settings.body_limit
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.body_limit
    prepare(app, settings)
    service = build_service(settings, release or running_release())
    app.extensions[EXTENSION] = service
    app.url_map.converters |= {"note": NoteIdConverter, "image": ImageConverter}
    app.url_map.strict_slashes = True
    # Two slashes are not one: a redirect is no answer that a client of the API expects.
    app.url_map.merge_slashes = False
    answer_errors_as_json(app)
    dress_answers(app)
    for part in (api, health, internal, openapi, page, public):
        app.register_blueprint(part)
    limiter = build_limiter(settings)
    limit_routes(app, limiter, settings)
    service.metrics.is_limiter_degraded = lambda: limiter.limiter.storage is not limiter.storage
    return app
