"""What both tables of verbs are made of, and how the verb that somebody typed is found in one."""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from rollout.errors import Refused
from rollout.text import did_you_mean

CRASH_STATUS, USAGE_STATUS = 1, 2
# Of an answer that says that what it is about does not serve.
OUTAGE_STATUS = 3
HELP = ("-h", "--help")
# Of a URL that does not belong on a command line.
PASSWORD = re.compile(r"://\S*@")
SHOWING = (" list", " show")
# A name, or two as `-i|--inventory`, and argparse's settings for it.
Option = tuple[str, Mapping[str, Any]]
Row = TypeVar("Row")


class Misspelt(Refused):
    """What was typed is none of what is accepted; nothing was done."""

    status = USAGE_STATUS


def option(name: str, **settings: Any) -> Option:
    return name, settings


def flag(name: str, **settings: Any) -> Option:
    return name, {"action": "store_true", **settings}


def choice(name: str, *accepted: str, **settings: Any) -> Option:
    """An option of a few values, which names the one that is meant."""

    def of(value: str) -> str:
        if value not in (*accepted, settings.get("default")):
            raise argparse.ArgumentTypeError(f"{value!r} is none.{did_you_mean(value, accepted)}")
        return value

    return name, {"type": of, "choices": accepted, "metavar": "|".join(accepted), **settings}


class Parser(argparse.ArgumentParser):
    """Of one verb; a mistake ends with what to type."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{message}. Nothing was done.\nnext     {self.prog} --help\n")
        sys.exit(USAGE_STATUS)


def parser_of(prog: str, help_text: str, options: Sequence[Option]) -> Parser:
    """Return the parser of one verb."""
    # argparse takes a lone % for the beginning of a format.
    parser = Parser(prog, description=help_text.replace("%", "%%"))
    for name, settings in options:
        parser.add_argument(*name.split("|"), **settings)
    return parser


def parse(prog: str, help_text: str, options: Sequence[Option], words: Sequence[str]) -> argparse.Namespace:
    """Return the options that were typed; what is not among them is named with what is."""
    parser = parser_of(prog, help_text, options)
    given, stray = parser.parse_known_args(words)
    if stray:
        accepted = [name for name in flags_of(options) if name.startswith("--")]
        said = did_you_mean(stray[0].partition("=")[0], accepted) if stray[0].startswith("-") else ""
        shown = PASSWORD.sub("://…@", stray[0])
        parser.error(f"{prog} does not take {shown}.{said}".removesuffix("."))
    return given


def flags_of(options: Sequence[Option]) -> list[str]:
    return [word for name, _ in options for word in name.split("|") if word.startswith("-")]


def find(
    table: Mapping[str, Row], words: Sequence[str], prog: str, *, first_is_meant: bool = False
) -> tuple[Row, list[str]]:
    """Return the row that the first words name, and the words after it.

    With ``first_is_meant`` a first word alone means the first row that begins with it, if that only shows.

    :raises Misspelt: they name none; says what is meant or accepted.
    """
    for count in (3, 2, 1):
        if row := table.get(" ".join(words[:count])):
            return row, list(words[count:])
    siblings = [name for name in table if words and name.split()[0] == words[0]]
    alone = all(word.startswith("-") for word in words[1:2])
    if siblings and alone and first_is_meant and siblings[0].endswith(SHOWING):
        return table[siblings[0]], list(words[1:])
    if siblings and alone:
        raise Misspelt(f"{words[0]!r} needs a word more. Accepted: {', '.join(siblings)}.", f"{prog} --help")
    typed = " ".join(words if siblings else words[:1])
    raise Misspelt(f"{prog} has no verb {typed!r}.{did_you_mean(typed, siblings or table)}", f"{prog} --help")


def usage(head: str, helps: Mapping[str, str]) -> str:
    """Every verb with its help."""
    width = max(map(len, helps))
    return "\n".join([head, *(f"  {name:<{width}}  {text}" for name, text in helps.items())])
