"""Every hint is followed from every state: what it names is there, works, and leads nowhere back.

States are generated: how a target began, how far a release has come, and what else is the matter. In each,
every verb is tried; where it is refused, each command of its hint is run as an engineer would paste it.
"""

import re
import shlex
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rollout.cli.engineer_verbs import VERBS
from rollout.cli.verb_table import find, parse
from rollout.errors import RolloutError, Unproven
from rollout.steps import flags, in_flight, maintenance, restore, rollback, rollout, status, window_wait
from rollout.steps import lock as lock_steps
from rollout.steps.window import allow
from rollout.target.steering import Steering
from rollout.text import aimed
from tests.integration.rollout.steered import NEW, NEXT, OLD, Steered, digest_of

# What only shows, or mends a host; a hint may end with it.
# Whoever waits, or mends these first, can go on.
TRANSIENT = ("locked", "read-only", "restoring")
FOR_PRODUCTION = ("release", "promote", "monitor")
HARMLESS = {"status", "flags list", "evidence", "provision", "lock show"}
SHARES = (25, 100)


# How far a release has come.


def claimed(at: Steered, *_: Any) -> None:
    at.take()
    at.claim(NEW)


def proven(at: Steered, *_: Any) -> None:
    claimed(at)
    slot = rollout.slot_for(at.steering.state(), NEW)
    at.install(slot, NEW)
    at.prove(NEW)


def begun(at: Steered, *_: Any) -> None:
    at.offer(NEW)


def shifted(at: Steered, share: int) -> None:
    at.offer(NEW)
    at.shift_unwatched(NEW, share)


def watched(at: Steered, share: int) -> None:
    shifted(at, share)
    at.open("monitor" if share == 100 else "step")


def judged(verdict: str) -> Callable[[Steered, int], None]:
    def close(at: Steered, share: int) -> None:
        watched(at, share)
        close_window(at, verdict)

    return close


def close_window(at: Steered, verdict: str) -> None:
    window = at.steering.state().open_window
    assert window is not None
    at.steering.journal.append("guard", "window.closed", id=window.id, verdict=verdict, summary="as it was")


def finished(at: Steered, *_: Any) -> None:
    judged("passed")(at, 100)
    rollout.finish(at.steering, NEW, at.token)


def replaced(at: Steered, *_: Any) -> None:
    """Good, and the slot before it is another release's already."""
    finished(at)
    at.claim(NEXT)


def turned_back(at: Steered, *_: Any) -> None:
    shifted(at, 25)
    with suppress(RolloutError):
        at.roll_back()


def half_turned_back(at: Steered, *_: Any) -> None:
    shifted(at, 25)
    route = rollback.rollback_route(at.steering.state())
    rollback._journal_intent(at.steering, route, "bob@tower", "errors", held="")


# What else is the matter.


def fine(at: Steered) -> None:
    at.steering.lock.drop(at.token)


def locked(at: Steered) -> None:
    fine(at)
    at.take("cyd@desk", "desk:2:2.0")


def lost(at: Steered) -> None:
    """The lock was broken, and nobody has taken it since."""
    at.steering.lock.fence("lock break: to cyd@desk")


def read_only(at: Steered) -> None:
    fine(at)
    for slot in at.steering.state().slots:
        wanted = at.steering.want_flags(
            slot, {**at.steering.flags.of(slot).flags, "P12_READ_ONLY": "1"}, "cyd@desk"
        )
        at.steering.push_flags(wanted, "cyd@desk")


def restoring(at: Steered) -> None:
    fine(at)
    at.take()
    restore.begin(at.steering, "b1", at.token)
    fine(at)


ORIGINS = {"first": False, "later": True}
MOVES: Mapping[str, tuple[Callable[..., None], tuple[int, ...]]] = {
    "nothing": (lambda *_: None, (0,)),
    "claimed": (claimed, (0,)),
    "proven": (proven, (0,)),
    "begun": (begun, (0,)),
    "shifted": (shifted, SHARES),
    "watched": (watched, SHARES),
    "failed": (judged("failed"), SHARES),
    "unknown": (judged("unknown"), SHARES),
    "finished": (finished, (0,)),
    "replaced": (replaced, (0,)),
    "turned back": (turned_back, (0,)),
    "half turned back": (half_turned_back, (0,)),
}
TROUBLES = {"fine": fine, "locked": locked, "lost": lost, "read-only": read_only, "restoring": restoring}


def names() -> Iterator[tuple[str, str, int, str]]:
    for origin, has_old in ORIGINS.items():
        for move, (_, shares) in MOVES.items():
            for share in shares:
                partial = share == 25 or "turned back" in move
                # A restore is not begun there.
                going_up = (
                    share == 25 or move in ("watched", "half turned back") or (has_old and move == "begun")
                )
                for trouble in TROUBLES:
                    if (has_old or not partial) and not (going_up and trouble == "restoring"):
                        yield origin, move, share, trouble


