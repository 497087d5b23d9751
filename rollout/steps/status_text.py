"""Show what is true of a target on one screen, and how a release ended."""

import time
from collections.abc import Mapping
from typing import Any

from rollout.target import pem
from rollout.target.target import TODAY
from rollout.text import (
    command_hint,
    miscounted_words,
    one_line,
    paused_words,
    restore_words,
    rollback_words,
    unread_words,
    withdrawal_words,
)

GUARD_SILENT_SECONDS = 15.0
MARKS = {"passed": "✓", "failed": "✗", "held": "!", "unknown": "?"}


def status_text(answer: Mapping[str, Any]) -> str:
    """Return the status of one target as lines for a terminal."""
    live = answer["live"]
    away = (
        "unknown: HAProxy does not answer"
        if answer["balancer_error"]
        else "nothing is live yet: ./p12 release"
    )
    head = f"{live['release']} ({live['slot']})" if live["release"] else away
    lines = [f"{answer['target']:<10} {head}  {answer['address']}"]
    if answer["balancer_error"]:
        lines.append(f"  balancer    {answer['balancer_error']}")
    if answer.get("journal_error"):
        lines.append(f"  journal     {answer['journal_error']}")
    lines += _certificate(answer.get("front"))
    for slot, held in answer["slots"].items():
        if held:
            share = answer["shares"].get(slot, 0) if answer["shares"] is not None else "?"
            lines.append(f"  {slot:<11} {share:>3} %  {held['release']}{_flags(slot, held)}")
    lines += [f"  {_instance(each)}" for each in answer["instances"] if answer["slots"][each["slot"]]]
    rollout = answer["rollout"]
    if rollout:
        lines.append(
            f"  rollout     {rollout['release']} {rollout['ended'] or 'at ' + str(rollout['share']) + ' %'}"
        )
    lines += _turning_back(answer)
    lines += _window_lines(answer)
    lock = answer["lock"]
    lines.append(f"  lock        {lock['owner']} for {_ago(lock['since'])}" if lock else "  lock        free")
    lines.append(f"  guard       {_guard(answer)}")
    backup = answer["backup"]
    if backup:
        held = "there was nothing to lose" if backup.get("nothing_to_lose") else "verified"
        lines.append(f"  backup      {backup['id']}, {held} {_ago(backup['at'])} ago")
    if told := answer.get("purge_after_days"):
        lines.append(f"  purge       {_purge(told)}")
    lines += _care(answer)
    for release, why in answer["quarantined"].items():
        lines.append(f"  quarantine  {release}: {one_line(why)}")
    lines += _verdicts(answer, width=9)
    seen = answer["visitors"]
    if seen:
        lines.append(f"  visitors    {_visitors(seen)}")
    return "\n".join(lines)


def _flags(slot: str, held: Mapping[str, Any]) -> str:
    """A slot's flags; today's service has none."""
    if slot == TODAY:
        return ""
    raised = ", ".join(held["raised"]) or "no flag raised"
    return f"  flags {held['generation']}, {raised}{'' if held['proven'] else ', not proven'}"


def _certificate(front: Mapping[str, Any] | None) -> list[str]:
    """Until when the front door's certificate holds, and what is wrong with the next one."""
    if not front:
        return []
    until = f"holds until {pem.day(front['until'])}" if front["until"] else "unknown"
    said = f"{front['names']} {until}".strip() + (f"; {front['error']}" if front["error"] else "")
    return [f"  certificate {said}"]


def _turning_back(answer: Mapping[str, Any]) -> list[str]:
    """Who holds the release up, a rollback that is not finished, and a release whose harm is watched."""
    lines = []
    if paused := answer.get("paused"):
        lines.append(f"  steered     {paused_words(paused)}")
    if answer.get("rollback"):
        words = rollback_words(answer["rollback"])
        lines.append(f"  rollback    {words}: the guard goes on with it, or ./p12 rollback")
    if troubled := answer.get("troubled"):
        since = f"{troubled['release']}, found {_ago(troubled['at'])} ago: {one_line(troubled['summary'])}"
        lines += [f"  since good  {since}", f"              {troubled_hint(answer)}"]
    if answer.get("withdrawal"):
        lines.append(f"  held        {withdrawal_words(answer['withdrawal'])}")
    return lines


def troubled_hint(answer: Mapping[str, Any]) -> str:
    """What to type where a release that was good is not any more."""
    if not answer["can_turn_back"]:
        return "What served before it is not there any more; another release: ./p12 release --branch …"
    return f"Turn it back: {command_hint('rollback', answer['target'])} --why '…'"


