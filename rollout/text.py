"""Show what is true of a target on one screen."""

import time
from collections.abc import Mapping
from typing import Any

MARKS = {"passed": "✓", "failed": "✗", "unknown": "?"}


def status_text(answer: Mapping[str, Any]) -> str:
    """Return the status of one target as lines for a terminal."""
    live = answer["live"]
    away = "not known what is live" if answer["balancer_error"] else "nothing is live yet"
    head = f"{live['release']} ({live['slot']})" if live["release"] else away
    lines = [f"{answer['target']:<10} {head}  {answer['address']}"]
    if answer["balancer_error"]:
        lines.append(f"  balancer    {answer['balancer_error']}")
    for slot, held in answer["slots"].items():
        if held:
            share = answer["shares"].get(slot, 0) if answer["shares"] is not None else "?"
            raised = ", ".join(held["raised"]) or "no flag raised"
            proven = "" if held["proven"] else ", not proven"
            lines.append(
                f"  {slot:<11} {share:>3} %  {held['release']}  flags {held['generation']}, {raised}{proven}"
            )
    lines += [
        f"  {_instance(instance)}" for instance in answer["instances"] if _worth_showing(answer, instance)
    ]
    rollout = answer["rollout"]
    if rollout:
        lines.append(
            f"  rollout     {rollout['release']} {rollout['ended'] or 'at ' + str(rollout['share']) + ' %'}"
        )
    lines += _window_lines(answer)
    lock = answer["lock"]
    lines.append(f"  lock        {lock['owner']} for {_ago(lock['since'])}" if lock else "  lock        free")
    lines.append(f"  guard       {_guard(answer['guard'])}")
    backup = answer["backup"]
    if backup:
        lines.append(f"  backup      {backup['id']}, verified {_ago(backup['at'])} ago")
    lines += _care(answer)
    for release, why in answer["quarantined"].items():
        lines.append(f"  quarantine  {release}: {why}")
    lines += [f"  {MARKS[row['verdict']]} {row['check']:<9} {row['summary']}" for row in answer["verdicts"]]
    seen = answer["visitors"]
    if seen:
        lines.append(f"  visitors    {seen['requests']} requests, {seen['failed']} failed")
    return "\n".join(lines)


def _window_lines(answer: Mapping[str, Any]) -> list[str]:
    """The open window: for how long, what it can see, what it has seen, and what it still waits for."""
    window, beat = answer["window"], answer["guard"] or {}
    if not window:
        return []
    lines = [f"  window      {window['kind']} at {window['share']} %, open for {_ago(window['opened_at'])}"]
    if window.get("claim"):
        lines.append(f"              {window['claim']}")
    standing = beat.get("standing") if beat.get("window") == window["id"] else None
    if standing:
        seen = f"{standing['requests']} requests, {standing['errors']} errors"
        lines.append(f"              {seen} in {standing['watched_seconds']:g} watched seconds")
        lines += [f"              waits for {reason}" for reason in standing["waiting_for"]]
    if beat.get("database_error"):
        lines.append(f"              the database cannot be read: {beat['database_error']}")
    return lines


def summary_text(answer: Mapping[str, Any]) -> str:
    """Return how a release ended: verdicts, address, and the way back."""
    verdicts = [
        f"  {MARKS[row['verdict']]} {row['check']:<14} {row['summary']}" for row in answer["verdicts"]
    ]
    seen = answer["visitors"]
    visitors = [f"  visitors: {seen['requests']} requests, {seen['failed']} failed"] if seen else []
    return "\n".join(
        [
            "",
            *verdicts,
            *visitors,
            f"  {answer['target']}: {answer['live']['release']} at {answer['address']}",
            "  back again with: ./p12 rollback",
        ]
    )


def flags_text(answer: Mapping[str, Any]) -> str:
    """Return each slot's flags, raised ones marked, and which instances have them."""
    lines = []
    for slot, held in answer["slots"].items():
        if not held["release"]:
            continue
        lines.append(
            f"{answer['target']} {slot} {held['share']} %  {held['release']}  generation {held['generation']}"
        )
        for name, value in sorted(held["flags"].items()):
            lines.append(f"  {name:<28} {value}{'  raised' if name in held['raised'] else ''}")
        for name, generation in held["instances"].items():
            lines.append(f"  {name:<28} has {generation}")
    return "\n".join(lines) or f"{answer['target']}: no release yet"


def _care(answer: Mapping[str, Any]) -> list[str]:
    """What is between releases: a restore under way, the last rehearsal."""
    restoration, rehearsal = answer.get("restoration"), answer.get("rehearsal")
    lines = []
    if restoration and not restoration["ended"]:
        lines.append(f"  restore     {restore_words(answer['target'], restoration['backup'])}")
    return [*lines, f"  rehearsed   {_ago(rehearsal)} ago"] if rehearsal else lines


def typed(verb: str, target: str) -> str:
    """What to type for a verb on a target; the default one is not named."""
    return f"./p12 {verb}" + (f" --target {target}" if target != "production" else "")


def size_text(size_bytes: float) -> str:
    """A size as people say it: 38 kB, 79.8 MB, 1204 MB."""
    if size_bytes < 1e6:
        return f"{size_bytes / 1e3:.0f} kB"
    return f"{size_bytes / 1e6:.{1 if size_bytes < 1e8 else 0}f} MB"


def restore_words(target: str, backup: str) -> str:
    """Say that a restore is under way, and what to type."""
    restore = typed("restore", target)
    again = f"{restore} --backup {backup} --over"
    return f"of {backup} is under way, read-only meanwhile. Go on: {again}; give up: {restore} --give-up"


def _instance(instance: Mapping[str, Any]) -> str:
    up = {True: "up  ", False: "down", None: "?   "}[instance["up"]]
    if instance["release"]:
        trouble = f"  {instance['error']}" if instance["error"] else ""
        return f"  {instance['name']:<26} {up} {instance['release']} flags {instance['generation']}{trouble}"
    return f"  {instance['name']:<26} {up} {instance['error']}"


def _worth_showing(answer: Mapping[str, Any], instance: Mapping[str, Any]) -> bool:
    return bool(answer["slots"][instance["slot"]])


def _guard(beat: Mapping[str, Any] | None) -> str:
    if not beat:
        return "not running: ./p12 provision"
    silent = time.time() - beat["at"]
    return "watching" if silent < 15 else f"silent for {_ago(beat['at'])}: ./p12 provision"


def _ago(then: float) -> str:
    seconds = max(0, int(time.time() - then))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