@dataclass(frozen=True)
class Kept:
    """Everything of a state, to be in it again."""

    at: Steered
    trouble: str
    copy: Path
    processes: Mapping[str, tuple[str, bytes | None]]

    @classmethod
    def of(cls, at: Steered, origin: str, move: str, share: int, trouble: str) -> "Kept":
        at.reset()
        if ORIGINS[origin]:
            at.serve(OLD)
        MOVES[move][0](at, share)
        TROUBLES[trouble](at)
        return cls.now(at, trouble)

    @classmethod
    def now(cls, at: Steered, trouble: str) -> "Kept":
        copy = at.home / f"kept-{uuid.uuid4().hex}"
        shutil.copytree(at.target.steering, copy)
        processes = {name: (each.commit, each.body) for name, each in at.instances.items()}
        return cls(at, trouble, copy, processes)

    def again(self) -> Steered:
        shutil.rmtree(self.at.target.steering)
        shutil.copytree(self.copy, self.at.target.steering)
        self.at.steering = Steering.of(self.at.target)
        for name, (commit, body) in self.processes.items():
            self.at.instances[name].commit, self.at.instances[name].body = commit, body
        shares = self.at.steering.state().shares or {"blue": 0, "green": 0}
        if not self.at.steering.balancer.holds(shares):
            self.at.steering.balancer.shift(shares)
        return self.at


class Engineer:
    """Types commands of ``p12``, each of which asks the host's functions what its playbook asks."""

    def __init__(self, at: Steered) -> None:
        self.at = at

    def type(self, *words: str) -> str:
        """Run a command; return what it waits for, if it waits for a window's verdict."""
        row, rest = find(VERBS, words, "./p12", first_is_meant=True)
        options = vars(parse(row.name, row.help, row.options, rest))
        assert options.get("target", "production") == "production"
        name = row.name.replace(" ", "_")
        return str(getattr(self, f"do_{name}", self.do_harmless)(**options) or "")

    def do_harmless(self, **_: Any) -> None:
        status.report(self.at.steering)
        flags.listed(self.at.steering)

    def do_release(self, branch: str = "", why: str = "", **_: Any) -> str:
        at, release = self.at, {"": NEW, "NAME": NEXT}.get(branch, branch)
        allow(at.steering, release, why, None)
        with self.locked():
            plan = rollout.plan(at.steering, release, digest_of(release))
            if plan["finished"]:
                return ""
            at.admit(release)
            if not plan["installed"]:
                rollout.claim(at.steering, release, digest_of(release), at.token, why)
                at.install(plan["slot"], release)
            if not plan["proven"]:
                at.prove(release)
            rollout.begin(at.steering, release, at.token, why)
            for share in plan["steps"]:
                at.shift(release, share)
                if not window_wait.announce_window(at.steering, "step", at.token)["verdict"]:
                    return "window"
            at.shift(release, 100)
            return self.watched(release, why)

    do_deploy = do_release

    def do_promote(self, now: bool = False, why: str = "", **options: Any) -> str:
        if not now:
            return self.do_release(why=why, **options)
        in_flight.promote_now(self.at.steering, "ann@desk", why)
        return ""

    def do_pause(self, why: str, **_: Any) -> None:
        in_flight.pause(self.at.steering, "ann@desk", why)

    def do_resume(self, why: str, **_: Any) -> None:
        in_flight.resume(self.at.steering, "ann@desk", why)

    def do_abort(self, why: str, **_: Any) -> None:
        in_flight.abort(self.at.steering, "ann@desk", why)

    def do_monitor(self, branch: str = "", why: str = "", **_: Any) -> str:
        with self.locked():
            return self.watched(branch or NEW, why)

    def watched(self, release: str, why: str) -> str:
        if not window_wait.announce_window(self.at.steering, "monitor", self.at.token, why=why)["verdict"]:
            return "window"
        rollout.finish(self.at.steering, release, self.at.token)
        return ""

    def locked(self) -> ExitStack:
        stack = ExitStack()
        taken = lock_steps.take(self.at.steering, "ann@desk", "desk:9:9.0", "")
        self.at.token = taken["token"]
        stack.callback(self.at.steering.lock.drop, taken["token"])
        return stack

    def do_rollback(self, flags_only: bool, why: str, **_: Any) -> None:
        rollback.by_hand(self.at.steering, "ann@desk", why, flags_only)

    def do_decide(self, verdict: list[str], why: str, **_: Any) -> None:
        window_wait.decide(self.at.steering, "ann@desk", verdict == ["pass"], why)

    def do_flags_off(self, names: list[str], slot: str, **_: Any) -> None:
        flags.off(self.at.steering, "ann@desk", names, slot, None)

    def do_flags_set(self, names: list[str], slot: str, **_: Any) -> None:
        with self.locked():
            flags.set_flags(self.at.steering, "ann@desk", names, slot, self.at.token)

    def do_lock_break(self, why: str, **_: Any) -> None:
        lock_steps.break_(self.at.steering, "ann@desk", why)

    def do_maintenance_on(self, **_: Any) -> None:
        with self.locked():
            maintenance.begin(self.at.steering, ["on"], self.at.token, False)

    def do_maintenance_off(self, **_: Any) -> None:
        with self.locked():
            maintenance.begin(self.at.steering, ["off"], self.at.token, False)

    def do_restore(self, backup: str, over: bool, give_up: bool, **_: Any) -> None:
        if over:
            with self.locked():
                restore.begin(self.at.steering, backup, self.at.token)
                restore.end(self.at.steering, self.at.token, "paste12_before")
        if give_up:
            restore.show_restore(self.at.steering)
            with self.locked():
                restore.end(self.at.steering, self.at.token)


