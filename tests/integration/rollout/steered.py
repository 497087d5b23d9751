"""One target on loopback: a real HAProxy, small instances, and the steering that moves traffic among them."""

import contextlib
import copy
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml

from rollout.files import write_json
from rollout.guard.loop import Guard
from rollout.host.installed_servers import Servers
from rollout.steps import reports, rollout
from rollout.steps.prove import prove
from rollout.steps.rollback import roll_back
from rollout.steps.window import open_window
from rollout.target import certificate
from rollout.target.state import Window
from rollout.target.steering import Steering
from rollout.target.target import SLOTS, TODAY, Target
from tests.integration.rollout.small import SLOW, SmallInstance, TodaysServer
from tests.running import CHECKOUT, free_port, running, wait_for

ROLE = CHECKOUT / "playbooks" / "roles" / "haproxy"
SECRETS = {"flags": "flags' secret"}
STAGING_KEY = "5a" * 32
OLD, NEW, NEXT = "a" * 12, "b" * 12, "c" * 12
LIMITS = {
    **{"seconds": 30, "max_seconds": 120, "min_requests": 5, "max_error_ratio": 0.01},
    **{"warmup_seconds": 0, "baseline_requests": 5, "watch_database": False, "by_request": False},
}


def commit_of(release: str) -> str:
    return release + release[0] * 28


def digest_of(release: str) -> str:
    return release[0] * 64


def document_of(release: str) -> dict[str, str]:
    return {"release": release, "commit": commit_of(release), "sha256": digest_of(release)}


