"""``p12 host TARGET window``: open a window, wait for the guard's verdict, and decide where it has none."""

import socket
import time
from contextlib import suppress
from typing import Any

import psutil

from checks.window import exposure
from checks.window.limits import WindowLimits
from rollout.errors import Failed, Refused, Undecided, Unproven
from rollout.files import read_json
from rollout.steps.rollback import roll_back
from rollout.steps.rules import DECIDE, no_way_back_hint, turn_back_hint
from rollout.steps.status_text import guard_trouble
from rollout.steps.window import carried_path, find_window, open_window
from rollout.target.lock import Holder
from rollout.target.state import TURNED_BACK, UNDECIDED, State, Window
from rollout.target.steering import Steering
from rollout.target.target import requests_per_minute
from rollout.text import one_line, paused_words, withdrawal_words

LOOK_SECONDS = 0.5
# How a window stands is said at most so many times in its length, and not more often than this.
TELL_TIMES, TELL_SECONDS = 10, 30.0
# What is paused is said so soon, and then the same words no more.
STAND_SECONDS = 5.0


def announce_window(
    steering: Steering, kind: str, token: int, minutes: float | None = None, why: str = ""
) -> dict[str, Any]:
    """Open a window and say what it can see, before it has seen anything."""
    before = {window.id for window in steering.state().windows}
    window = open_window(steering, kind, token, minutes if kind == "monitor" else None, why)
    answer = {
        "id": window.id,
        "verdict": window.verdict,
        "limits": dict(window.limits),
        "claim": window.claim,
    }
    if window.verdict:
        return {"changed": False, **answer}
    words = f"{window.share} % on {window.release}: window of {_length(window.limits['seconds'])}"
    traffic = requests_per_minute(steering.target)
    costs = exposure.cost(WindowLimits(**window.limits), traffic, window.share)
    paused = steering.state().paused
    standing = paused_words(paused) if paused else ""
    return {
        "changed": window.id not in before,
        **answer,
        "say": [
            f"{steering.target.name}: {said}"
            for said in (f"{words}: {window.claim}", costs, standing)
            if said
        ],
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
        above = beyond_tolerable(steering, window) if passed else ""
        summary = f"decided by {owner}: {one_line(why)} (it was {window.verdict}: {window.summary})"
        summary += f"; overrides {above}" if above else ""
        steering.journal.append(
            owner, "window.decided", id=window.id, verdict=verdict, summary=summary, why=why
        )
    said = f"{steering.target.name}: {window.share} % on {window.release}: {verdict}"
    said += f", decided by {owner}: {one_line(why)}"
    said += f". It overrides: {above}" if above else ""
    if passed:
        return {
            "changed": True,
            "id": window.id,
            "say": f"{said}. Go on with: ./p12 release --branch {window.release}",
        }
    state = steering.state()
    if not state.can_turn_back:
        said += f". Nothing is there to turn back to. {no_way_back_hint(state)}"
        return {"changed": True, "id": window.id, "say": said}
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
            "See how it stands: ./p12 status" + turn_back_hint(state, "; to turn back now: "),
        )
    if window.verdict not in UNDECIDED or window.share != rollout.share:
        raise Refused(
            f"The window at {window.share} % has {window.verdict}, and {rollout.release} is at "
            f"{rollout.share} %: there is nothing to decide.",
            "./p12 status",
        )
    return window


def _length(seconds: float) -> str:
    return f"{seconds / 60:.3g} min" if seconds >= 60 else f"{seconds:g} s"


def wait(steering: Steering, id: str, token: int) -> dict[str, Any]:
    """Wait for a window's verdict and renew the lock meanwhile; now and then say how it stands.

    The verdict is empty while the window is open: then whoever waits is to ask again.

    :raises Failed: it failed, or the release was turned back meanwhile.
    :raises Undecided: it is unknown, the lock was lost, or whoever took it is gone.
    :raises Unproven: the guard is not watching.
    """
    driver = _driver(steering.lock.holder())
    length = find_window(steering.state(), id).limits["seconds"]
    tell_at = time.monotonic() + max(TELL_SECONDS, length / TELL_TIMES)
    paused = steering.state().paused
    while True:
        lost: Refused | None = None
        try:
            steering.renew(token)
        except Refused as error:
            lost = error
        # Read after the lock: the guard journals its verdict before it breaks the lock to turn traffic back.
        state = steering.state()
        window = find_window(state, id)
        if window.verdict == "passed":
            return {"verdict": "passed", "say": _words(steering, window)}
        if window.verdict:
            with steering.change():  # in which the guard journals a failure and turns traffic back
                state = steering.state()
            if not (state.withdrawal and state.withdrawal["window"] == id):
                above = beyond_tolerable(steering, window)
                words = _words(steering, window) + _whose(state, window)
                is_over = state.failed_window is not None or (state.rollout and state.rollout.ended)
                raise (Failed if is_over else Undecided)(words, _next(state, window, above))
        elif lost:
            raise lost
        _require_guard(steering)
        _require_driver(driver)
        if time.monotonic() >= tell_at or state.paused != paused:
            return {"verdict": "", "say": _standing(steering, state, window)}
        time.sleep(LOOK_SECONDS)


