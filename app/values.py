"""Readers of setting values: text in, value out, and an error that says what is accepted."""

import json
import re
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

Reader = Callable[[str], object]


class BadValueError(ValueError):
    """A value that is not accepted; its text says what is, as the end of a sentence."""


def text(value: str) -> str:
    return value


def whole(low: int, high: int) -> Callable[[str], int]:
    """Read a whole number from ``low`` to ``high``."""

    def read(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,12}", value) or not low <= int(value) <= high:
            raise BadValueError(f"Use a whole number from {low} to {high}.")
        return int(value)

    return read


def whole_or_never(low: int, high: int) -> Callable[[str], int | None]:
    """Read a whole number from ``low`` to ``high``, or nothing: never."""
    return lambda value: whole(low, high)(value) if value else None


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Read a duration in seconds, fractions allowed."""

    def read(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value) or not low <= float(value) <= high:
            raise BadValueError(f"Use seconds from {low:g} to {high:g}.")
        return float(value)

    return read


def ratio(value: str) -> float:
    """Read a share from 0 to 1."""
    if not re.fullmatch(r"[01](\.[0-9]{1,6})?", value) or float(value) > 1:
        raise BadValueError("Use a share from 0 to 1, such as 0.01.")
    return float(value)


def switch(value: str) -> bool:
    if value not in {"0", "1"}:
        raise BadValueError("Use 0 or 1.")
    return value == "1"


def one_of(*accepted: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in accepted:
            raise BadValueError(f"Use {' or '.join(accepted)}.")
        return value

    return read


def words(value: str) -> tuple[str, ...]:
    """Read a list separated by commas or spaces."""
    return tuple(word for word in re.split(r"[,\s]+", value) if word)


def addresses(value: str) -> tuple[str, ...]:
    """Read a list of IP addresses."""
    try:
        return tuple(str(ip_address(word)) for word in words(value))
    except ValueError as error:
        raise BadValueError("Use IP addresses separated by commas, such as 10.0.0.4,10.0.0.5.") from error


def origins(value: str) -> tuple[str, ...]:
    """Read a list of web origins; a path after the host is left out, as browsers do."""
    found = []
    for word in words(value):
        parts = urlsplit(word)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise BadValueError("Use origins separated by commas, such as https://paste12.example.")
        found.append(f"{parts.scheme}://{parts.netloc}".lower())
    return tuple(found)


def directory(value: str) -> str:
    """Read the absolute path of a directory, or nothing."""
    if value and not value.startswith("/"):
        raise BadValueError("Use the absolute path of a directory, such as /srv/paste12/public.")
    return value


def policy_additions(value: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read directives of a content policy with their sources."""
    found = []
    for part in filter(None, (part.strip() for part in value.split(";"))):
        name, *sources = part.split()
        if not re.fullmatch(r"[a-z-]{3,40}", name) or not all(
            re.fullmatch(r"[\x21-\x2b\x2d-\x3a\x3c-\x7e]{1,300}", source) for source in sources
        ):
            raise BadValueError(
                "Use directives with sources, such as img-src https://a.example; font-src 'self'."
            )
        found.append((name, tuple(sources)))
    return tuple(found)


def texts(value: str) -> tuple[tuple[str, str, str], ...]:
    """Read sentences of the page as JSON, by language and name."""
    accepted = 'Use JSON such as {"en": {"tagline": "Notes of our school."}}.'
    try:
        given = json.loads(value or "{}")
        rows = [(lang, name, said) for lang, named in given.items() for name, said in named.items()]
    except (ValueError, AttributeError) as error:
        raise BadValueError(accepted) from error
    if not all(isinstance(said, str) and len(said) <= 500 for _, _, said in rows):
        raise BadValueError(accepted)
    return tuple(rows)


def postgres_url(value: str) -> str:
    """Read a Postgres URL and name the driver in it, since a bare scheme means another one to SQLAlchemy."""
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg2"}:
        raise BadValueError("Use postgresql://user:password@host:port/name.")
    return f"postgresql+psycopg2://{rest}"


def storage_uri(value: str) -> str:
    if not re.match(r"(memory|redis|rediss|redis\+unix)://", value):
        raise BadValueError("Use redis://host:port/0, or memory:// for one process alone.")
    return value


def rate_limits(value: str) -> str:
    """Read limits such as ``1 per 10 second; 500 per day``."""
    one = r"\s*[1-9][0-9]*\s*(/|per)\s*([1-9][0-9]*\s*)?(second|minute|hour|day)s?\s*"
    if not re.fullmatch(f"{one}(;{one})*", value):
        raise BadValueError("Use limits such as 1 per 10 second; 500 per day.")
    return value.strip()
