"""Words that several rooms say in the same way."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rollout.errors import Refused

# What a terminal obeys instead of showing it, and what ends a line.
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(typed: str) -> str:
    """What somebody typed, to be shown in a line: it can neither begin another one nor steer a terminal."""
    return OBEYED.sub(lambda found: ascii(found[0])[1:-1], typed)


# What to type for a release of which nothing more is known than that it is another one.
RELEASE_ANOTHER = "./p12 release --branch NAME"


def command_hint(verb: str, target: str) -> str:
    """What to type for a verb on a target; the default one is not named."""
    return f"./p12 {verb}" + (f" --target {target}" if target != "production" else "")


# The verbs that work on one target, with their second words.
OF_ONE_TARGET = re.compile(
    r"\./p12 (rollback|evidence|backup|restore|journal|history|releases|flags( list| set| on| off)?"
    r"|lock( show| break)?|maintenance( apply| restart postgres| restart pgbouncer| on| off)?)"
    r"(?![\w-])(?![^;,\n]*--target)"
)


# What takes a release to production; where it is about another target it goes there and no further.
TO_PRODUCTION = re.compile(r"\./p12 (release|promote|monitor)(?![\w-])")


def aimed(hint: str, target: str) -> str:
    """A hint whose commands work on the target, where without more words they would on another."""
    if target != "production":
        hint = TO_PRODUCTION.sub("./p12 deploy", hint)
    return OF_ONE_TARGET.sub(lambda found: command_hint(found[0][6:], target), hint)


def count_text(number: int, noun: str, plural: str = "") -> str:
    """A number of things: 1 instance, 2 instances."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def stamp(at: float) -> str:
    """A time as clocks on this host's wall show it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def zone() -> str:
    """The name of the time zone that this host's times are in."""
    name = time.strftime("%Z")
    return name if name == "UTC" else time.strftime("%Z (UTC%z)")


def duration_text(seconds: float) -> str:
    """A stretch of time as people say it: 12 s, 4.5 min, 3.2 h, 2.0 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def moment(said: str, now: float) -> float:
    """The time that somebody means by ``90min``, ``12h`` or ``7d`` ago, a day or a day's time; 0 by nothing.

    :raises Refused: it is none of these.
    """
    if not said:
        return 0.0
    if found := re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|m|h|d)", said):
        return now - float(found[1]) * {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}[found[2]]
    try:
        return datetime.fromisoformat(said).timestamp()
    except ValueError:
        raise Refused(f"{said!r} is no time.", "Say --since 90min, 12h, 7d or 2026-11-29T06:00") from None


def size_text(size_bytes: float) -> str:
    """A size as people say it: 38 kB, 79.8 MB, 1204 MB."""
    if size_bytes < 1e6:
        return f"{size_bytes / 1e3:.0f} kB"
    return f"{size_bytes / 1e6:.{1 if size_bytes < 1e8 else 0}f} MB"


def restore_words(target: str, backup: str) -> str:
    """Say that a restore is under way, and what to type."""
    restore = command_hint("restore", target)
    again = f"{restore} --backup {backup} --over"
    return f"of {backup} is under way, read-only meanwhile. Go on: {again}; give up: {restore} --give-up"


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """Say which accepted word is close to one that is not accepted, and all of them."""
    from difflib import get_close_matches  # only a mistake waits for it

    names = list(accepted)
    begun = [name for name in names if word and name.startswith(word)]
    close = begun or get_close_matches(word, names, 1)
    return (f" Did you mean {close[0]}?" if close else "") + f" Accepted: {', '.join(names)}."


# What a site may not let anybody read of its database, by its name in a reading.
UNREAD = {
    "pooler_waiting": "who waits in the pooler's line, which has no console for us",
    "transaction_seconds": "what others' sessions do, for who looks is not pg_monitor",
}


def miscounted_words(notes: Sequence[int]) -> str:
    """Name notes, the first few of many."""
    return ", ".join(map(str, notes[:5])) + (f" and {len(notes) - 5} more" if len(notes) > 5 else "")


def unread_words(names: Iterable[str]) -> str:
    """Say what nobody can read of a database, and so is not watched."""
    return "; ".join(UNREAD.get(name, name) for name in names)


def rollback_words(rollback: Mapping[str, Any]) -> str:
    """Say which rollback was begun and is not finished."""
    begun = time.strftime("%H:%M:%S", time.localtime(rollback["at"]))
    way, why = f"{rollback['release']} to {rollback['to']}", one_line(rollback["why"])
    return f"A rollback of {way}, begun by {rollback['owner']} at {begun} ({why}), is not finished"


def paused_words(paused: Mapping[str, Any]) -> str:
    """Say who holds up the release that is under way, since when, why, and how it goes on."""
    since = time.strftime("%H:%M:%S", time.localtime(paused["at"]))
    return f"paused by {paused['owner']} since {since} ({one_line(paused['why'])}); go on: ./p12 resume"


def withdrawal_words(withdrawal: Mapping[str, Any]) -> str:
    """Say which release was turned back for harm in both slots, while it is not known whose it was."""
    at = time.strftime("%H:%M:%S", time.localtime(withdrawal["at"]))
    return (
        f"{withdrawal['release']} was turned back at {at} for harm in both slots; "
        "the guard watches whether it goes away with it"
    )