def stand_still(steering: Steering, token: int) -> dict[str, Any]:
    """Hold up whoever is about to begin a step while the release is paused; then it is to ask again."""
    driver, until = _driver(steering.lock.holder()), time.monotonic() + STAND_SECONDS
    said = paused = steering.state().paused
    while paused and time.monotonic() < until:
        steering.renew(token)
        _require_driver(driver)
        time.sleep(LOOK_SECONDS)
        paused = steering.state().paused
    words = paused_words(said) if said else "goes on"
    return {"changed": False, "is_paused": True, "say": f"{steering.target.name}: {words}"}


def _require_driver(driver: psutil.Process | None) -> None:
    if driver and not driver.is_running():
        raise Undecided("Who took the lock is gone, so nobody waits; the guard goes on watching.")


def _driver(holder: Holder) -> psutil.Process | None:
    """Find what ends when whoever drives us does: the lock's session on this machine, else their SSH.

    Nothing tells a program on a host that the connection it was started over is gone.
    """
    host = socket.gethostname()
    with suppress(psutil.Error):
        for parent in psutil.Process().parents():
            if holder.session.startswith(f"{host}:{parent.pid}:") or parent.name().startswith("sshd"):
                return parent
    return None


def _standing(steering: Steering, state: State, window: Window) -> str:
    if state.withdrawal:
        return f"{steering.target.name}: {withdrawal_words(state.withdrawal)}"
    if state.paused:
        return f"{steering.target.name}: {paused_words(state.paused)}"
    beat = read_json(steering.target.steering / "guard.json") or {}
    standing = beat.get("standing") if beat.get("window") == window.id else None
    known = standing or {
        "requests": 0,
        "errors": 0,
        "evidence": "",
        "waiting_for": ["the guard's first look"],
    }
    seen = known["evidence"] or f"{known['requests']} requests, {known['errors']} errors"
    told = "; ".join(
        [
            seen,
            *(
                said.partition(": ")[0] if said.startswith("needs") else said
                for said in known["waiting_for"][:1]
            ),
        ]
    )
    return f"{steering.target.name}: {window.share} % on {window.release}: {told}"


def _words(steering: Steering, window: Window) -> str:
    watched = f"{window.share} % on {window.release}: window {window.verdict}"
    return f"{steering.target.name}: {watched}: {window.summary}"


def _whose(state: State, window: Window) -> str:
    """Say whose a held window's harm was, as far as that was found out."""
    rows = [row for row in state.verdicts if row["check"] == "withdrawal" and window.verdict == "held"]
    return f". {rows[-1]['verdict'].capitalize()}: {rows[-1]['summary']}" if rows else ""


def beyond_tolerable(steering: Steering, window: Window) -> str:
    """What was seen in this window and those before that lies above what the site tolerates; else empty."""
    carried = read_json(carried_path(steering.target, window.id)) or {}
    return "; ".join(map(one_line, carried.get("above") or ()))


def _next(state: State, window: Window, above: str = "") -> str:
    rollout = state.rollout
    if rollout and rollout.ended and window.verdict == "held" and window.release not in state.quarantined:
        return "Traffic is back, nothing is quarantined. See: ./p12 status; once it is over, the same command"
    if rollout and rollout.ended:
        who = "The guard has turned traffic back." if window.verdict in TURNED_BACK else "Traffic is back."
        return f"{who} See: ./p12 status"
    if state.failed_window:
        could_not = "The guard could not turn traffic back yet. See why: ./p12 status; try: "
        return turn_back_hint(state, could_not, no_way_back_hint(state))
    if window.verdict == "failed":
        return no_way_back_hint(state)
    if above:
        return f"Traffic stays. More of the same proves nothing: {above}. Decide: {DECIDE}"
    return f"Traffic stays. Look (./p12 status), then decide: {DECIDE}; or watch again with the same command"


def _require_guard(steering: Steering) -> None:
    trouble = guard_trouble(read_json(steering.target.steering / "guard.json"))
    if trouble:
        raise Unproven(
            f"{steering.target.name}: the guard {trouble}, so nobody judges.", "Start it: ./p12 provision"
        )
