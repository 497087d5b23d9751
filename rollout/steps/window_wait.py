"""``p12 host TARGET window``: open a window, wait for the guard's verdict, and decide where it has none."""

import time
from typing import Any

from rollout.errors import Refused, RolloutError
from rollout.files import read_json
from rollout.steps.rollback import roll_back
from rollout.steps.status_text import guard_trouble
from rollout.steps.window import find_window, open_window
from rollout.target.state import State, Window
from rollout.target.steering import Steering

# How long a rollback may take until its window has its verdict.
VERDICT_SECONDS = 5.0


def opened(
    steering: Steering, kind: str, token: int, minutes: float | None = None, why: str = ""
) -> dict[str, Any]:
    """Open a window and say what it can see, before it has seen anything."""
    before = {window.id for window in steering.state().windows}
    window = open_window(steering, kind, token, minutes, why)
    answer = {
        "id": window.id,
        "verdict": window.verdict,
        "limits": dict(window.limits),
        "claim": window.claim,
    }
    if window.verdict:
        return {"changed": False, **answer}
    words = f"{window.share} % on {window.release}: window of {_length(window.limits['seconds'])}"
    return {
        "changed": window.id not in before,
        **answer,
        "say": f"{steering.target.name}: {words}: {window.claim}",
    }


def decide(steering: Steering, owner: str, passed: bool, why: str) -> dict[str, Any]:
    """Give the verdict that a window could not, as a person; a failed one turns traffic back.

    :raises Refused: there is no reason, or nothing to decide.
    """
    if not why.strip():
        raise Refused("A decision is journaled with its reason.", "./p12 decide --pass --why '…'")
    with steering.change():
        window = undecided(steering.state())
        verdict = "passed" if passed else "failed"
        summary = f"decided by {owner}: {why} (it was unknown: {window.summary})"
        steering.journal.append(
            owner, "window.decided", id=window.id, verdict=verdict, summary=summary, why=why
        )
    said = (
        f"{steering.target.name}: {window.share} % on {window.release}: {verdict}, decided by {owner}: {why}"
    )
    if passed:
        return {"changed": True, "id": window.id, "say": f"{said}. Go on with: ./p12 release"}
    done = roll_back(steering, owner, f"window {window.id}: decided: {why}")
    return {**done, "changed": True, "id": window.id, "say": f"{said}\n{done['say']}"}


def undecided(state: State) -> Window:
    """Return the newest window of the rollout in progress, if it ended unknown and its share is in force."""
    rollout = state.rollout
    if rollout is None or rollout.ended:
        raise Refused("No rollout is in progress, so there is nothing to decide.", "./p12 status")
    windows = state.windows_of(rollout.release)
    if not windows:
        raise Refused(
            f"{rollout.release} was not watched yet, so there is nothing to decide.", "./p12 status"
        )
    window = windows[-1]
    if not window.verdict:
        raise Refused(
            f"The window at {window.share} % is still being watched; the guard decides first.",
            "See how it stands: ./p12 status; to turn back now: ./p12 rollback",
        )
    if window.verdict != "unknown" or window.share != rollout.share:
        raise Refused(
            f"The window at {window.share} % has {window.verdict}, and {rollout.release} is at "
            f"{rollout.share} %: there is nothing to decide.",
            "./p12 status",
        )
    return window


def _length(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


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
        try:
            steering.lock.renew(token)
        except Refused:
            # The guard turns traffic back first, which breaks the lock, and then journals why.
            if not _is_closed_within(steering, window_id, VERDICT_SECONDS):
                raise
            continue
        _require_guard(steering)
        if time.monotonic() >= deadline:
            left = window.opened_at + window.limits["seconds"] - time.time()
            return {"verdict": "", "seconds_left": round(max(0.0, left), 1)}
        time.sleep(0.2)


def _is_closed_within(steering: Steering, window_id: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not find_window(steering.state(), window_id).verdict:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _words(steering: Steering, window: Window) -> str:
    watched = f"{window.share} % on {window.release}: window {window.verdict}"
    return f"{steering.target.name}: {watched}: {window.summary}"


def _next(steering: Steering, window: Window) -> str:
    if window.verdict == "failed":
        rollout = steering.state().rollout
        if rollout and not rollout.ended:
            return "The guard could not turn traffic back yet. See why: ./p12 status; try: ./p12 rollback"
        return "The guard has turned traffic back. See: ./p12 status"
    return (
        "Traffic stays. Look (./p12 status), then decide: ./p12 decide --pass --why '…' or --fail --why '…'; "
        "or watch again with the same command"
    )


def _require_guard(steering: Steering) -> None:
    trouble = guard_trouble(read_json(steering.target.steering / "guard.json"))
    if trouble:
        raise RolloutError(
            f"{steering.target.name}: the guard {trouble}, so nobody judges.", "Start it: ./p12 provision"
        )
