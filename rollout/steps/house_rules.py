"""The rules of the house that the inventory sets: when, from which branches and with whose consent.

They are asked before production changes and when a release goes on, and never for a rollback.
"""

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rollout.errors import Refused
from rollout.target import approval
from rollout.target.state import State
from rollout.target.steering import Steering
from rollout.target.target import Target

DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
CORRECT = "Correct it in the inventory, then: ./p12 provision"
# What a freeze is, as its refusal says it; the words are those of RFC 5545.
REPEATS = "FREQ=DAILY, WEEKLY (with BYDAY=SA,SU), MONTHLY or YEARLY"
LONGEST_DAYS = 366


def frozen(target: Target, now: float) -> str:
    """Say in which freeze of the site ``now`` is, and until when; empty where in none.

    :raises Refused: a freeze cannot be understood.
    """
    for freeze in target.settings.get("freezes") or ():
        if until := _frozen_until(freeze, now):
            return f"{freeze['name']} until {until:%Y-%m-%d %H:%M} {freeze.get('zone', 'UTC')}"
    return ""


def refuse_frozen(target: Target, why: str, now: float | None = None) -> str:
    """Refuse what changes production in a freeze without a reason; return the freeze that a reason breaks."""
    found = frozen(target, time.time() if now is None else now)
    if found and not why.strip():
        raise Refused(
            f"{target.name} is frozen: {found} (p12_freezes).",
            "Wait for it; or break it, which is journaled: the same command with --why '…'",
        )
    return found


def refuse_branch(target: Target, release: str, branches: Iterable[str]) -> None:
    """Refuse a commit that is on no branch (or tag) which may go to production."""
    allowed = list(target.settings.get("branches") or ())
    known = list(branches)
    if allowed and not any(fnmatchcase(name, pattern) for name in known for pattern in allowed):
        raise Refused(
            f"{release} is on {', '.join(known[:5]) or 'no branch'}; {target.name} takes what is on "
            f"{', '.join(allowed)} (p12_branches).",
            f"Merge it there, then: ./p12 release --branch {allowed[0]}",
        )


def refuse_unapproved(target: Target, state: State, release: str, owner: str) -> None:
    """Refuse a certificate that too few of those have signed who may let a release go.

    ``owner`` is user@host of who releases; where nobody approves their own, that user's consent is none.
    """
    rule = target.settings.get("approvals") or {}
    needed, keys = int(rule.get("needed", 0)), rule.get("keys", {})
    paper = (state.certificate or {}).get("signature")
    valid = {
        each["by"]
        for each in state.approvals
        if each["certificate"] == paper and keys.get(each["by"]) == each["key"]
    }
    if not rule.get("own", True):
        valid -= {owner.partition("@")[0]}
    if len(valid) < needed:
        lacking = ", ".join(sorted(set(keys) - valid))
        raise Refused(
            f"{release} has the consent of {', '.join(sorted(valid)) or 'nobody'}, and needs {needed} of "
            f"{', '.join(sorted(keys))} (p12_approvals).",
            f"One of {lacking} types: ./p12 approve --branch {release}; then the same command again",
        )


def refuse(steering: Steering, state: State, release: str, owner: str, why: str) -> dict[str, str]:
    """Refuse to change production against a rule; return which one a reason breaks, for the journal."""
    refuse_unapproved(steering.target, state, release, owner)
    broken = refuse_frozen(steering.target, why)
    return {"breaks": f"freeze: {broken}"} if broken else {}


def approve(steering: Steering, owner: str, shown: Mapping[str, Any], signature: str) -> dict[str, Any]:
    """Journal that one of those who may has signed staging's certificate of a release.

    :raises Refused: no key of ``p12_approvals`` has signed these bytes.
    """
    keys = (steering.target.settings.get("approvals") or {}).get("keys", {})
    paper, release = shown["certificate"], shown["release"]
    by = approval.signer(keys, paper, signature)
    said = {"by": by, "key": keys[by], "release": release, "certificate": paper["signature"]}
    with steering.change():
        if any(said.items() <= each.items() for each in steering.state().approvals):
            return {"changed": False, "say": f"{steering.target.name}: {by} has approved {release} already"}
        steering.journal.append(owner, "release.approved", **said, signature=signature)
    return {"changed": True, "say": f"{steering.target.name}: {by} approves {release}"}


def _frozen_until(freeze: Mapping[str, Any], now: float) -> datetime | None:
    """When the occurrence of a freeze ends that ``now`` is in, by the clocks of its zone."""
    try:
        begin, end = (datetime.fromisoformat(str(freeze[name])) for name in ("from", "until"))
        matches = _matcher(str(freeze.get("repeat") or ""), begin.date())
        at = datetime.fromtimestamp(now, _zone(str(freeze.get("zone") or "UTC"))).replace(tzinfo=None)
        length = end - begin
        if begin.tzinfo or not timedelta(0) < length <= timedelta(days=LONGEST_DAYS):
            raise ValueError(f"from {begin} until {end} is no stretch of up to {LONGEST_DAYS} days")
    except (KeyError, ValueError, TypeError, ZoneInfoNotFoundError) as error:
        named = freeze.get("name", freeze) if isinstance(freeze, Mapping) else freeze
        raise Refused(f"The freeze {named} of p12_freezes cannot be understood: {error}.", CORRECT) from error
    for back in range(length.days + 2):
        day = at.date() - timedelta(days=back)
        start = datetime.combine(day, begin.time())
        if day >= begin.date() and matches(day) and start <= at < start + length:
            return start + length
    return None


def _matcher(repeat: str, first: date) -> Any:
    """Whether a freeze begins on a day; without a rule on its first alone."""
    if not repeat:
        return lambda day: day == first
    rule = dict(part.split("=", 1) for part in repeat.removeprefix("RRULE:").upper().split(";"))
    days = rule.get("BYDAY", DAYS[first.weekday()]).split(",")
    by = {
        "DAILY": lambda _: True,
        "WEEKLY": lambda day: DAYS[day.weekday()] in days,
        "MONTHLY": lambda day: day.day == first.day,
        "YEARLY": lambda day: (day.month, day.day) == (first.month, first.day),
    }
    wrong_day = "BYDAY" in rule and (rule["FREQ"] != "WEEKLY" or not set(days) <= set(DAYS))
    if wrong_day or set(rule) - {"FREQ", "BYDAY"} or rule["FREQ"] not in by:
        raise ValueError(f"repeat {repeat} is none of {REPEATS}")
    return by[rule["FREQ"]]


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)
