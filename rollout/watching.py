"""``p12 host TARGET window``: open a window and wait for the guard's verdict."""

import time
from typing import Any

from rollout.errors import Refused, RolloutError
from rollout.state import Window
from rollout.steering import Steering
from rollout.storage import read_json
from rollout.windows import find_window, open_window

GUARD_SILENT_SECONDS = 15.0


def opened(steering: Steering, kind: str, token: int, minutes: float | None) -> dict[str, Any]:
    window = open_window(steering, kind, token, minutes)
    return {"changed": True, "id": window.id, "verdict": window.verdict, "limits": dict(window.limits)}


def wait(steering: Steering, window_id: str, token: int, seconds: float) -> dict[str, Any]:
    """Wait up to ``seconds`` for a verdict; an empty one means the window is still open.

    :raises Refused: it failed, is unknown, or the rollout passed to somebody else.
    :raises RolloutError: the guard is not watching.
    """
    deadline = time.monotonic() + seconds
    while True:
        window = find_window(steering.state(), window_id)
        if window.verdict == "passed":
            return {"verdict": "passed", "say": _words(steering, window)}
        if window.verdict:
            raise Refused(_words(steering, window), _next(steering, window))
        steering.lock.renew(token)
        _require_guard(steering)
        if time.monotonic() >= deadline:
            left = window.opened_at + window.limits["seconds"] - time.time()
            return {"verdict": "", "seconds_left": round(max(0.0, left), 1)}
        time.sleep(0.2)


def _words(steering: Steering, window: Window) -> str:
    seconds = window.limits["seconds"]
    return (
        f"{steering.target.name}: {window.share} % on {window.release}: window {window.verdict} "
        f"after {seconds:g} s: {window.summary}"
    )


def _next(steering: Steering, window: Window) -> str:
    if window.verdict == "failed":
        rollout = steering.state().rollout
        if rollout and not rollout.ended:
            return "The guard could not turn traffic back yet. See why: ./p12 status; try: ./p12 rollback"
        return "The guard has turned traffic back. See: ./p12 status"
    return "Traffic stays. Look (./p12 status), then the same command again, or: ./p12 rollback"


def _require_guard(steering: Steering) -> None:
    beat = read_json(steering.target.steering / "guard.json")
    silent = time.time() - beat["at"] if beat else float("inf")
    if silent > GUARD_SILENT_SECONDS:
        raise RolloutError(
            f"{steering.target.name}: the guard has been silent for {silent:.0f} s; nobody judges.",
            "Start it: ./p12 provision",
        )
