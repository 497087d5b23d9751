"""What does the burst tool add? 300 requests in flight from one core, at a server that answers at once.

    .venv/bin/python -m benchmarks.burst [--rounds 10] [--json FILE]

HAProxy answers by itself, on one core where there are two; each tool has another core to itself. hey gives
every request a new connection, as a volley does, or keeps its connections, which is as little as it can cost.
A volley's latency counts from the moment all 300 were due, so it includes each one's turn.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.table import Row, show
from checks.burst import volley
from rollout.host.installed_servers import find
from tests.running import free_port, is_listening, running, wait_for

AT_ONCE = 300
LIMIT_ADDED_MS = 1.0
WARM_UP = 3
CONFIGURATION = """
global
  maxconn 4000
  nbthread 1
defaults
  mode http
  timeout client 10s
  timeout connect 5s
  timeout server 10s
frontend at_once
  bind 127.0.0.1:{port} backlog 4000
  http-request return status 200 content-type application/json string '{{"ok":true}}'
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--volleys", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.volleys:
        print(json.dumps(volleys(options.volleys, options.rounds)))
        return 0
    if shutil.which("hey") is None:
        raise SystemExit("hey is not installed here. Install it: apt-get install hey")
    with at_once() as url:
        rows = measure(url, options.rounds)
    print(show(rows))
    if options.json:
        options.json.write_text(json.dumps([row.to_dict() for row in rows], indent=2) + "\n")
    return 0


@contextlib.contextmanager
def at_once() -> Iterator[str]:
    """Run a server that answers every request at once, on the first core; gives its address."""
    servers = find()
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="p12b", dir="/tmp"))
    home.chmod(0o755)
    try:
        (home / "haproxy.cfg").write_text(CONFIGURATION.format(port=port))
        command = [*on_core(0), str(servers.path("haproxy")), "-db", "-f", str(home / "haproxy.cfg")]
        with running(command, home / "run"):
            wait_for(lambda: is_listening(port), "HAProxy listening")
            yield f"http://127.0.0.1:{port}/"
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measure(url: str, rounds: int) -> list[Row]:
    """Take turns, so that a noisy moment touches every tool alike."""
    fired: list[dict[str, float]] = []
    anew, kept = [], []
    for _ in range(rounds):
        command = [sys.executable, "-m", "benchmarks.burst", "--volleys", url, "--rounds", "5"]
        fired += json.loads(run(*command))
        anew.append(hey(url, "-n", str(AT_ONCE), "-c", str(AT_ONCE), "-disable-keepalive"))
        kept.append(hey(url, "-n", str(10 * AT_ONCE), "-c", str(AT_ONCE)))
    ours = [volley["p50_ms"] for volley in fired]
    lowest = min(median(anew), median(kept))
    return [
        Row("in flight together, of 300", "", [volley["in_flight"] for volley in fired]),
        Row("all 300 sent within", "ms", [volley["write_ms"] for volley in fired]),
        Row("burst: p50 of 300 at once", "ms", ours),
        Row("hey: p50 of 300 at once, new connections", "ms", anew),
        Row("hey: p50 of 300 at once, kept connections", "ms", kept),
        Row("added to p50, over hey's lower one", "ms", [median(ours) - lowest], LIMIT_ADDED_MS),
    ]


def volleys(url: str, rounds: int) -> list[dict[str, float]]:
    """Fire volleys from this process, after a few that warm it up."""
    shots = [volley.Shot("/", {"X-Author-Fp": f"burst-{number}"}) for number in range(AT_ONCE)]
    taken = []
    for _ in range(WARM_UP + rounds):
        fired = volley.fire(url, shots, 10)
        assert all(hit.status == 200 for hit in fired.hits), {hit.error for hit in fired.hits}
        p50_ms = median(hit.milliseconds for hit in fired.hits)
        taken.append(
            {"p50_ms": p50_ms, "in_flight": fired.in_flight_peak, "write_ms": fired.write_milliseconds}
        )
    return taken[WARM_UP:]


def hey(url: str, *options: str) -> float:
    """Run hey and return its p50 in ms."""
    rows = list(csv.DictReader(io.StringIO(run("hey", *options, "-m", "POST", "-o", "csv", url))))
    assert rows, "hey measured nothing"
    assert {row["status-code"] for row in rows} == {"200"}
    return median(1000 * float(row["response-time"]) for row in rows)


def run(*command: str) -> str:
    environment = {**os.environ, "GOMAXPROCS": "1"}
    words = [*on_core(-1), *command]
    return subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout


def on_core(number: int) -> list[str]:
    """What keeps a program on one of the cores that we may use."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[number])]


if __name__ == "__main__":
    sys.exit(main())
