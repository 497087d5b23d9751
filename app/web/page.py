"""The page at ``/``: one document in Spanish or English, one script, one style sheet.

Assets keep their names from release to release and are revalidated, so a page of one release works with
the assets of its neighbour while traffic is split between them.
"""

from collections.abc import Mapping

from flask import Blueprint, Response, make_response, render_template, request

from app.service import service

page = Blueprint("page", __name__)

SPANISH: Mapping[str, str] = {
    "lang": "es",
    "title": "Paste12 – notas breves que caducan",
    "tagline": "Notas breves que caducan.",
    "skip": "Ir a las notas",
    "write": "Escribe una nota",
    "hours": "Dura",
    "publish": "Publicar",
    "notes": "Notas",
    "more": "Ver más",
    "all": "← Todas las notas",
    "one_hour": "1 hora",
    "one_day": "1 día",
    "three_days": "3 días",
    "one_week": "1 semana",
    "like": "Me gusta",
    "report": "Denunciar",
    "report_question": "¿Denunciar esta nota?",
    "views": "Vistas",
    "expires": "caduca",
    "published": "Nota publicada.",
    "liked": "Te gusta esta nota.",
    "reported": "Gracias. Hemos recibido la denuncia.",
    "gone": "Esta nota ya no está.",
    "empty": "Todavía no hay notas. Escribe la primera.",
    "slow": "Vas muy rápido. Espera un momento.",
    "busy": "Ahora mismo no se puede. Inténtalo otra vez en un momento.",
    "refused": "La nota no se puede publicar así.",
    "hint": "Lo que quieras contar…",
    "note": "Nota",
    "reason": "Motivo (si quieres)",
    "cancel": "Cancelar",
    "report_means": "Una nota con suficientes denuncias se retira.",
    "now": "ahora mismo",
    "expired": "ya ha caducado",
    "loading": "Cargando…",
    "end": "No hay más notas.",
    "slow_for": "Vas muy rápido. Prueba otra vez en {seconds} s.",
    "read_only": "Ahora mismo solo se puede leer. Tu texto sigue aquí: inténtalo más tarde.",
    "offline": "No hay conexión con Paste12. Inténtalo otra vez.",
    "left": "Quedan {count} caracteres.",
    "noscript": "Esta página necesita JavaScript para mostrar las notas.",
    "other_language": "English",
    "other_lang": "en",
}
ENGLISH: Mapping[str, str] = {
    "lang": "en",
    "title": "Paste12 – short notes that expire",
    "tagline": "Short notes that expire.",
    "skip": "Skip to the notes",
    "write": "Write a note",
    "hours": "Lasts",
    "publish": "Publish",
    "notes": "Notes",
    "more": "Show more",
    "all": "← All notes",
    "one_hour": "1 hour",
    "one_day": "1 day",
    "three_days": "3 days",
    "one_week": "1 week",
    "like": "Like",
    "report": "Report",
    "report_question": "Report this note?",
    "views": "Views",
    "expires": "expires",
    "published": "Note published.",
    "liked": "You like this note.",
    "reported": "Thank you. We have your report.",
    "gone": "This note is gone.",
    "empty": "No notes yet. Write the first one.",
    "slow": "That was quick. Wait a moment.",
    "busy": "Not possible right now. Try again in a moment.",
    "refused": "The note cannot be published like this.",
    "hint": "Whatever you want to say…",
    "note": "Note",
    "reason": "Reason (if you like)",
    "cancel": "Cancel",
    "report_means": "A note with enough reports is taken down.",
    "now": "just now",
    "expired": "has expired",
    "loading": "Loading…",
    "end": "No more notes.",
    "slow_for": "That was quick. Try again in {seconds} s.",
    "read_only": "Only reading is possible right now. Your text is kept here: try again later.",
    "offline": "Paste12 cannot be reached. Try again.",
    "left": "{count} characters left.",
    "noscript": "This page needs JavaScript to show the notes.",
    "other_language": "Español",
    "other_lang": "es",
}
LANGUAGES = {"es": SPANISH, "en": ENGLISH}
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
