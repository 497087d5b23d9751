"""The HAProxy and the instances of a simulated world, as the kit talks to them."""

import hmac
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from rollout.target.wanted_flags import signature

SECRET = "flags' secret"
COUNTS = (
    "econ",
    "eresp",
    "hrsp_1xx",
    "hrsp_2xx",
    "hrsp_3xx",
    "hrsp_4xx",
    "hrsp_5xx",
    "hrsp_other",
    "qcur",
    "scur",
)


@dataclass
class SimulatedInstance:
    """An instance: the release that it runs, and the flags that it last took, which it keeps."""

    name: str
    slot: str
    port: int
    release: str = ""
    generation: int = 0
    flags: dict[str, str] = field(default_factory=dict)
    up: bool = True

    def answer(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, Any]:
        if path == "/internal/ready":
            commit = self.release + self.release[:1] * 28
            return 200, {"ready": True, "commit": commit, "schema": {"revision": "1"}}
        if method == "PUT":
            sent = body or b""
            if not hmac.compare_digest(headers["X-P12-Signature"], signature(SECRET, sent)):
                return 403, {}
            document = json.loads(sent)
            if document["generation"] < self.generation:
                return 409, {"generation": self.generation}
            self.generation, self.flags = document["generation"], document["flags"]
        return 200, {"generation": self.generation, "flags": self.flags, "known": {"P12_NEW": "0"}}


class Connection:
    """One HTTP connection to an instance. A fault on the way loses the question, or the answer to it."""

    def __init__(self, world: Any, port: int, timeout: float) -> None:
        self.world, self.timeout = world, timeout
        self.server = next(server for server in world.servers.values() if server.port == port)

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
        fault = self.world.point(f"{method} {path} {self.server.name}")
        if not self.server.up or fault == "lost":
            self.world.now += self.timeout
            raise TimeoutError("timed out")
        self.status, said = self.server.answer(method, path, body, headers)
        if fault == "doubled":
            self.server.answer(method, path, body, headers)
        self.body = json.dumps(said).encode()
        if fault == "unanswered":
            self.world.now += self.timeout
            raise TimeoutError("timed out")

    def getresponse(self) -> Any:
        release = self.server.release
        return SimpleNamespace(status=self.status, read=lambda: self.body, getheader=lambda *_: release)

    def close(self) -> None:
        return None


class Socket:
    """HAProxy's admin socket."""

    def __init__(self, world: Any) -> None:
        self.world = world

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def connect(self, _path: str) -> None:
        return None

    def sendall(self, sent: bytes) -> None:
        fault = self.world.point(f"haproxy: {sent.decode().strip()}")
        if fault == "restarted":
            self.world.start_haproxy()
        if fault in ("restarted", "lost"):
            raise ConnectionResetError("reset")
        self.answers = [b"".join(self.command(each) for each in sent.decode().strip().split(";"))]
        if fault == "unanswered":
            raise TimeoutError("timed out")

    def recv(self, _size: int) -> bytes:
        return self.answers.pop() if self.answers else b""

    def command(self, words: str) -> bytes:
        world = self.world
        if words.startswith("set server") and " weight " in words:
            name, weight = words.split()[2].split("/")[1], int(words.split()[4])
            before, world.weights[name] = world.weights[name], weight
            world.on_weight(name, before)
            return b""
        if words.startswith("show servers state"):
            rows = "".join(f"{name} {weight}\n" for name, weight in world.weights.items())
            return f"1\n# srv_name srv_uweight\n{rows}\n".encode()
        if words == "show stat":
            zeros = ",0" * len(COUNTS)
            rows = "".join(
                f"paste12,{name},{'UP' if server.up else 'DOWN'}{zeros}\n"
                for name, server in world.servers.items()
            )
            return f"# pxname,svname,status,{','.join(COUNTS)}\n{rows}paste12,BACKEND,UP{zeros}\n".encode()
        raise AssertionError(words)
