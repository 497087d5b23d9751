"""One simulated release: an old one serves, a new one is released, and the seed's plan befalls it.

After it, the world heals and everybody types the same command again: it must end as if nothing had happened,
or as the rollback that somebody asked for.
"""

import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from rollout.errors import Refused, RolloutError
from rollout.files import write_json
from rollout.guard.loop import Guard
from rollout.steps import lock, reports, rollout
from rollout.steps.prove import prove
from rollout.steps.rollback import roll_back
from rollout.steps.window import open_window
from rollout.target import certificate
from rollout.target.fold import fold
from rollout.target.journal import Journal, Place
from rollout.target.state import State
from rollout.target.steering import Steering
from rollout.target.target import Target
from tests.simulation.servers import SECRET, SimulatedInstance
from tests.simulation.world import EPOCH, Crash, Violated, World, weights_for

OLD, NEW, KEY = "a" * 12, "b" * 12, "5a" * 32
STEPS, LAST = (5, 50), 98
LIMITS = {
    **{"seconds": 30, "max_seconds": 120, "min_requests": 5, "max_error_ratio": 0.01},
    **{"warmup_seconds": 0, "baseline_requests": 5, "watch_database": False, "by_request": False},
}
FAULTS = (
    *(
        "kill",
        "power",
        "power",
        "power",
        "full",
        "slow",
        "restarted",
        "lost",
        "unanswered",
        "doubled",
        "away0",
        "away3",
    ),
    *("rollback", "rollback", "guard", "takeover", "break"),
)
POINTS = 240
# The files of a target that a first release left, by their names.
BEGUN: dict[str, bytes] = {}


def plan_of(seed: int) -> dict[int, str]:
    """Return what befalls a seed's release, and when."""
    chance = random.Random(seed)
    return {chance.randint(1, POINTS): chance.choice(FAULTS) for _ in range(chance.randint(1, 4))}


def document_of(release: str) -> dict[str, str]:
    return {"release": release, "commit": release + release[0] * 28, "sha256": release[0] * 64}


@cache
def paper() -> Mapping[str, Any]:
    verdicts = [{"check": "burst", "verdict": "passed", "summary": ""}]
    times = {"issued_at": EPOCH, "expires_at": EPOCH + 86400}
    fields = {**document_of(NEW), "flags": {"P12_NEW": "1"}, "schema": "1", "verdicts": verdicts, **times}
    return certificate.issue(KEY, **fields)


