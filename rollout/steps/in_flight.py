"""What a person may say to a release that is under way: pause, go on, end its window, abort.

From any machine: none of it needs the lock, which the waiting release holds. Each is a change of its own
under the target's mutex, and in the journal with who, from where and why; whoever waits follows the journal.
"""

import time
from dataclasses import asdict
from typing import Any

from checks.base.errors import CannotMeasure
from checks.window import samples, words
from checks.window.judge import Judgement, WindowJudge
from rollout.errors import Refused
from rollout.files import write_json
from rollout.steps import lock
from rollout.steps.house_rules import refuse_frozen
from rollout.steps.rollback import roll_back
from rollout.steps.rules import no_way_back_hint, refuse_half_turned_back, turn_back_hint
from rollout.steps.window import carried_path, read_samples, samples_path
from rollout.steps.window_wait import beyond_tolerable, decide
from rollout.target.state import UNDECIDED, State, Window
from rollout.target.steering import Steering
from rollout.text import one_line, paused_words


def pause(steering: Steering, owner: str, why: str) -> dict[str, Any]:
    """Hold up the release that is under way: its window's time stands still, and no step is begun.

    The guard goes on watching, and turns a bad release back all the same.
    """
    _require_why(why, "pause")
    with steering.change():
        state = steering.state()
        if state.paused:
            return {"changed": False, "say": f"{steering.target.name}: already {paused_words(state.paused)}"}
        refuse_half_turned_back(state)
        release = _under_way(steering, state)
        steering.journal.append(owner, "release.paused", release=release, why=why)
        paused = steering.state().paused or {}
    return {"changed": True, "say": f"{steering.target.name}: {release} is {paused_words(paused)}"}


def resume(steering: Steering, owner: str, why: str) -> dict[str, Any]:
    """Let what is paused go on where it stood.

    :raises Refused: the site is frozen meanwhile, and there is no reason.
    """
    with steering.change():
        paused = steering.state().paused
        if not paused:
            return {"changed": False, "say": f"{steering.target.name}: nothing is paused"}
        frozen = refuse_frozen(steering.target, why)
        said = {"why": why, "seconds": round(time.time() - paused["at"])}
        said |= {"breaks": f"freeze: {frozen}"} if frozen else {}
        steering.journal.append(owner, "release.resumed", **said)
    return {"changed": True, "say": f"{steering.target.name}: goes on, by {owner}, after {said['seconds']} s"}


def promote_now(steering: Steering, owner: str, why: str) -> dict[str, Any]:
    """Let the newest window pass as it stands, as a person's decision; the waiting release goes on.

    What the window came to so far is what the next one begins with. It may be the last one, and shorter than
    the site wants it: the reason is in the journal.

    :raises Refused: there is no reason, or no window that could pass.
    """
    _require_why(why, "promote --now")
    window = _passable(steering.state())
    if window.verdict:
        return decide(steering, owner, True, why)
    # Before the mutex, which a rollback may want: there may be hours of samples.
    judging = _judged_so_far(steering, window)
    with steering.change():
        state = steering.state()
        if _passable(state) != window:
            raise Refused("The window was closed meanwhile.", "See how: ./p12 status")
        if judging and (carried := judging.carried()):
            write_json(carried_path(steering.target, window.id), carried)
        above = beyond_tolerable(steering, window)
        summary = (
            f"ended by {owner}: {one_line(why)} ({_stood(window, judging.judgement if judging else None)})"
        )
        summary += f"; overrides {above}" if above else ""
        found = judging.judgement.baseline if judging else None
        baseline = {"baseline": asdict(found)} if found else {}
        said = {"id": window.id, "verdict": "passed", "summary": summary, "why": why, **baseline}
        steering.journal.append(owner, "window.decided", **said)
    told = f"{steering.target.name}: {window.share} % on {window.release}: {summary}"
    if state.paused:
        told += f"; still {paused_words(state.paused)}"
    elif not steering.lock.holder().holds(time.time()):
        told += f". Nobody waits; go on with: ./p12 release --branch {window.release}"
    return {"changed": True, "id": window.id, "say": told}


def abort(steering: Steering, owner: str, why: str) -> dict[str, Any]:
    """Turn the release back that is under way, and quarantine it; whoever waits for it stops.

    One that has not come so far that a rollout was begun loses the lock, and nothing else.

    :raises Refused: there is no reason, nothing is under way, or nothing to go back to.
    """
    _require_why(why, "abort")
    with steering.change():
        state = steering.state_in_need(owner, [])
    if state.rollback or (state.rollout and not state.rollout.ended):
        return roll_back(steering, owner, f"aborted by {owner}: {one_line(why)}")
    release = _under_way(steering, state)
    done = lock.break_(steering, owner, f"aborted: {why}")
    return {**done, "say": f"{steering.target.name}: {release} is stopped before it changed what serves"}


def _require_why(why: str, verb: str) -> None:
    if not why.strip():
        raise Refused("It is journaled with its reason.", f"./p12 {verb} --why '…'")


def _under_way(steering: Steering, state: State) -> str:
    """Say what is under way, be it only somebody who holds the lock.

    :raises Refused: nothing is.
    """
    if state.rollout and not state.rollout.ended:
        return state.rollout.release
    holder = steering.lock.holder()
    if holder.holds(time.time()):
        return f"what {holder.owner} is about to do"
    ended = f": {state.rollout.release} was {state.rollout.ended}" if state.rollout else ""
    hint = turn_back_hint(state, "See it: ./p12 status; to turn back what serves: ", "./p12 status")
    raise Refused(f"Nothing is under way on {steering.target.name}{ended}.", hint)


def _passable(state: State) -> Window:
    """Return the window that a person may let pass: open or undecided, at the share that is in force."""
    rollout = state.rollout
    if rollout is None or rollout.ended:
        raise Refused("No rollout is in progress, so no window is there to end.", "./p12 status")
    refuse_half_turned_back(state)
    if failed := state.failed_window:
        back = turn_back_hint(state, "Turn it back: ", no_way_back_hint(state))
        raise Refused(f"The window at {failed.share} % has {failed.verdict}: {failed.summary}.", back)
    window = next(reversed(state.windows_of(rollout.release)), None)
    if window is None or window.verdict not in ("", *UNDECIDED) or window.share != rollout.share:
        raise Refused(
            f"No window of {rollout.release} is open at {rollout.share} %.",
            f"Go on: ./p12 release --branch {rollout.release}",
        )
    return window


def _judged_so_far(steering: Steering, window: Window) -> WindowJudge | None:
    """What the guard's kept samples of a window come to; None where it has not looked yet."""
    path = samples_path(steering.target, window.id)
    try:
        question, _ = samples.read(path)
    except CannotMeasure:
        return None
    judging = question.judge()
    judging.add_all(read_samples(path))
    return judging


def _stood(window: Window, judgement: Judgement | None) -> str:
    """How the window stood when it was ended."""
    if judgement is None:
        return f"after 0 of {window.limits['seconds']:g} s, before anybody had looked"
    at = words.standing(judgement)
    needed = f"; it waited for: {at['waiting_for'][0]}" if at["waiting_for"] else ""
    watched = f"after {at['watched_seconds']:g} of {window.limits['seconds']:g} s"
    return f"{watched}, {at['requests']} requests, {at['errors']} errors{needed}"
