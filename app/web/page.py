"""The page at ``/``: one document in Spanish or English, one script, one style sheet.

Assets keep their names from release to release and are revalidated, so a page of one release works with
the assets of its neighbour while traffic is split between them.
"""

from collections.abc import Mapping

from flask import Blueprint, Response, make_response, render_template, request

from app.service import service

page = Blueprint("page", __name__)

# Each sentence in the order of LANGUAGES.
SENTENCES: Mapping[str, tuple[str, str]] = {
    "lang": ("es", "en"),
    "title": ("Paste12 – notas breves que caducan", "Paste12 – short notes that expire"),
    "tagline": ("Notas breves que caducan.", "Short notes that expire."),
    "skip": ("Ir a las notas", "Skip to the notes"),
    "write": ("Escribe una nota", "Write a note"),
    "hours": ("Dura", "Lasts"),
    "publish": ("Publicar", "Publish"),
    "notes": ("Notas", "Notes"),
    "more": ("Ver más", "Show more"),
    "all": ("← Todas las notas", "← All notes"),
    "one_hour": ("1 hora", "1 hour"),
    "one_day": ("1 día", "1 day"),
    "three_days": ("3 días", "3 days"),
    "one_week": ("1 semana", "1 week"),
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
    "offline": ("No hay conexión con Paste12. Inténtalo otra vez.", "Paste12 cannot be reached. Try again."),
    "left": ("Quedan {count} caracteres.", "{count} characters left."),
    "noscript": (
        "Esta página necesita JavaScript para mostrar las notas.",
        "This page needs JavaScript to show the notes.",
    ),
    "other_language": ("English", "Español"),
    "other_lang": ("en", "es"),
}
LANGUAGES = {
    language: {name: said[at] for name, said in SENTENCES.items()} for at, language in enumerate(("es", "en"))
}
SPOKEN_BY_THE_SCRIPT = (
    *("report_question", "now", "expires", "expired", "published", "liked", "reported", "loading", "empty"),
    *("end", "left", "gone", "slow", "slow_for", "busy", "read_only", "offline", "refused"),
)
LANGUAGE_COOKIE = "lang"
YEAR_SECONDS = 31_536_000


@page.get("/")
def index() -> Response:
    chosen = request.args.get("lang", "")
    wanted = (chosen, request.cookies.get(LANGUAGE_COOKIE, ""), *request.accept_languages.values())
    # By its first part: "es-CO" is Spanish, whatever comes after it in the list.
    language = next((tag[:2].lower() for tag in wanted if tag[:2].lower() in LANGUAGES), "es")
    given = request.args.get("id", "")
    response = make_response(
        render_template(
            "page.html",
            words=LANGUAGES[language],
            spoken=SPOKEN_BY_THE_SCRIPT,
            text_limit=service().settings.text_limit,
            note_id=given if given.isascii() and given.isdecimal() else "",
        )
    )
    if chosen in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE, chosen, YEAR_SECONDS, httponly=True, secure=request.is_secure, samesite="Lax"
        )
    response.headers["Cache-Control"] = "no-cache"
    response.vary.update(("Accept-Language", "Cookie"))
    return response
