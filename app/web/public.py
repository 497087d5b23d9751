"""The owner's files, and what stands for them where there are none."""

from importlib.resources import files

from flask import Blueprint, Response, request

from app.errors import NotFoundError
from app.public_files import IMAGES, PAGES, TEXT, TYPES, WELL_KNOWN, PublicFile, find, read
from app.service import service

public = Blueprint("public", __name__)

CACHE_CONTROL = "public, max-age=300"
ROBOTS = b"User-agent: *\nDisallow: /api/\n"
ICON = (files("app") / "web" / "favicon.ico").read_bytes()
DEFAULTS = {
    "robots.txt": PublicFile(ROBOTS, TEXT, 0),
    "favicon.ico": PublicFile(ICON, TYPES["ico"], 0),
}


@public.get("/terms")
@public.get("/privacy")
@public.get("/ads.txt")
@public.get("/robots.txt")
@public.get("/favicon.ico")
def named() -> Response:
    name = request.path[1:]
    return _answer(PAGES.get(name, (name,)))


@public.get(f"/{WELL_KNOWN}/<path:name>")
def well_known(name: str) -> Response:
    return _answer((f"{WELL_KNOWN}/{name}",))


@public.get(f"/{IMAGES}/<path:name>")
def image(name: str) -> Response:
    return _answer((f"{IMAGES}/{name}",))


@public.get("/<image:name>")
def top_image(name: str) -> Response:
    return _answer((name,))


def has(name: str) -> bool:
    """Say whether the owner has a page of that name."""
    return find(service().settings.public_files, *PAGES[name]) is not None


def _answer(names: tuple[str, ...]) -> Response:
    found = read(service().settings.public_files, *names) or DEFAULTS.get(names[0])
    if found is None:
        raise NotFoundError
    response = Response(found.content, content_type=found.kind)
    response.headers["Cache-Control"] = CACHE_CONTROL
    response.headers["X-Content-Type-Options"] = "nosniff"
    if found.kind == TYPES["svg"]:
        # A picture, whatever is written into it.
        response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    if found.modified:
        response.last_modified = int(found.modified)  # type: ignore[assignment]
    response.add_etag()
    response.make_conditional(request)
    return response