@dataclass(frozen=True)
class Reply:
    """What a visitor got; status 0 means no answer at all."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def release(self) -> str:
        return self.headers.get("x-p12-release", "")

    @property
    def instance(self) -> str:
        return self.headers.get("x-instance", "")


class Haproxy:
    """HAProxy as the role describes its process, with the role's own templates."""

    def __init__(self, servers: Servers, home: Path, variables: dict[str, Any]) -> None:
        self.binary, self.home = servers.path("haproxy"), home
        self.config = home / "haproxy.cfg"
        self.state, self.weights = home / "state", home / "0-weights.cfg"
        self.socket = home / f"{variables['p12_target']}-haproxy.sock"
        self.port = variables["p12_front_port"]
        self.stack = ExitStack()
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(ROLE / "templates"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # noqa: S701 - a configuration file
        )
        for template, path in (("haproxy.cfg.j2", self.config), ("busy.http.j2", home / "busy.http")):
            path.write_text(environment.get_template(template).render(variables))
        self.state.touch()
        if given := variables["p12_front_certificate"]:
            shutil.copy(given, home / "front.pem")

    def start(self) -> None:
        command = [self.binary, "-W", "-db", "-f", self.home]
        self.process = self.stack.enter_context(running(command, self.home))
        wait_for(lambda: self.worker() and self.connect(), "HAProxy listening")

    def stop(self) -> None:
        self.stack.close()

    def forget(self) -> None:
        """Lose all that a start would find of the shares."""
        self.state.write_text("")
        self.weights.unlink(missing_ok=True)

    def reload(self) -> None:
        """Reload as the role's handler does: USR2 to the master, once more where it came too soon."""
        before = self.worker()
        for seconds in (3, 3, 20):
            self.process.send_signal(signal.SIGUSR2)
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: self.worker() != before, "a new worker of HAProxy", seconds)
                return
        raise TimeoutError("HAProxy does not reload")

    def worker(self) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"show info\n")
            said = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        return next(line for line in said.splitlines() if line.startswith("Pid:"))

    def connect(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True


class Steered:
    """The target and everything around it. ``clock`` is the guard's, and stands still until it is moved."""

    def __init__(
        self,
        servers: Servers,
        home: Path,
        slots: dict[str, int],
        name: str = "production",
        host: str = "local",
        today: int = 0,
        **role: Any,
    ) -> None:
        self.home = home
        self.directory = home / name
        for directory in (self.directory, home / "haproxy"):
            directory.mkdir()
        self.instances = {
            instance: SmallInstance(instance, slot, name, SECRETS["flags"])
            for slot in SLOTS
            for instance in (f"{slot}-{number + 1}.{host}" for number in range(slots[slot]))
        }
        described = [
            {"name": i.name, "slot": i.slot, "address": "127.0.0.1", "port": i.port}
            for i in self.instances.values()
        ]
        todays = {
            name: TodaysServer(name, TODAY, name, "")
            for name in (f"{TODAY}-{number + 1}" for number in range(today))
        }
        self.instances |= todays
        besides = [
            {"name": i.name, "slot": i.slot, "address": "127.0.0.1", "port": i.port} for i in todays.values()
        ]
        self.port = free_port()
        defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
        self.haproxy = Haproxy(
            servers,
            home / "haproxy",
            defaults
            | {
                "p12_target": name,
                "p12_run": str(home / "haproxy"),
                "__p12_haproxy": str(home / "haproxy"),
                "__p12_haproxy_instances": described,
                "__p12_today_servers": besides,
                "p12_front_address": "127.0.0.1",
                "p12_front_port": self.port,
            }
            | role,
        )
        self.defaults: dict[str, Any] = {
            "target": name,
            "front": f"http://127.0.0.1:{self.port}",
            "instances": described,
            "today": besides,
            "haproxy_socket": str(self.haproxy.socket),
            "request_log": str(home / "haproxy" / f"{name}-requests"),
            "haproxy_state": str(self.haproxy.state),
            "haproxy_backend": "paste12",
            "admission": True,
            "steps": [5, 25, 100],
            "holdback_percent": 2,
            "windows": {"step": LIMITS, "monitor": LIMITS},
            "window_least_minutes": 0,
            "visitors_rate": 0,
            "guard": {"interval_seconds": 0.05, "heal_seconds": 60, "database_seconds": 0.05},
            "guard_hung_seconds": 10,
            "lock_seconds": 900,
            "backup": {"longest_hours": 12},
            "backup_valid_minutes": 60,
            "certificate_valid_minutes": 60,
            "keep_releases": 3,
            "keep_windows": 3,
            "baseline_days": 14,
            "watch_days": 3,
            "after_good": "tell",
        }
        write_json(self.directory / "secrets.json", SECRETS)
        self.forget()

    def forget(self) -> None:
        """Begin with a target where nothing was ever released."""
        shutil.rmtree(self.directory / "steer", ignore_errors=True)
        self.settings = copy.deepcopy(self.defaults)
        self.target = Target(self.directory.name, self.directory, self.settings)
        self.steering = Steering.of(self.target)
        self.now = time.time()
        self.guard = Guard(self.steering, clock=lambda: self.now)
        self.token = 0

    def reset(self) -> None:
        """Be as new, with the HAProxy and the instances that are there."""
        for instance in self.instances.values():
            instance.reset()
        self.forget()
        if self.haproxy.process.poll() is not None:
            self.haproxy.forget()
            self.haproxy.start()
        balancer = self.steering.balancer
        for name in self.instances:
            balancer.command(f"set server paste12/{name} weight 0", f"set server paste12/{name} health up")
        balancer.command("clear counters all")
        balancer.keep()

    def save_settings(self) -> None:
        write_json(self.directory / "target.json", self.settings)

    def close(self) -> None:
        for instance in self.instances.values():
            instance.thaw()
            instance.let_go()
        self.haproxy.stop()
        for instance in self.instances.values():
            instance.die()

    # The story of a release, one line each.

    def of(self, slot: str) -> list[SmallInstance]:
        return [instance for instance in self.instances.values() if instance.slot == slot]

    def take(self, owner: str = "ann@desk", session: str = "desk:1:1.0") -> int:
        self.token = self.steering.lock.take(owner, session).token
        return self.token

    def install(self, slot: str, release: str) -> None:
        for instance in self.of(slot):
            instance.run(commit_of(release))

    def await_up(self, *names: str, up: bool = True) -> None:
        """Wait until HAProxy sees instances up, or down."""

        def seen() -> bool:
            servers = self.steering.balancer.servers()
            return all(servers[name].up is up for name in names)

        wait_for(seen, f"{', '.join(names)} seen {'up' if up else 'down'}")

    def prove(self, release: str, wanted: dict[str, str] | None = None) -> dict[str, Any]:
        """Prove a release with these flags, which a certificate names where the target asks for one."""
        flags, paper = wanted or {}, self.steering.state().certificate
        certified = paper and (paper["release"], paper["flags"]) == (release, flags)
        if self.settings["admission"] and not certified:
            self.certify(release, flags)
        return prove(self.steering, **document_of(release), token=self.token, flags=flags)

    def admit(self, release: str, flags: dict[str, str] | None = None) -> None:
        """Give the target what production asks for: a certificate, a backup, a way back that was tried."""
        self.certify(release, flags or {})
        self.back_up(release)

    def back_up(self, release: str, verdict: str = "passed") -> None:
        """Record a backup, with a proof of the way back from ``release`` to what serves."""
        releases = rollout.serving(self.steering, document_of(release))["releases"]
        proof = {**releases, "verdict": verdict, "summary": f"way back {verdict}"}
        backup = {"id": f"before-{release}", "verdict": "passed", "summary": "restored and compared"}
        reports.record(self.steering, "backup", backup | {"way_back": proof}, self.token)

    def claim(self, release: str, why: str = "") -> str:
        """Claim the idle slot with all that production asks for before it."""
        self.admit(release)
        claimed = rollout.claim(self.steering, release, digest_of(release), self.token, why)
        return str(claimed["slot"])

    def certify(self, release: str, flags: dict[str, str]) -> None:
        now = time.time()
        document = document_of(release)
        reports.trust(self.steering, {"public": certificate.public_key(STAGING_KEY)})
        paper = certificate.issue(
            STAGING_KEY,
            **document,
            flags=flags,
            schema="0002",
            verdicts=[{"check": "burst", "verdict": "passed", "summary": "no deadlock"}],
            issued_at=now,
            expires_at=now + 600,
        )
        rollout.admit(self.steering, document | {"certificate": paper}, self.token)

    def offer(self, release: str, wanted: dict[str, str] | None = None, why: str = "") -> str:
        """Admit, claim, install, prove and begin: everything before the first shift. Returns the slot."""
        self.take()
        self.admit(release, wanted)
        slot = str(rollout.claim(self.steering, release, digest_of(release), self.token, why)["slot"])
        self.install(slot, release)
        self.prove(release, wanted)
        rollout.begin(self.steering, release, self.token, why)
        return slot

    def serve(self, release: str, wanted: dict[str, str] | None = None) -> str:
        """Make a release the one that serves everything, finished, without looking at windows."""
        self.settings["admission"] = False
        slot = self.offer(release, wanted)
        self.shift(release, 100)
        rollout.finish(self.steering, release, self.token)
        self.steering.lock.drop(self.token)
        self.settings["admission"] = True
        return slot

    def shift(self, release: str, share: int) -> dict[str, Any]:
        return rollout.shift(self.steering, release, share, self.token)

    def shift_on(self, release: str) -> dict[str, Any]:
        """Put the last share that is watched on a release: all but the holdback."""
        return rollout.shift(self.steering, release, None, self.token)

    def shift_unwatched(self, release: str, share: int) -> None:
        """Put a share on a release whatever windows say, as staging does."""
        self.settings["admission"] = False
        self.shift(release, share)
        self.settings["admission"] = True

    def roll_back(self, why: str = "errors") -> dict[str, Any]:
        return roll_back(self.steering, "bob@tower", why)

    def open(self, kind: str = "step") -> Window:
        return open_window(self.steering, kind, self.token)

    def watch(self, requests: int, seconds: float, rounds: int = 1, keep_alive: bool = True) -> None:
        """Let time pass in rounds of the guard, with so many requests before each."""
        for _ in range(rounds):
            self.ask_many(requests, keep_alive)
            self.now += seconds
            self.guard.look()

    def watch_visitors(self, requests: int, seconds: float, rounds: int = 1) -> None:
        """Let time pass as ``watch`` does, with so many requests of as many clients."""
        for _ in range(rounds):
            for client in range(requests):
                self.ask(client=f"127.0.2.{client % 250 + 1}")
            self.now += seconds
            self.guard.look()

    def heal(self) -> None:
        """Let time pass until the guard heals again."""
        self.now += self.settings["guard"]["heal_seconds"]
        self.guard.look()

    def pass_window(self, kind: str = "step") -> None:
        """Open a window and let it pass on real requests."""
        window = self.open(kind)
        self.watch(12 if window.share >= 25 else 40, 10, rounds=4)
        assert self.window(window).verdict == "passed", self.window(window)

    def window(self, window: Window) -> Window:
        return next(w for w in self.steering.state().windows if w.id == window.id)

    def host(self, *words: str, python: Sequence[str] = (), told: Any = None) -> tuple[int, dict[str, Any]]:
        """Run ``p12 host production …`` as a process of its own; return its status and its answer."""
        done = subprocess.run(
            [sys.executable, *python, "-m", "rollout", "host", "production", *words],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            env=self.environment(),
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def environment(self) -> dict[str, str]:
        """What the kit on this balancer runs with."""
        self.save_settings()
        return {**os.environ, "P12_ROOT": str(self.home), "PYTHONPATH": str(CHECKOUT)}

    def events(self) -> list[str]:
        return [entry.event for entry in self.steering.journal.entries()]

    # Visitors.

    def ask(
        self,
        path: str = "/api/notes/1",
        method: str = "GET",
        seconds: float = 10,
        client: str = "127.0.0.1",
        **headers: str,
    ) -> Reply:
        """Ask once, on a connection of its own, from an address of loopback."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=seconds, source_address=(client, 0)
        )
        try:
            return _asked(connection, path, method, {"Connection": "close", **headers})
        finally:
            connection.close()

    def ask_many(self, count: int, keep_alive: bool = True) -> Counter[str]:
        """Ask one after the other and count who answered, by release; 'nobody' for any status but 200."""
        headers = {} if keep_alive else {"Connection": "close"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            replies = [_asked(connection, "/api/notes/1", "GET", headers) for _ in range(count)]
        finally:
            connection.close()
        return Counter(reply.release if reply.status == 200 else "nobody" for reply in replies)

    def opened(self, request: bytes) -> socket.socket:
        """Send bytes as they are and return the connection on which the answer will come."""
        connection = socket.create_connection(("127.0.0.1", self.port), 10)
        connection.sendall(request)
        return connection

    def ask_raw(self, request: bytes) -> bytes:
        """Send bytes as they are and return the answer's status line."""
        with self.opened(request) as connection:
            return b"".join(iter(lambda: connection.recv(65536), b"")).split(b"\r\n")[0]

    @contextmanager
    def in_flight(self, count: int) -> Iterator[list[socket.socket]]:
        """Send so many requests for what instances can be told to hold; nobody reads the answers yet."""
        request = f"GET {SLOW} HTTP/1.1\r\nHost: p12\r\nConnection: close\r\n\r\n".encode()
        with ExitStack() as stack:
            yield [stack.enter_context(self.opened(request)) for _ in range(count)]

    @contextmanager
    def visitors(self, threads: int = 3) -> Iterator["Visitors"]:
        """Visitors who come all the time, until the block ends."""
        visiting = Visitors(self, threads)
        visiting.start()
        try:
            yield visiting
        finally:
            visiting.stop()

    @contextmanager
    def guarding(self) -> Iterator[subprocess.Popen[bytes]]:
        """The guard as the process it is on a balancer, with nobody else alive."""
        command = [sys.executable, "-m", "rollout", "host", "production", "guard"]
        with (self.home / "guard.log").open("wb") as log:
            process = subprocess.Popen(command, env=self.environment(), stderr=log)
        try:
            beat = self.target.steering / "guard.json"
            wait_for(lambda: json.loads(beat.read_bytes())["pid"] == process.pid, "the guard's heartbeat")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def _asked(connection: http.client.HTTPConnection, path: str, method: str, headers: dict[str, str]) -> Reply:
    try:
        connection.request(method, path, b'{"text":"x"}' if method == "POST" else None, headers)
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, named, response.read())
    except (OSError, http.client.HTTPException):
        connection.close()
        return Reply(0)


def reply_on(connection: socket.socket) -> Reply:
    """Read the answer that is still to come on a connection."""
    connection.settimeout(10)
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, named, response.read())
    except (OSError, http.client.HTTPException):
        return Reply(0)
    finally:
        response.close()