class Release:
    """The target of one world, who acts on it, and what must be true of it after each point."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.token: int | None = None
        # The tokens of those who were told nothing yet, and may change nothing any more.
        self.lost: set[int | None] = set()
        self.place, self.seen = Place(), State()
        instances = [
            {"name": s.name, "slot": s.slot, "address": "127.0.0.1", "port": s.port}
            for s in world.servers.values()
        ]
        self.settings: dict[str, Any] = {
            "instances": instances,
            "haproxy_socket": str(world.home / "socket"),
            "haproxy_state": str(world.home / "state"),
            "haproxy_backend": "paste12",
            "admission": False,
            "steps": list(STEPS),
            "holdback_percent": 100 - LAST,
            "windows": {"step": LIMITS, "monitor": LIMITS},
            "window_least_minutes": 0,
            "visitors_rate": 0,
            "guard": {"interval_seconds": 1, "heal_seconds": 60, "database_seconds": 1},
            "lock_seconds": 900,
            "backup": {"longest_hours": 12},
            "backup_valid_minutes": 600,
            "certificate_valid_minutes": 600,
            "keep_releases": 3,
            "baseline_days": 14,
        }
        self.target = Target("production", world.home, self.settings)
        self.steering = self.opened()
        self.others: dict[str, Callable[[], None]] = {
            "rollback": lambda: self.other("rollback", lambda: self.roll_back("eve")),
            "guard": lambda: self.other("guard", self.heal),
            "takeover": lambda: self.other("takeover", self.take_over),
            "break": lambda: self.other("break", self.break_lock),
        }

    def opened(self) -> Steering:
        """Open the target as a new process does."""
        steering = Steering.of(self.target)
        steering.lock.clock = steering.journal.clock = lambda: self.world.now
        return steering

    def begin(self) -> None:
        """Have the old release serve everything, as it does after it was released once."""
        if not BEGUN:
            write_json(self.world.home / "secrets.json", {"flags": SECRET})
            (self.target.steering / certificate.PRIVATE).write_text(KEY)
            self.release(OLD, "ann", "desk:1:1")
            files = (path for path in self.world.home.rglob("*") if path.is_file())
            BEGUN.update({str(path.relative_to(self.world.home)): path.read_bytes() for path in files})
        for name, content in BEGUN.items():
            (self.world.home / name).write_bytes(content)
        self.world.start_haproxy()
        generation = self.steering.flags.of("blue").generation
        for server in self.world.servers.values():
            if server.slot == "blue":
                server.release, server.generation = OLD, generation
        self.settings["admission"] = True
        self.world.settle()
        self.world.on_weight, self.world.others = self.check_weight, self.others
        self.world.points, self.world.now = 0, EPOCH + 60
        self.world.kept = [dict(self.world.weights)]

    def release(self, release: str, owner: str, session: str, dead: str = "") -> None:
        """Do what the playbook does: every step anew, each of which asks what is already true."""
        s = self.opened()
        before, what = self.token, document_of(release)
        token = self.token = s.lock.take(owner, session, dead).token
        try:
            plan = rollout.plan(s, release, what["sha256"])
            if plan["finished"]:
                return
            if self.settings["admission"]:
                rollout.admit(s, {**what, "certificate": paper()}, token)
                serving = rollout.serving(s, what, reuse=True, token=token)
                if serving["backup_due"]:
                    proof = {**serving["releases"], "verdict": "passed", "summary": "tried"}
                    backup = {"id": f"b{self.world.points}", "verdict": "passed", "summary": "compared"}
                    reports.record(s, "backup", {**backup, "way_back": proof}, token)
            if not plan["installed"]:
                slot = rollout.claim(s, release, what["sha256"], token, "")["slot"]
                for server in self.world.servers.values():
                    if server.slot == slot:
                        self.world.point(f"install {server.name}")
                        server.release = release
            if not plan["proven"]:
                prove(s, **what, token=token, flags={})
                rollout.begin(s, release, token, "")
            for share in plan["steps"]:
                self.watch(s, release, share, "step", token)
            self.watch(s, release, None, "monitor", token)
            rollout.finish(s, release, token)
        finally:
            if not self.world.is_dead:
                with suppress(RolloutError, OSError):
                    s.lock.drop(token)
            self.token = before

    def watch(self, s: Steering, release: str, share: int | None, kind: str, token: int) -> None:
        """Give a share, and have the guard find it good, if the site watches."""
        rollout.shift(s, release, share, token)
        if self.settings["admission"]:
            window = open_window(s, kind, token)
            closing = {"id": window.id, "verdict": "passed", "summary": "as before", "baseline": None}
            Guard(s, clock=lambda: self.world.now).journal_verdict(closing)

    def roll_back(self, owner: str) -> None:
        before, self.token = self.token, None
        try:
            roll_back(self.opened(), owner, "errors")
        finally:
            self.token = before

    def break_lock(self) -> None:
        """Take the lock away from whoever has it; a change that was under way ends first."""
        lost, s = self.token, self.opened()
        lock.break_(s, "bob", "ann is gone")
        with s.change():
            self.lost.add(lost)

    def take_over(self) -> None:
        """Break the lock, and go on with the release from another machine."""
        self.break_lock()
        self.release(NEW, "bob", "other:2:2")

    def heal(self) -> None:
        """Let the guard finish a rollback that was begun, and mend what drifted."""
        before, self.token = self.token, None
        try:
            guard = Guard(self.opened(), clock=lambda: self.world.now)
            if rollback := guard.state().rollback:
                guard.turn_back(rollback["why"])
            guard.heal_traffic()
            guard.heal_flags()
        finally:
            self.token = before

    def other(self, name: str, act: Callable[[], None]) -> None:
        """Let somebody else act in between; what is refused is typed again once the world has healed."""
        try:
            act()
            self.world.say(f"{name} done")
        except (RolloutError, OSError) as error:
            self.world.say(f"{name}: {error}")
            waits = name == "rollback" and "is not proven after" in str(error)
            self.require(not waits, f"{name} waits: {error}")

    # What must hold.

    def state(self) -> State:
        """Fold the journal, its chain verified, on from what was seen of it."""
        found = Journal(self.target.steering / "journal.jsonl").read(self.place)
        self.seen = fold([entry for _, entry in found], self.seen)
        if found:
            entry = found[-1][1]
            size = (self.target.steering / "journal.jsonl").read_bytes().rfind(b"\n") + 1
            self.place = Place(size, entry.seq, entry.hash)
        return self.seen

    def require(self, holds: bool, words: str) -> None:
        if not holds:
            self.world.say(f"VIOLATED: {words}")
            raise Violated(words)

    def check_weight(self, name: str, before: int) -> None:
        """Check everything that must be true whenever a server is given another weight."""
        weights, slot = self.world.weights, self.world.servers[name].slot
        self.require(any(weights.values()), "every weight is 0: nobody gets requests")
        if weights[name] <= before:
            return
        state = self.state()
        held, runs = state.slots.get(slot), self.world.servers[name].release
        self.require(bool(held and held.proven and held.release == runs), f"{name} runs {runs}, not proven")
        self.require(runs not in state.quarantined, f"{name} runs {runs}, which is quarantined")
        self.require(self.token is None or self.token not in self.lost, f"token {self.token} moves traffic")
        if runs == NEW:
            self.require(bool(state.certificate and state.backup), "traffic without certificate or backup")
            passed = {window.share for window in state.windows_of(NEW) if window.verdict == "passed"}
            due = [
                step
                for step in STEPS
                if weights[name] > weights_for({slot: step, "blue": 100 - step}, self.target.instances)[name]
            ]
            self.require({*due} <= passed, f"{weights[name]} of weight with windows {passed}")

    def settle(self) -> None:
        """Heal the world, type every command again, and check what it comes to."""
        world = self.world
        world.plan = {}
        for server in world.servers.values():
            server.up = True
        world.now += 1000.0  # longer than a lock lasts
        self.heal()
        turned = NEW in self.state().quarantined
        try:
            self.release(NEW, "late", "third:3:3")
            self.require(not turned, "a quarantined release was released again")
        except Refused:
            if not turned:
                raise
        if world.seed % 3 == 0 and not turned:
            self.roll_back("late")
        self.heal()
        state = self.state()
        turned = NEW in state.quarantined
        self.require(turned or state.good[-1:] == (NEW,), f"ends {state.rollout}")
        shares = {"blue": 100, "green": 0} if turned else {"green": 100, "blue": 0}
        self.require(dict(state.shares) == shares, f"shares are {state.shares}")
        self.require(world.weights == weights_for(shares, self.target.instances), f"HAProxy: {world.weights}")
        self.require(not state.rollback, "a rollback was begun and never completed")
        Journal(self.target.steering / "journal.jsonl").entries()
        for slot, wanted in self.steering.flags.all().items():
            for server in (s for s in world.servers.values() if s.slot == slot and wanted.generation):
                has = (server.generation, server.flags)
                self.require(
                    has == (wanted.generation, wanted.flags), f"{server.name} has flags {has}, not {wanted}"
                )


def run(seed: int, plan: Mapping[int, str] | None = None) -> tuple[str, list[str]]:
    """Play a seed; return what was violated, empty for nothing, and the story."""
    home = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    names = [(f"{slot}-{number}", slot) for slot in ("blue", "green") for number in (1, 2)]
    servers = {name: SimulatedInstance(name, slot, 9000 + n) for n, (name, slot) in enumerate(names)}
    world = World(seed, home, {}, servers)
    world.weights = dict.fromkeys(servers, 0)
    try:
        with world.entered():
            play = Release(world)
            play.begin()
            world.plan = dict(plan_of(seed) if plan is None else plan)
            for _ in range(6):
                try:
                    play.release(NEW, "ann", "desk:1:1", dead="desk:1:1")
                    break
                except Crash as crash:
                    world.is_dead = world.is_nested = False
                    play.token = None
                    if crash.power:
                        world.lose_power()
                        play.place, play.seen = Place(), State()
                        kept = {entry.hash for entry in play.opened().journal.entries()}
                        play.require(not world.acknowledged or world.acknowledged in kept, "an entry is lost")
                except (RolloutError, OSError) as error:
                    world.say(f"ann: {error}")
                    break
            world.say(f"the world heals after {world.points} points")
            play.settle()
    except Violated as error:
        return str(error), world.story
    except Exception as error:
        return f"{type(error).__name__}: {error}", world.story
    finally:
        shutil.rmtree(home)
    return "", world.story


def shrunk(seed: int, plan: Mapping[int, str]) -> dict[int, str]:
    """Leave out of a failing plan every fault without which it fails as well."""
    left = dict(plan)
    for point in sorted(plan):
        fewer = {p: fault for p, fault in left.items() if p != point}
        if run(seed, fewer)[0]:
            left = fewer
    return left
