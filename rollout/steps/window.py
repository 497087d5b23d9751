"""Windows: opening one, sampling the world into it, and reading its samples back."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from checks.window import exposure, signals
from checks.window.baseline import Baseline
from checks.window.before import Before
from checks.window.carried import Carried
from checks.window.detectable import claim
from checks.window.limits import WindowLimits
from checks.window.metrics import scrape
from checks.window.samples import Question, samples_in
from rollout.errors import Failed, Refused
from rollout.files import read_json
from rollout.steps import house_rules
from rollout.steps.rules import (
    is_admitting,
    last_share,
    no_way_back_hint,
    refuse_half_turned_back,
    refuse_quarantined,
    refuse_untried_today,
    turn_back_hint,
)
from rollout.target.instances import Reply, ask, ask_all
from rollout.target.state import State, Window
from rollout.target.steering import Steering
from rollout.target.target import FULL_SHARE, TODAY, Instance, Target, requests_per_minute

SCRAPE_TIMEOUT_SECONDS = 1.0


def open_window(
    steering: Steering, kind: str, token: int, minutes: float | None = None, why: str = ""
) -> Window:
    """Open the window of the share now in force, or return it when it is already open or passed.

    :raises Refused: no rollout is in progress, the share is not what this kind of window is for, or it would
        be shorter than the site allows without a reason.
    """
    with steering.change(token) as owner:
        state = steering.state()
        rollout = state.rollout
        if rollout is None or rollout.ended or not rollout.share:
            raise Refused("No rollout has traffic, so there is nothing to watch.", "./p12 status")
        refuse_half_turned_back(state)
        if failed := state.failed_window:
            raise Failed(
                f"Window {failed.id} of {rollout.release} failed: {failed.summary}.",
                turn_back_hint(
                    state, "The guard goes on trying to turn traffic back; or: ", no_way_back_hint(state)
                ),
            )
        is_last = kind == "monitor"
        windows = state.windows_of(rollout.release)
        for window in (window for window in windows if window.kind == kind):
            # Once the long window has passed, what was held back goes to the release as well.
            if window.verdict == "passed" and is_last:
                return window
            if window.verdict in ("", "passed") and window.share == rollout.share:
                return window
        last = last_share(steering, rollout.from_slot)
        if is_last and rollout.share < last:
            raise Refused(
                f"The monitor window needs {last} % of the traffic on the release; it has {rollout.share} %.",
                f"Go on: ./p12 promote --branch {rollout.release}",
            )
        limits = limits_of(steering.target, kind, minutes)
        refuse_short(steering.target, kind, limits, why)
        control = rollout.from_slot if rollout.share < FULL_SHARE else None
        traffic = requests_per_minute(steering.target)
        if control == TODAY:
            # It changes the schema in its requests: the database's deadlocks are its own, and tell nothing.
            limits = replace(limits, observe=[*limits.observe, "database_deadlocks"])
        if kind == "step":
            limits = _hurried(steering.target, limits, rollout.share)
        data: dict[str, Any] = {
            "id": f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}",
            "kind": kind,
            "release": rollout.release,
            "slot": rollout.slot,
            "control": control,
            "share": rollout.share,
            "limits": asdict(limits),
            "baseline": newest_baseline(windows) if is_last else None,
            # Beside a holdback errors are held against the limit, which takes fewer of them to tell.
            "claim": claim(limits, traffic, rollout.share, control is not None and not is_last),
            "why": why,
        }
        entry = steering.journal.append(owner, "window.opened", **data)
        return Window(opened_at=entry.at, **data)


def limits_of(target: Target, kind: str, minutes: float | None = None) -> WindowLimits:
    """Return what a kind of window is held against, refusing what the guard could not judge by."""
    given = dict(target.settings["windows"][kind])
    judged = {signal.name: msgspec.to_builtins(signal.judged) for signal in signals_of(target)}
    given |= {"signals": judged, "observe": list(given.get("observe") or [])}
    if minutes is not None:
        given |= {"seconds": minutes * 60, "max_seconds": max(minutes * 60, given["max_seconds"])}
    try:
        return WindowLimits(**given)
    except (TypeError, ValueError) as error:
        raise Refused(f"A window cannot be judged by these limits: {error}") from error


def signals_of(target: Target) -> tuple[signals.Signal, ...]:
    """The site's own signals, which are among the secrets: an address may hold a password."""
    try:
        return signals.parse(target.secrets.get("signals") or [])
    except ValueError as error:
        raise Refused(str(error), "Correct it in the inventory, then: ./p12 provision") from None


def exposed_steps(target: Target) -> Sequence[int]:
    """The steps of a rollout that is to come: the site's, or as fast as few enough visitors are exposed."""
    given: Sequence[int] = target.settings["steps"]
    most, traffic = target.settings.get("exposure_visitors"), requests_per_minute(target)
    limits = limits_of(target, "step")
    if not (most and traffic and limits.by_request):
        return given
    return exposure.steps(limits, traffic, given, most)


def _hurried(target: Target, limits: WindowLimits, share: int) -> WindowLimits:
    """A step's limits where steps rise as fast as they may: it ends as soon as there can be a proof."""
    traffic = requests_per_minute(target)
    if not (target.settings.get("exposure_visitors") and traffic and limits.by_request):
        return limits
    return replace(limits, seconds=exposure.Traffic(limits, traffic, share).seconds_of_proof())


