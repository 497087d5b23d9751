"""Windows: opening one, sampling the world into it, and reading its samples back."""

import json
import math
import re
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from checks.limits import WindowLimits
from rollout.errors import Refused
from rollout.instances import Answer, ask, ask_all
from rollout.state import State, Window
from rollout.steering import Steering
from rollout.target import Instance, Target

SCRAPE_TIMEOUT_SECONDS = 1.0
METRIC = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>[-+.\w]+)", re.MULTILINE)


def open_window(steering: Steering, kind: str, token: int, minutes: float | None = None) -> Window:
    """Open the window of the share now in force, or return it when it is already open or passed.

    :raises Refused: no rollout is in progress, or the share is not what this kind of window is for.
    """
    with steering.change(token) as owner:
        state = steering.state()
        rollout = state.rollout
        if rollout is None or rollout.ended or not rollout.share:
            raise Refused("No rollout has traffic, so there is nothing to watch.", "./p12 status")
        if kind == "monitor" and rollout.share != 100:
            raise Refused(f"The monitor window needs all traffic on the release; it has {rollout.share} %.")
        for window in state.windows_of(rollout.release):
            same = window.kind == kind and window.share == rollout.share
            if same and window.verdict in ("", "passed"):
                return window
        limits = dict(steering.target.settings["windows"][kind])
        if minutes is not None:
            limits |= {"seconds": minutes * 60, "max_seconds": max(minutes * 60, limits["max_seconds"])}
        _require_limits(limits)
        data: dict[str, Any] = {
            "id": f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}",
            "kind": kind,
            "release": rollout.release,
            "slot": rollout.slot,
            "control": rollout.from_slot if rollout.share < 100 else None,
            "share": rollout.share,
            "limits": limits,
        }
        entry = steering.journal.append(owner, "window.opened", **data)
        return Window(opened_at=entry.at, **data)


def _require_limits(limits: Mapping[str, Any]) -> None:
    """Refuse what the guard could not judge by, before anything is journaled."""
    try:
        WindowLimits(**limits)
    except (TypeError, ValueError) as error:
        raise Refused(f"A window cannot be judged by these limits: {error}") from error


def find_window(state: State, window_id: str) -> Window:
    for window in state.windows:
        if window.id == window_id:
            return window
    raise Refused(f"No window {window_id!r} is in the journal.", "./p12 status")


def samples_path(target: Target, window_id: str) -> Path:
    return target.steering / "windows" / window_id / "samples.jsonl"


def read_samples(path: Path) -> list[dict[str, Any]]:
    """Return a window's samples; a line that a crash cut short says nothing, so it breaks its segment."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_kept(line) for line in lines]


def _kept(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def sample(steering: Steering, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """Read the world once: HAProxy's counters per server and every instance's own metrics.

    An instance that cannot be scraped is missing from ``instances``; it is never a zero.
    """
    servers = steering.balancer.servers()
    slots = {instance.name: instance.slot for instance in steering.target.instances}
    answers = ask_all(steering.target.instances, _metrics)
    return {
        "at": clock(),
        "servers": {
            name: {"slot": slots[name], "requests": s.requests, "errors": s.errors, "up": s.up}
            for name, s in servers.items()
        },
        "instances": {name: scraped for name, a in answers.items() if (scraped := _scraped(a)) is not None},
    }


def _metrics(instance: Instance) -> Answer:
    return ask(instance, "GET", "/internal/metrics", timeout_seconds=SCRAPE_TIMEOUT_SECONDS)


def _scraped(answer: Answer) -> Mapping[str, float] | None:
    """Return ``started``, ``deadlocks`` and ``busy`` (503s), or ``None`` without a full answer.

    A service shows its deadlocks from the start, be they 0; where there is no such line, nothing is known of
    them. A 503 has a line only once there was one.
    """
    if answer.status != 200:
        return None
    found: dict[str, float] = {"busy": 0}
    for match in METRIC.finditer(answer.body.decode("utf-8", "replace")):
        name, labels, value = match["name"], match["labels"] or "", _number(match["value"])
        if name == "p12_process_start_time_seconds":
            found["started"] = value
        elif name == "p12_db_errors_total" and 'sqlstate="40P01"' in labels:
            found["deadlocks"] = found.get("deadlocks", 0) + value
        elif name == "p12_http_requests_total" and 'status="503"' in labels:
            found["busy"] += value
    return found if {"started", "deadlocks"} <= found.keys() else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
