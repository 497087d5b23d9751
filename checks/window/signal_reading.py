"""Read the site's own signals: one number each, from Postgres or from a Prometheus."""

import base64
import json
import math
from collections.abc import Callable, Iterable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import psycopg2
import psycopg2.extensions

from checks.base.errors import CannotMeasure
from checks.base.postgres import error_text
from checks.window.signals import Signal

ANSWER_SECONDS = 2.0
LONGEST_ANSWER = 1_000_000


def read(
    signals: Iterable[Signal],
    database: psycopg2.extensions.connection | None,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Each signal's value, or why it has none, with the time; raises psycopg2.Error for a lost connection."""
    found: dict[str, Any] = {}
    for signal in signals:
        try:
            value = number_in(database, signal.sql) if database and signal.sql else ask(signal)
            found[signal.name] = {"at": clock(), "value": value}
        except CannotMeasure as error:
            found[signal.name] = {"at": clock(), "error": str(error)}
    return found


def number_in(database: psycopg2.extensions.connection, sql: str) -> float:
    """The one number that a query gives; raises CannotMeasure where it gives none, or more."""
    try:
        with database.cursor() as cursor:
            cursor.execute(sql)
            rows = cursor.fetchmany(2) if cursor.description else []
    except psycopg2.Error as error:
        if database.closed:
            raise
        raise CannotMeasure(f"Postgres says: {error_text(error)}") from None
    if len(rows) != 1 or len(rows[0]) != 1:
        given = f"{len(rows[0])} columns" if len(rows) == 1 else f"{len(rows) or 'no'} rows"
        raise CannotMeasure(f"its SQL gives {given}; one number is asked for")
    return _number(rows[0][0])


def ask(signal: Signal) -> float:
    """The one number that a Prometheus answers; raises CannotMeasure, without its address, for any other."""
    place = urlsplit(signal.url)
    login = f"{unquote(place.username or '')}:{unquote(place.password or '')}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(login).decode()}"} if place.username else {}
    path = f"{place.path.rstrip('/')}/api/v1/query?{urlencode({'query': signal.query})}"
    secure = place.scheme == "https"
    connection = (HTTPSConnection if secure else HTTPConnection)(
        place.hostname or "", place.port or (443 if secure else 80), timeout=ANSWER_SECONDS
    )
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        told = json.loads(answer.read(LONGEST_ANSWER) or b"null")
    except (OSError, HTTPException) as error:
        raise CannotMeasure(f"its Prometheus does not answer: {error or type(error).__name__}") from None
    except ValueError:
        raise CannotMeasure(f"its Prometheus answers {answer.status} and no JSON") from None
    finally:
        connection.close()
    if answer.status != 200:
        said = told.get("error", "") if isinstance(told, dict) else ""
        raise CannotMeasure(f"its Prometheus answers {answer.status}: {said:.200}".removesuffix(": "))
    return _value_in(told)


def _value_in(told: Any) -> float:
    """The value in an answer of /api/v1/query: a scalar, or a vector of one series."""
    try:
        data = told["data"]
        if data["resultType"] == "scalar":
            return _number(data["result"][1])
        if data["resultType"] != "vector":
            raise CannotMeasure(f"its query gives a {data['resultType']}; one number is asked for")
        series = data["result"]
        if len(series) != 1:
            hint = "one number is asked for, such as sum(…)" if series else "one number is asked for"
            raise CannotMeasure(f"its query gives {len(series) or 'no'} series; {hint}")
        return _number(series[0]["value"][1])
    except (KeyError, TypeError, IndexError):
        raise CannotMeasure("its Prometheus answers something else than a value") from None


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CannotMeasure(f"it gives {value!r:.40}, which is no number")
    return number