def _window_lines(answer: Mapping[str, Any]) -> list[str]:
    """The open window: for how long, what it can see, what it has seen, and what it still waits for."""
    window, beat = answer["window"], answer["guard"] or {}
    if not window:
        return []
    lines = [f"  window      {window['kind']} at {window['share']} %, open for {_ago(window['opened_at'])}"]
    told = (window.get("claim"), beat.get("exposure"))
    lines += [f"              {said}" for said in told if said]
    if beat.get("before") and beat.get("window") == window["id"]:
        lines.append(f"              before the release: {beat['before']}")
    standing = beat.get("standing") if beat.get("window") == window["id"] else None
    if standing:
        seen = f"{standing['requests']} requests, {standing['errors']} errors"
        lines.append(f"              {seen} in {standing['watched_seconds']:g} watched seconds")
        lines += [f"              {standing['evidence']}"] if standing.get("evidence") else []
        needed = [reason.removeprefix("needs ") for reason in standing["waiting_for"]]
        lines += [f"              to pass, still needs: {reason}" for reason in needed]
    if beat.get("database_error"):
        lines.append(f"              the database cannot be read: {beat['database_error']}")
    return lines


def summary_text(answer: Mapping[str, Any]) -> str:
    """Return how a release ended: verdicts, address, and the way back."""
    seen, rollout = answer["visitors"], answer["rollout"]
    lines = ["", *_verdicts(answer, width=14)]
    lines += [f"  visitors: {_visitors(seen)}"] if seen else []
    lines += [f"  {answer['target']}: {answer['live']['release']} at {answer['address']}"]
    if rollout and not rollout["from_slot"]:
        off = "its flags go off with: ./p12 rollback --flags-only"
        return "\n".join([*lines, f"  there is no way back from a first release; {off}"])
    return "\n".join([*lines, "  back again with: ./p12 rollback"])


def _visitors(seen: Mapping[str, Any]) -> str:
    """How many failed, and of which of the newest releases; for the rest no release answered."""
    newest = list((seen.get("failed_by") or {}).items())[-3:]
    by = ", ".join(f"{count} of {release}" for release, count in newest)
    refused = f"; {seen['read_only']} refused while read-only" if seen.get("read_only") else ""
    return f"{seen['requests']} requests, {seen['failed']} failed{by and f' ({by})'}{refused}"


def _verdicts(answer: Mapping[str, Any], width: int) -> list[str]:
    return [
        f"  {MARKS[row['verdict']]} {row['check']:<{width}} {row['summary']}" for row in answer["verdicts"]
    ]


def _purge(told: Mapping[str, list[int | None]]) -> str:
    """When notes that expired or were removed are deleted for good."""
    said = {slot: " or ".join(f"after {d} d" if d else "never" for d in days) for slot, days in told.items()}
    if set(said.values()) == {"never"}:
        return "never: notes that expired or were removed stay (p12_purge_after_days)"
    by_slot = ", ".join(f"{words} ({slot})" for slot, words in said.items())
    return f"gone notes are deleted for good {by_slot} (p12_purge_after_days)"


def _care(answer: Mapping[str, Any]) -> list[str]:
    """What is between releases: a restore under way, the last rehearsal."""
    restoration, rehearsal = answer.get("restoration"), answer.get("rehearsal")
    lines = []
    if answer.get("orphans"):
        gone = f"supervisord is gone, {answer['orphans']} processes live on and are not started again"
        lines.append(f"  processes   {gone}: ./p12 provision")
    if strangers := (answer["guard"] or {}).get("strangers"):
        what = f"{', '.join(strangers)}: not the service's, and may refuse or miscount what it writes"
        lines.append(f"  triggers    {what}: ./p12 adopt --check")
    if notes := (answer["guard"] or {}).get("miscounted"):
        what = f"of notes {miscounted_words(notes)} changed otherwise than the log of views"
        lines.append(f"  views       {what}: ./p12 adopt --check")
    if unread := (answer["guard"] or {}).get("unread"):
        lines.append(f"  not seen    {unread_words(unread)}")
    if restoration and not restoration["ended"]:
        lines.append(f"  restore     {restore_words(answer['target'], restoration['backup'])}")
    return [*lines, f"  rehearsed   {_ago(rehearsal)} ago"] if rehearsal else lines


def _instance(instance: Mapping[str, Any]) -> str:
    up = {True: "up  ", False: "down", None: "?   "}[instance["up"]]
    if instance["release"]:
        trouble = f"  {instance['error']}" if instance["error"] else ""
        flags = "" if instance["slot"] == TODAY else f" flags {instance['generation']}"
        return f"  {instance['name']:<26} {up} {instance['release']}{flags}{trouble}"
    return f"  {instance['name']:<26} {up} {instance['error']}"


def _guard(answer: Mapping[str, Any]) -> str:
    trouble, window = guard_trouble(answer["guard"]), answer["window"]
    if trouble:
        return f"{trouble}: ./p12 provision"
    return f"watching the window at {window['share']} %" if window else "alive, no window open"


def guard_trouble(beat: Mapping[str, Any] | None) -> str:
    """Say that a guard's last heartbeat is too long ago, empty when it is not."""
    if not beat:
        return "has never run"
    if time.time() - beat["at"] <= GUARD_SILENT_SECONDS:
        return ""
    return f"has been silent for {_ago(beat['at'])} (limit {GUARD_SILENT_SECONDS:g} s)"


def _ago(then: float) -> str:
    seconds = max(0, int(time.time() - then))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