class Visitors:
    """People who read and write, each request on a connection of its own; everything they got is kept."""

    def __init__(self, steered: Steered, threads: int) -> None:
        self.steered = steered
        self.replies: list[tuple[str, Reply]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _ in range(threads)]

    def _visit(self) -> None:
        while not self._stop.wait(0.002):
            for path, method in (("/api/notes/1", "GET"), ("/api/notes/1/view", "POST")):
                self.replies.append((method, self.steered.ask(path, method)))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def come(self, count: int = 20) -> None:
        """Wait until so many more visits are over."""
        wanted = len(self.replies) + count
        wait_for(lambda: len(self.replies) >= wanted, f"{count} more visits")

    @property
    def failed(self) -> list[tuple[str, int]]:
        return [(method, reply.status) for method, reply in self.replies if reply.status != 200]

    @property
    def releases(self) -> Counter[str]:
        return Counter(reply.release for _, reply in self.replies)


@contextmanager
def steered(servers: Servers, home: Path, slots: dict[str, int], **role: Any) -> Iterator[Steered]:
    home.mkdir()
    made = Steered(servers, home, slots, **role)
    try:
        made.haproxy.start()
        yield made
    finally:
        made.close()
        shutil.rmtree(home, ignore_errors=True)


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """Return what an action returned and how many seconds it took."""
    started = time.monotonic()
    result = action()
    return result, time.monotonic() - started