def allow(
    steering: Steering, release: str, why: str, minutes: float | None, branches: Sequence[str] = ()
) -> None:
    """Refuse now what would stop the release hours later.

    It is quarantined, its watch is too short, the site is frozen, or takes nothing from these branches.
    """
    state, target = steering.state(), steering.target
    refuse_quarantined(state, release, why)
    if is_admitting(steering):
        refuse_untried_today(target.name, state, why)
        refuse_short(target, "monitor", limits_of(target, "monitor", minutes), why)
        house_rules.refuse_branch(target, release, branches)
        house_rules.refuse_frozen(target, why)


def refuse_short(target: Target, kind: str, limits: WindowLimits, why: str) -> None:
    """Refuse a monitor window that is shorter than the site wants it, unless somebody gives a reason."""
    least = 60 * target.settings["window_least_minutes"]
    if kind == "monitor" and limits.seconds < least and not why:
        raise Refused(
            f"{target.name} is watched for {limits.seconds / 60:g} minutes (limit >= {least / 60:g}).",
            "To watch it for less all the same: the same command with --why '…'",
        )


def newest_baseline(windows: Iterable[Window]) -> Mapping[str, Any] | None:
    """What the old slot came to in the last step of this rollout that passed."""
    passed = [w.baseline for w in windows if w.kind == "step" and w.verdict == "passed" and w.baseline]
    return passed[-1] if passed else None


def find_window(state: State, window_id: str) -> Window:
    for window in state.windows:
        if window.id == window_id:
            return window
    raise Refused(f"No window {window_id!r} is in the journal.", "./p12 status")


def samples_path(target: Target, window_id: str) -> Path:
    return target.steering / "windows" / window_id / "samples.jsonl"


def carried_path(target: Target, window_id: str) -> Path:
    """Where a window that ended keeps what the next one of the same rollout begins with."""
    return samples_path(target, window_id).with_name("carried.json")


def carried_into(target: Target, state: State, window: Window) -> dict[str, Any] | None:
    """What the windows of the same rollout before this one came to; one that was held blames nobody."""
    for before in reversed(state.windows_of(window.release)):
        is_before = before.id != window.id and before.opened_at <= window.opened_at
        if is_before and before.verdict in ("passed", "unknown"):
            found = read_json(carried_path(target, before.id))
            with suppress(ValueError):
                return Carried.read(found).to_dict() if found else None
    return None


def question_of(
    target: Target,
    window: Window,
    earlier: dict[str, Any] | None = None,
    before: tuple[Before | None, str] = (None, ""),
) -> Question:
    """What a window asks, as it is kept with its samples.

    ``earlier`` is what those before it came to, ``before`` how the service was before the release, or None
    and why that is not known.
    """
    return Question(
        target=target.name,
        candidate=window.slot,
        control=window.control,
        limits=WindowLimits(**window.limits),
        baseline=Baseline(**window.baseline) if window.baseline else None,
        id=window.id,
        kind=window.kind,
        release=window.release,
        share=window.share,
        earlier=earlier,
        before=before[0],
        before_unknown=before[1],
    )


def read_samples(path: Path) -> list[dict[str, Any]]:
    """Return a window's samples; a line that a crash cut short says nothing, so it breaks its segment."""
    return list(samples_in(path.read_bytes())) if path.exists() else []


def sample(
    steering: Steering,
    clock: Callable[[], float] = time.time,
    database: Callable[[], Mapping[str, Any] | None] = lambda: None,
    requests: Callable[[], Mapping[str, Any] | None] = lambda: None,
) -> dict[str, Any]:
    """Read the world once: HAProxy's counters per server, what its request log brought, every instance's
    metrics, the database's reading.

    An instance that cannot be scraped is missing from ``instances``; it is never a zero. So is a reading.
    """
    reading = database()
    servers = steering.balancer.servers()
    logged = requests()
    slots = {server.name: server.slot for server in steering.target.servers}
    answers = ask_all(steering.target.instances, _metrics)
    scraped = {
        name: scrape(a.body.decode("utf-8", "replace")) for name, a in answers.items() if a.status == 200
    }
    return {
        "at": clock(),
        "servers": {
            name: {"slot": slots[name], "requests": s.requests, "errors": s.errors, "up": s.up}
            for name, s in servers.items()
        },
        "instances": {name: found for name, found in scraped.items() if found is not None},
        **({"database": dict(reading)} if reading else {}),
        **({"requests": dict(logged)} if logged else {}),
        **({"visitors": told_to_visitors(steering)} if steering.target.settings["visitors_rate"] else {}),
    }


def told_to_visitors(steering: Steering) -> dict[str, dict[str, int]]:
    """How many answers of each slot's release simulated visitors got, and those with a wrong body."""
    seen = read_json(steering.target.directory / "visitors" / "visitors.json")
    if not isinstance(seen, dict):
        return {}
    counted = {"answers": seen.get("releases") or {}, "wrong": seen.get("wrong_by") or {}}
    return {
        slot: {name: by_release.get(held.release, 0) for name, by_release in counted.items()}
        for slot, held in steering.state().slots.items()
    }


def _metrics(instance: Instance) -> Reply:
    return ask(instance, "GET", "/internal/metrics", timeout_seconds=SCRAPE_TIMEOUT_SECONDS)
