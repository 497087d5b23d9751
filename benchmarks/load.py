"""One process of HTTP clients on loopback, so cheap that the servers keep the processors.

    python -m benchmarks.load < plan.json > result.json

Each client keeps one connection and sends its next request when the last is answered, or, with a rate, when
it is due: a late answer then counts from the time its request was due.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SLOWEST_ANSWER_SECONDS = 15.0
ENDING_SECONDS = 30.0
PAUSE_WHEN_REFUSED_SECONDS = 0.1
LOST = 0


@dataclass(frozen=True)
class Plan:
    """What to send: the clients share out addresses (``host:port``), and each goes through all paths.

    ``rate`` is in requests per second of all clients together; 0 means as fast as they are answered.
    """

    addresses: Sequence[str]
    paths: Sequence[str]
    seconds: float
    method: str = "POST"
    clients: int = 32
    rate: float = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What came back: answers by status (0: none), seconds to the last one, and every latency in ms."""

    statuses: Mapping[int, int]
    seconds: float
    latencies_ms: Sequence[float] = field(repr=False)

    def count(self, chosen: Callable[[int], bool]) -> int:
        return sum(number for status, number in self.statuses.items() if chosen(status))


def start(plan: Plan) -> subprocess.Popen[bytes]:
    """Start the load in a process of its own; ``finish`` ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(plan)).encode())
    process.stdin.close()
    process.stdin = None
    return process


def finish(process: subprocess.Popen[bytes], plan: Plan) -> Result:
    """Wait for a load's result; a process that outlives its plan by half a minute is killed."""
    try:
        output, _ = process.communicate(timeout=plan.seconds + ENDING_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    told = json.loads(output)
    statuses = {int(status): number for status, number in told["statuses"].items()}
    return Result(statuses, told["seconds"], told["latencies_ms"])


def fire(plan: Plan) -> Result:
    return finish(start(plan), plan)


class Connection(asyncio.Protocol):
    """One connection that is kept alive, with one request under way at most."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[int] | None = None
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head_end = self.received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self.received[:head_end].lower()
        length_at = head.find(b"\r\ncontent-length:") + len(b"\r\ncontent-length:")
        length = int(head[length_at:].split(b"\r\n", 1)[0])
        if len(self.received) < head_end + 4 + length:
            return
        self.received = b""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.transport = None
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(LOST)

    async def ask(self, request: bytes) -> int:
        """Send a request and return the answer's status, ``LOST`` when the connection ended first."""
        loop = asyncio.get_running_loop()
        if self.transport is None:
            return LOST
        self.answer = loop.create_future()
        overdue = loop.call_later(SLOWEST_ANSWER_SECONDS, self.transport.abort)
        self.transport.write(request)
        status = await self.answer
        overdue.cancel()
        return status


async def connect(host: str, port: int) -> Connection:
    """Open a connection; one that is refused is given back closed, so that its request counts as lost."""
    try:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    except OSError:
        await asyncio.sleep(PAUSE_WHEN_REFUSED_SECONDS)
        return Connection()
    return connection


async def run(plan: Plan) -> Result:
    statuses: Counter[int] = Counter()
    latencies_ms: list[float] = []
    started = time.perf_counter()

    async def client(number: int) -> None:
        address = plan.addresses[number % len(plan.addresses)]
        host, port = address.rsplit(":", 1)
        fixed = "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
        tail = f"Host: {address}\r\nContent-Length: 0\r\n{fixed}X-Author-Fp: {os.getpid()}-{number}-"
        connection, sent = Connection(), 0
        while True:
            due = started + (sent * plan.clients + number) / plan.rate if plan.rate else time.perf_counter()
            if due >= started + plan.seconds:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()) if plan.rate else 0)
            if connection.transport is None:
                connection = await connect(host, int(port))
            path = plan.paths[(number + sent) % len(plan.paths)]
            due = due if plan.rate else time.perf_counter()
            status = await connection.ask(f"{plan.method} {path} HTTP/1.1\r\n{tail}{sent}\r\n\r\n".encode())
            latencies_ms.append((time.perf_counter() - due) * 1000)
            statuses[status] += 1
            sent += 1
        if connection.transport is not None:
            connection.transport.close()

    await asyncio.gather(*(client(number) for number in range(plan.clients)))
    return Result(dict(statuses), time.perf_counter() - started, latencies_ms)


def main() -> int:
    result = asyncio.run(run(Plan(**json.load(sys.stdin))))
    sys.stdout.write(json.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
