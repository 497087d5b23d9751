"""Tell the releases of a target: from its journal, and from the minutes of the request log that are kept."""

import time
from dataclasses import asdict
from typing import Any

from checks.window.minutes import MINUTE
from rollout.guard.minutes import directory_of, read_minutes
from rollout.steps.history import Story, figures, stories
from rollout.target.journal import BrokenJournal, Entry, Journal
from rollout.target.steering import Steering
from rollout.target.target import Target
from rollout.text import duration_text, moment, one_line, stamp, zone

UNKNOWN = "unknown"


def report(steering: Steering, since: str = "") -> dict[str, Any]:
    """Return each release's stages, who and verdicts, how long it waited, who failed, and the DORA figures.

    Of a damaged journal that is told which can be read, and that it is damaged.
    """
    target, now = steering.target, time.time()
    begin = moment(since, now)
    entries, damage = everything(steering)
    told = [story for story in stories(entries) if story.began >= begin]
    visitors = [_visitors(target, story, now) for story in told]
    dora = figures(told, now)
    lines = [f"{target.name}: times are {zone()}", *([damage] if damage else [])]
    for story, seen in zip(told, visitors, strict=True):
        lines += _story_lines(story, seen, now)
    return {
        "target": target.name,
        "zone": zone(),
        "damaged": damage,
        "releases": [
            {**asdict(story), "waited_seconds": round(story.waited(now), 1), "visitors": seen}
            for story, seen in zip(told, visitors, strict=True)
        ],
        "dora": dora,
        "say": "\n".join([*lines, *(_figure_lines(dora) if told else ["  no release is in the journal"])]),
    }


def everything(steering: Steering) -> tuple[list[Entry], str]:
    """Return what can be read of the journal and of those that it replaced, and what is damaged."""
    path = steering.journal.path
    before = sorted(path.parent.glob("journal.damaged-*.jsonl"))
    entries = [entry for part in before for entry in Journal(part).readable()]
    try:
        return entries + steering.journal.entries(), ""
    except BrokenJournal as error:
        return entries + steering.journal.readable(), str(error)


def _visitors(target: Target, story: Story, now: float) -> dict[str, Any] | None:
    """Count the requests while a release went up, and those that failed; None where no minute is known.

    Failed is a 5xx, a 503, or a request that was given up; one client's many at once count as few.
    """
    if story.traffic_at is None:
        return None
    end = (story.ended or now) + MINUTE
    known = list(read_minutes(directory_of(target), story.traffic_at - MINUTE, end))
    if not known:
        return None
    counts = {"requests": 0.0, "failed": 0.0, "failed_on_it": 0.0}
    for minute in known:
        for (slot, route), judged in minute.block.judged.items():
            failed = judged - minute.block.good.get((slot, route), 0.0)
            counts["requests"] += judged
            counts["failed"] += failed
            counts["failed_on_it"] += failed if slot == story.slot else 0
    return {name: round(count) for name, count in counts.items()} | {"minutes": len(known)}


def _story_lines(story: Story, seen: dict[str, Any] | None, now: float) -> list[str]:
    end = story.ended or now
    why = f" ({one_line(story.why)})" if story.why else ""
    took = duration_text(end - story.began)
    lines = [f"{story.release}  {story.outcome}{why}, {stamp(story.began)}, took {took}"]
    for stage in story.stages:
        took = "" if stage.ended == stage.began else duration_text((stage.ended or now) - stage.began)
        is_open = "goes on" if stage.ended is None else stage.verdict
        lines.append(
            f"  {stamp(stage.began)}  {stage.name:<22} {took:>8}  {is_open:<8} {one_line(stage.who)}"
            + (f"  {one_line(stage.summary)[:120]}" if stage.summary else "")
        )
    lines.append(f"  waited {duration_text(story.waited(now))} for people or for the next stage")
    if seen:
        lines.append(
            f"  {seen['failed']} of {seen['requests']} requests failed meanwhile, "
            f"{seen['failed_on_it']} of them on it, in the {seen['minutes']} minutes that are known"
        )
    elif story.traffic_at:
        lines.append("  how many requests failed meanwhile is not known any more")
    return lines


def _figure_lines(dora: dict[str, Any]) -> list[str]:
    weekly, lead, restore = (
        dora[name] for name in ("deployments_per_week", "lead_time_seconds", "restore_seconds")
    )
    often = f"{weekly:g} a week" if weekly is not None else "too short a time for a rate"
    median = UNKNOWN if lead is None else f"{duration_text(lead)}, median of {dora['lead_times']}"
    rate = f"{dora['change_failure_percent']:g} %" if dora["changes"] else UNKNOWN
    restored = "nothing to restore" if restore is None else f"{duration_text(restore)}, median"
    return [
        f"  deployment frequency   {often}: {dora['deployments']} in {dora['days']:.1f} days",
        f"  lead time              {median}, from commit to good",
        f"  change failure rate    {rate}: {dora['failed_changes']} of {dora['changes']} turned back",
        f"  time to restore        {restored}",
    ]