TYPED = [
    f"release --branch {NEW}", f"release --branch {NEW} --why again", f"release --branch {NEXT}",
    f"monitor --branch {NEW}", "rollback", "rollback --flags-only", "decide --pass --why sure",
    "decide --fail --why unsure", "flags", "flags set P12_ENABLE_VIEW_QUEUE=1", "flags off",
    "lock break --why gone", "maintenance on", "maintenance off", "restore --backup b1 --over",
    "restore --backup b2 --over", "restore --give-up", "status", "pause --why lunch", "resume",
    "promote --now --why urgent", "abort --why wrong",
]  # fmt: skip


def commands(hint: str) -> list[list[str]]:
    """Every command that a hint names, as words after ``./p12``."""
    return [_command(part) for part in hint.split("./p12 ")[1:]]


def _command(text: str) -> list[str]:
    typed = shlex.split(re.split(r"[;)]|\. |, |\.$", text)[0].replace("'…'", "reason"))
    row, rest = find(VERBS, typed, "./p12", first_is_meant=True)
    words = row.name.split()
    takes = {name: settings for name, settings in row.options}
    while rest and (rest[0].startswith("-") or "=" in rest[0]):
        words.append(rest.pop(0))
        if "action" not in takes.get(words[-1], {"action": ""}):
            words.append(rest.pop(0))
    return words


def follow(kept: Kept, words: list[str], before: tuple[str, ...] = ()) -> list[str]:
    """Return what is wrong with a command and with everything its hints lead to, from a state."""
    *_, typed = path = (*before, " ".join(words))
    if typed in before:
        return [f"{' → '.join(path)}: a circle"]
    entries = len(kept.again().steering.journal.entries())
    try:
        Engineer(kept.at).type(*words)
        return []
    except RolloutError as error:
        refused = error
    if len(kept.at.steering.journal.entries()) > entries:
        kept, path = Kept.now(kept.at, kept.trouble), (typed,)
    found = [] if refused.hint else [f"{' → '.join(path)}: no hint"]
    if before and (kept.trouble not in TRANSIENT or isinstance(refused, Unproven)):
        found.append(f"{' → '.join(path)}: {refused}")
    for target in ("production", "staging"):
        for named in commands(aimed(refused.hint, target)):
            row, rest = find(VERBS, named, "./p12", first_is_meant=True)
            given = vars(parse(row.name, row.help, row.options, rest))
            if given.get("target", target) != target or (row.name in FOR_PRODUCTION and target == "staging"):
                found.append(f"{typed} on {target}: hints at {named}")
    for named in commands(refused.hint):
        found += follow(kept, named, path)
    return found


def open_the_way(at: Steered, pick: int) -> list[str]:
    """Release ``NEXT``, obeying one of the hints whenever something is refused; return what was typed.

    No window of another release ever comes to a verdict by itself.
    """
    engineer, goal = Engineer(at), ["release", "--branch", NEXT]
    words, typed = goal, [" ".join(goal)]
    while len(typed) < 30:
        try:
            engineer.type(*words)
            state = at.steering.state()
            if state.rollout and state.rollout.release == NEXT:
                return typed
            if state.open_window:
                close_window(at, "unknown")
            words = goal
        except RolloutError as error:
            named = [each for each in commands(error.hint) if find(VERBS, each, "")[0].name not in HARMLESS]
            if not named:
                raise
            words = named[pick]
        typed.append(" ".join(words))
    raise AssertionError(f"no end to it: {typed}")


# Every trouble in every state takes a minute and more.
PARAMS = [
    pytest.param(state, marks=() if state[-1] in ("fine", "locked") else pytest.mark.slow)
    for state in names()
]


@pytest.fixture(params=PARAMS, ids=lambda state: "-".join(map(str, state)))
def kept(request: pytest.FixtureRequest, target: Steered, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr("rollout.steps.rollback.PROOF_SECONDS", 0.5)
    return Kept.of(target, *request.param)


def test_every_hint_from_every_state_names_what_works_there(kept: Kept) -> None:
    wrong = [said for typed in TYPED for said in follow(kept, shlex.split(typed))]

    assert wrong == []


def test_from_every_state_hints_lead_to_another_release(kept: Kept) -> None:
    for pick in (0, -1):
        open_the_way(kept.again(), pick)
