"""What the request log costs the guard, HAProxy and visitors, and how much of it can be read.

.venv/bin/python -m benchmarks.request_log
"""

import argparse
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks import load
from benchmarks.table import Row, show
from rollout.guard.request_log import SOCKETS, RequestLog
from rollout.host.installed_servers import Servers, find
from rollout.target.haproxy import Balancer
from rollout.target.target import Target
from tests.integration.rollout.steered import ROLE, Haproxy
from tests.running import CHECKOUT, free_port, running, wait_for

RATE, SECONDS, ROUNDS, CLIENTS = 500, 10, 5, 32
LIMIT_PERCENT, LIMIT_RATIO = 3.0, 1.1
PATHS = ("/", "/api/notes", "/api/notes/12", "/api/notes/7", "/api/notes/12/view", "/api/notes/12/like")
LINE = (
    b"<134>1 2026-11-28T16:56:50.033346+00:00 - haproxy 1 - [p12 %d 1795885010 blue-1.local 200 -- 0 0 0 0 "
    b"30 31 d116bd3c-a5eb-49a0-b25c-810d0b8301bb 192.0.2.%d GET /api/notes/%d] 2026-11-28T16:56:50Z and more"
)
FLOOD_LINES = 100_000
ORIGIN = """
defaults
  mode http
  timeout client 30s
  timeout connect 1s
  timeout server 30s
frontend origin
  bind 127.0.0.1:{port}
  http-request return status 200 content-type application/json string "{{}}"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--read", type=Path, metavar="SETTINGS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        return read_for_ever(args.read)
    home = Path(tempfile.mkdtemp(prefix="p12l", dir="/tmp"))
    home.chmod(0o755)
    try:
        rows = [*measured(home), Row("lines read, sent as fast as can be", "/s", flooded(home))]
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(show(rows))
    if args.json:
        args.json.write_text(json.dumps([row.to_dict() for row in rows], indent=2))
    return None


def read_for_ever(settings: Path) -> None:
    """Read and take each second, as the guard does; say what was missing."""
    target = Target("production", settings.parent, json.loads(settings.read_text()))
    log = RequestLog(target.path("request_log"), {i.name: i.slot for i in target.instances})
    while True:
        broken = log.take(Balancer(target).line_counts)["broken"]
        print("; ".join(broken) or "all", flush=True)
        time.sleep(1)


def measured(home: Path) -> list[Row]:
    """The guard's CPU, and the ratio of what visitors wait with the log and without, turn by turn."""
    servers = find()
    costs: list[float] = []
    ratios: dict[str, list[float]] = {"median": [], "p99": [], "HAProxy's CPU": []}
    with origin(servers, home / "origin") as port:
        for number in range(ROUNDS):
            found = {}
            for logs in (True, False) if number % 2 else (False, True):
                with front(servers, home / f"{number}-{logs:d}", port, logs) as (haproxy, target):
                    found[logs] = loaded(haproxy, target, logs, costs)
            for name in ratios:
                ratios[name].append(found[True][name] / found[False][name])
    rows = [Row(f"the guard's reading of {RATE} requests/s", "% of a core", costs, LIMIT_PERCENT)]
    limits = {"median": LIMIT_RATIO}
    return rows + [
        Row(f"{n}, with the log and without", "ratio", v, limits.get(n)) for n, v in ratios.items()
    ]


def loaded(haproxy: Haproxy, target: Target, logs: bool, costs: list[float]) -> dict[str, float]:
    settings = target.directory / "settings.json"
    settings.write_text(json.dumps(target.settings))
    command = [sys.executable, "-m", "benchmarks.request_log", "--read", str(settings)]
    worker = psutil.Process(int(haproxy.worker().removeprefix("Pid:")))
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as reading:
        assert reading.stdout is not None
        reading.stdout.readline()
        before, reader_before = used(worker), used(psutil.Process(reading.pid))
        plan = load.Plan(
            [f"127.0.0.1:{haproxy.port}"], PATHS, SECONDS, method="GET", clients=CLIENTS, rate=RATE
        )
        result = load.fire(plan)
        spent, reader_spent = used(worker) - before, used(psutil.Process(reading.pid)) - reader_before
        time.sleep(1.5)
        reading.kill()
        said = set(reading.stdout.read().split("\n")) - {""}
    if logs:
        costs.append(100 * reader_spent / result.seconds)
        assert said == {"all"}, said
    assert set(result.statuses) == {200}, result.statuses
    cuts = statistics.quantiles(result.latencies_ms, n=100)
    return {"median": cuts[49], "p99": cuts[98], "HAProxy's CPU": spent}


def flooded(home: Path) -> list[float]:
    """How many lines a second are read of a sender that waits for the reader."""
    directory = home / "flood"
    program = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        f"for n in range({FLOOD_LINES}):\n"
        f"    s.sendto({LINE!r} % (n, n % 250, n), f'{{sys.argv[1]}}/{{n % {SOCKETS}}}')"
    )
    speeds = []
    for _ in range(ROUNDS):
        log = RequestLog(directory, {"blue-1.local": "blue"})
        started = time.monotonic()
        with subprocess.Popen([sys.executable, "-c", program, str(directory)]) as sender:
            wait_for(lambda log=log: log.lines >= FLOOD_LINES, "all lines read", 60)
            speeds.append(FLOOD_LINES / (time.monotonic() - started))
            sender.wait()
        log.close()
    return speeds


@contextmanager
def origin(servers: Servers, home: Path) -> Iterator[int]:
    """A server that answers at once."""
    home.mkdir()
    port = free_port()
    (home / "origin.cfg").write_text(ORIGIN.format(port=port))
    with running([servers.path("haproxy"), "-db", "-f", home / "origin.cfg"], home):
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1), "origin").close()
        yield port


@contextmanager
def front(servers: Servers, home: Path, port: int, logs: bool) -> Iterator[tuple[Haproxy, Target]]:
    """The role's HAProxy before that server, with the log for the guard or as it would be without."""
    home.mkdir()
    instance = {"name": "blue-1.local", "slot": "blue", "address": "127.0.0.1", "port": port}
    variables: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    run, front_port = home / "haproxy", free_port()
    run.mkdir()
    variables |= {"p12_target": "production", "p12_run": str(run), "__p12_haproxy": str(run)}
    variables |= {"p12_front_address": "127.0.0.1", "p12_front_port": front_port, "p12_threads": 34}
    variables |= {"__p12_haproxy_instances": [instance], "__p12_today_servers": []}
    haproxy = Haproxy(servers, run, variables)
    if not logs:
        without = re.sub(r"(?m)^  log(-format-sd| unix@).*\n", "", haproxy.config.read_text())
        haproxy.config.write_text(without.replace("option log-separate-errors", "option dontlog-normal"))
    settings = {"instances": [instance], "request_log": str(run / "production-requests")}
    settings |= {"haproxy_socket": str(haproxy.socket), "haproxy_backend": "paste12"}
    target = Target("production", home, settings | {"haproxy_state": str(haproxy.state)})
    haproxy.start()
    try:
        balancer = Balancer(target)
        balancer.command("set server paste12/blue-1.local weight 256")
        wait_for(lambda: balancer.servers()["blue-1.local"].up, "the origin up")
        yield haproxy, target
    finally:
        haproxy.stop()


def used(process: psutil.Process) -> float:
    """Seconds of CPU that a process has used."""
    return sum(process.cpu_times()[:2])


if __name__ == "__main__":
    main()
