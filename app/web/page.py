"""The page at ``/``: one document in Spanish or English, one script, one style sheet.

It holds the notes too, for readers without JavaScript and for whoever makes a preview of a link.

Assets keep their names from release to release and are revalidated, so a page of one release works with
the assets of its neighbour while traffic is split between them.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Flask, Response, current_app, make_response, render_template, request

from app.errors import BusyError, NotFoundError, UnavailableError
from app.notes import DEFAULT_PAGE, LARGEST_ID, Page, find_note, list_notes, read_before_id
from app.service import Service, service
from app.settings import Settings, SettingsError
from app.web.public import has

page = Blueprint("page", __name__)

# Each sentence in the order of LANGUAGES.
SENTENCES: Mapping[str, tuple[str, str]] = {
    "lang": ("es", "en"),
    "title": ("{site} – notas breves que caducan", "{site} – short notes that expire"),
    "tagline": ("Notas breves que caducan.", "Short notes that expire."),
    "skip": ("Ir a las notas", "Skip to the notes"),
    "write": ("Escribe una nota", "Write a note"),
    "hours": ("Horas que dura", "Hours it lasts"),
    "publish": ("Publicar", "Publish"),
    "notes": ("Notas", "Notes"),
    "more": ("Ver más", "Show more"),
    "all": ("← Todas las notas", "← All notes"),
    "like": ("Me gusta", "Like"),
    "report": ("Denunciar", "Report"),
    "report_question": ("¿Denunciar esta nota?", "Report this note?"),
    "views": ("Vistas", "Views"),
    "expires": ("caduca", "expires"),
    "published": ("Nota publicada.", "Note published."),
    "liked": ("Te gusta esta nota.", "You like this note."),
    "reported": ("Gracias. Hemos recibido la denuncia.", "Thank you. We have your report."),
    "gone": ("Esta nota ya no está.", "This note is gone."),
    "empty": ("Todavía no hay notas. Escribe la primera.", "No notes yet. Write the first one."),
    "slow": ("Vas muy rápido. Espera un momento.", "That was quick. Wait a moment."),
    "busy": (
        "Ahora mismo no se puede. Inténtalo otra vez en un momento.",
        "Not possible right now. Try again in a moment.",
    ),
    "refused": ("La nota no se puede publicar así.", "The note cannot be published like this."),
    "hint": ("Lo que quieras contar…", "Whatever you want to say…"),
    "note": ("Nota", "Note"),
    "reason": ("Motivo (si quieres)", "Reason (if you like)"),
    "cancel": ("Cancelar", "Cancel"),
    "report_means": (
        "Una nota con suficientes denuncias se retira.",
        "A note with enough reports is taken down.",
    ),
    "now": ("ahora mismo", "just now"),
    "expired": ("ya ha caducado", "has expired"),
    "loading": ("Cargando…", "Loading…"),
    "end": ("No hay más notas.", "No more notes."),
    "slow_for": (
        "Vas muy rápido. Prueba otra vez en {seconds} s.",
        "That was quick. Try again in {seconds} s.",
    ),
    "read_only": (
        "Ahora mismo solo se puede leer. Tu texto sigue aquí: inténtalo más tarde.",
        "Only reading is possible right now. Your text is kept here: try again later.",
    ),
    "offline": ("No hay conexión con {site}. Inténtalo otra vez.", "{site} cannot be reached. Try again."),
    "left": ("Quedan {count} caracteres.", "{count} characters left."),
    "noscript": (
        "Sin JavaScript se puede leer, pero no indicar «me gusta» ni denunciar.",
        "Without JavaScript you can read, but neither like nor report.",
    ),
    "share": ("Compartir", "Share"),
    "copied": ("Enlace copiado.", "Link copied."),
    "terms": ("Condiciones", "Terms"),
    "privacy": ("Privacidad", "Privacy"),
    "other_language": ("English", "Español"),
    "other_lang": ("en", "es"),
}
LANGUAGES = ("es", "en")
SPOKEN_BY_THE_SCRIPT = (
    *("report_question", "now", "expires", "expired", "published", "liked", "reported", "loading", "empty"),
    *("end", "left", "gone", "slow", "slow_for", "busy", "read_only", "offline", "refused"),
    "copied",
)
LANGUAGE_COOKIE = "lang"
YEAR_SECONDS = 31_536_000
NEWEST_SECONDS = 5.0
TITLE_LENGTH, DESCRIPTION_LENGTH = 70, 200
EXTENSION = "page"


class Newest:
    """The first page of notes, asked of the database once in a while, and by one request at a time.

    So the page is there, without notes or with older ones, while the database is away or slow.
    """

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._page = Page([], None)
        self._until = 0.0

    def page(self, here: Service) -> Page:
        if time.monotonic() >= self._until and self._asking.acquire(blocking=False):
            try:
                self._until = time.monotonic() + NEWEST_SECONDS
                self._page = list_notes(here, DEFAULT_PAGE, None)
            except (BusyError, UnavailableError):
                pass
            finally:
                self._asking.release()
        return self._page


def prepare(app: Flask, settings: Settings) -> None:
    """Put the page's sentences together, the owner's before ours.

    :raises SettingsError: the owner's are of no language or name that the page has.
    """
    said = {
        language: {name: texts[at].replace("{site}", settings.site_name) for name, texts in SENTENCES.items()}
        for at, language in enumerate(LANGUAGES)
    }
    for language, name, text in settings.site_texts:
        if name not in said.get(language, {}):
            raise SettingsError(
                f"P12_SITE_TEXTS has {language}.{name}, which the page has not. "
                f"Use es or en, and names such as title, tagline and hint."
            )
        said[language][name] = text
    app.extensions[EXTENSION] = (said, Newest())


@page.get("/")
def index() -> Response:
    said, newest = current_app.extensions[EXTENSION]
    chosen = request.args.get("lang", "")
    wanted = (chosen, request.cookies.get(LANGUAGE_COOKIE, ""), *request.accept_languages.values())
    # By its first part: "es-CO" is Spanish, whatever comes after it in the list.
    language = next((tag[:2].lower() for tag in wanted if tag[:2].lower() in LANGUAGES), "es")
    note_id = _note_id(request.args.get("id") or request.args.get("note") or "")
    found = _notes(note_id, newest)
    response = make_response(
        render_template(
            "page.html",
            words=said[language],
            spoken=SPOKEN_BY_THE_SCRIPT,
            site=service().settings.site_name,
            text_limit=service().settings.text_limit,
            note_id=note_id,
            found={"items": found.items, "next_before_id": found.next_before_id},
            shown=_shown(found.items[0] if note_id and found.items else None, said[language]),
            address=_address(note_id),
            pages=[name for name in ("terms", "privacy") if has(name)],
        )
    )
    if chosen in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE, chosen, YEAR_SECONDS, httponly=True, secure=request.is_secure, samesite="Lax"
        )
    response.headers["Cache-Control"] = "no-cache"
    response.vary.update(("Accept-Language", "Cookie"))
    return response


def _note_id(given: str) -> str:
    return given if given.isascii() and given.isdecimal() else ""


def _notes(note_id: str, newest: Newest) -> Page:
    """Return what the page shows at first; nothing where the database cannot say."""
    here, before_id = service(), read_before_id(request.args.get("before_id"))
    try:
        if note_id:
            is_possible = len(note_id) <= len(str(LARGEST_ID)) and int(note_id) <= LARGEST_ID
            return Page([find_note(here, int(note_id))] if is_possible else [], None)
        return newest.page(here) if before_id is None else list_notes(here, DEFAULT_PAGE, before_id)
    except (NotFoundError, BusyError, UnavailableError):
        return Page([], None)


def _shown(note: Mapping[str, Any] | None, words: Mapping[str, str]) -> Mapping[str, str]:
    """Return title and description as a preview of the link shows them."""
    if note is None:
        return {"title": words["title"], "description": words["tagline"]}
    text = " ".join(note["text"].split())
    title = note["text"].splitlines()[0]
    return {"title": _short(title, TITLE_LENGTH), "description": _short(text, DESCRIPTION_LENGTH)}


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def _address(note_id: str) -> str:
    """Return the address of the page or of a note, by the service's own name where it is known."""
    base = next(iter(service().settings.public_base_url), request.host_url.rstrip("/"))
    return f"{base}/?id={note_id}" if note_id else f"{base}/"
