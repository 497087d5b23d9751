"""Where the database is: from a private file, the environment or a prompt, never from a command line."""

import os
import re
import stat
import sys
from collections.abc import Callable
from getpass import getpass
from pathlib import Path
from typing import Any

from checks.base.errors import Misused
from checks.base.postgres import SQLALCHEMY_SCHEME, parse

FORM = "postgresql://user:password@host:port/database"
NAME = "DATABASE_URL"


def address(
    file: Path | None,
    ask: Callable[[str], str] = getpass,
    is_terminal: Callable[[], bool] = lambda: sys.stdin.isatty(),
) -> str:
    """Return the database's URL as libpq takes it.

    :raises Misused: none was given, or what was given is none; what it held is not shown.
    """
    if file is not None:
        return _checked(_read(file), str(file))
    if given := os.environ.get(NAME):
        return _checked(given, NAME)
    if not is_terminal():
        raise Misused(
            "No database was named. Write its URL into a file, chmod 600, and give --database-url-file FILE."
        )
    try:
        return _checked(ask(f"The database that runs today, {FORM} (not shown): "), "What was typed")
    except EOFError:
        raise Misused("Nothing was typed, so nothing was looked at.") from None


def place(url: str) -> dict[str, str]:
    """Say where a URL leads, without its password."""
    said: dict[str, Any] = parse(url)
    return {name: str(said.get(name, "")) for name in ("host", "port", "dbname", "user")}


def without_password(text: str, url: str) -> str:
    """Text in which the URL's password does not stand, whoever wrote it."""
    password = str(parse(url).get("password", ""))
    return text.replace(password, "…") if len(password) > 1 else text


def _read(file: Path) -> str:
    # A slash fewer than it was typed with: it is a path by now.
    if re.match(r"postgres\w*(\+\w+)?:", str(file)):
        raise Misused(
            "--database-url-file takes a file, and was given a URL. Everybody on this machine can read a "
            "command line: change that password, write the URL into a file, and chmod 600 it."
        )
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise Misused(f"{file} holds a password and others may read it. Run: chmod 600 {file}")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Misused(f"{file} cannot be read: {error}. It is to hold {FORM} and nothing else.") from None


def _checked(text: str, where: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != 1 or not SQLALCHEMY_SCHEME.match(lines[0]):
        found = f"{len(lines)} lines" if len(lines) != 1 else "something else"
        raise Misused(f"{where} holds {found}, and not a database's URL. Use {FORM}.")
    url = SQLALCHEMY_SCHEME.sub("postgresql://", lines[0])
    if not parse(url, where).get("dbname"):
        raise Misused(f"{where} names no database. Use {FORM}.")
    return url
