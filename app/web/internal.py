"""Endpoints for the host and the balancer: readiness, metrics and flags."""

from flask import Blueprint, Response, abort, jsonify, request

from app import flags as known
from app.flags import FlagSet, RefusedDocumentError
from app.live_flags import StaleGenerationError, is_signed
from app.service import Service, service
from app.store.schema import HEAD, database_revision, is_served
from app.web.clients import peer_address

internal = Blueprint("internal", __name__, url_prefix="/internal")

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


# Of the whole application: a wrong method belongs to no route, and must not tell what is there either.
@internal.before_app_request
def hide_from_outside() -> None:
    if not f"{request.path}/".startswith("/internal/"):
        return
    allowed = (*LOOPBACK, *service().settings.internal_allow)
    if "X-Forwarded-For" in request.headers or peer_address(request) not in allowed:
        abort(404)


@internal.get("/ready")
def ready() -> tuple[Response, int]:
    here = service()
    in_force = here.flags.current()
    revision = database_revision(here)
    is_ready = is_served(revision) and here.flags.trusted
    body = {
        "ok": is_ready,
        "commit": here.release.commit,
        "release": here.release.name,
        "target": here.settings.target,
        "slot": here.settings.slot,
        "instance": here.settings.instance,
        "schema": {"revision": revision, "head": HEAD},
        "flags": {"generation": in_force.generation, "sha256": in_force.sha256, "error": here.flags.error},
    }
    return jsonify(body), 200 if is_ready else 503


@internal.get("/metrics")
def metrics() -> Response:
    return Response(service().metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


@internal.get("/flags")
def read_flags() -> Response:
    here = service()
    return jsonify(_shown(here, here.flags.current()))


@internal.put("/flags")
def replace_flags() -> tuple[Response, int]:
    here = service()
    body = request.get_data()
    if not is_signed(here.settings.flags_secret, body, request.headers.get("X-P12-Signature", "")):
        return jsonify({"error": "unsigned"}), 401
    try:
        in_force = here.flags.replace(body)
    except StaleGenerationError as error:
        return jsonify({"error": "stale_generation", "generation": error.generation}), 409
    except RefusedDocumentError as error:
        return jsonify({"error": error.error, "name": error.name, "accepted": error.accepted}), 422
    return jsonify(_shown(here, in_force)), 200


def _shown(here: Service, in_force: FlagSet) -> dict[str, object]:
    return {
        "target": here.settings.target,
        "slot": here.settings.slot,
        "generation": in_force.generation,
        "sha256": in_force.sha256,
        "flags": dict(in_force.values),
        "source": dict(in_force.source),
        "known": {name: flag.default for name, flag in known.FLAGS.items()},
        "error": here.flags.error,
        "purge_after_days": here.settings.purge_after_days,
    }
