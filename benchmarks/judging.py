"""How long judging 120 minutes of kept samples takes, at 500 requests a second, sampled as the guard does.

.venv/bin/python -m benchmarks.judging
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.table import Row, show
from checks.window import samples
from checks.window.cells import Cells, Line
from checks.window.limits import WindowLimits

MINUTES, EVERY_SECONDS, RUNS, LIMIT_SECONDS = 120, 5, 5, 2.0
RATE, DIFFERENT_LOOKS = 500, 240
EDGES = [f"{0.001 * 1.2**step:.4g}" for step in range(20, 45)]
NAMES = {f"{slot}-{number}.app1": slot for slot in ("green", "blue") for number in (1, 2)}


LINE = Line(
    *(1, 1, 1764300000, "green-1.app1", 200, "--", 0, False, 0, 0, 20, 20),
    *("d116bd3c-a5eb-49a0-b25c-810d0b8301bb", b"", "GET", "/"),
)
PATHS = ("/", "/api/notes", "/api/notes/7", "/api/notes/7/view", "/api/notes/7/like", "/terms")


def looks(chance: random.Random) -> list[dict[str, Any]]:
    """What the request log brings in some looks."""
    cells, taken = Cells(NAMES), []
    for look in range(DIFFERENT_LOOKS):
        for number in range(RATE * EVERY_SECONDS):
            status = 200 if chance.random() < 0.98 else chance.choice((404, 429, 503, 500))
            client, waited = chance.randbytes(2), int(chance.lognormvariate(2.5, 0.7))
            at, server = LINE.second + EVERY_SECONDS * look + number // RATE, chance.choice([*NAMES])
            asked = LINE._replace(second=at, server=server, status=status, client=client, waited_ms=waited)
            cells.add(asked._replace(path=chance.choice(PATHS)))
        taken.append(
            {**cells.take(), "lines": RATE * look, "counted": RATE * look, "dropped": 0, "broken": []}
        )
    return taken


def _later(logged: list[dict[str, Any]], look: int) -> dict[str, Any]:
    """A look's requests, in the seconds in which they would have come."""
    again, place = divmod(look, DIFFERENT_LOOKS)
    seconds, found = again * DIFFERENT_LOOKS * EVERY_SECONDS, logged[place]
    return {**found, "cells": [[second + seconds, *rest] for second, *rest in found["cells"]]}


def simulated(chance: random.Random) -> list[dict[str, Any]]:
    """Samples as the guard keeps them, of two healthy slots."""
    counters = {name: dict.fromkeys(("requests", "busy", "retries"), 0) for name in NAMES}
    latency = {name: dict.fromkeys(EDGES, 0) for name in NAMES}
    taken, logged = [], looks(chance)
    for at in range(0, 60 * MINUTES + 1, EVERY_SECONDS):
        for name, counted in counters.items():
            counted["requests"] += RATE // 4 * EVERY_SECONDS
            counted["retries"] += chance.random() < 0.2
            for edge in chance.choices(EDGES, k=RATE // 4 * EVERY_SECONDS):
                latency[name][edge] += 1
        taken.append(
            {
                "at": float(at),
                "servers": {
                    name: {"slot": slot, "requests": counters[name]["requests"], "errors": 0, "up": True}
                    for name, slot in NAMES.items()
                },
                "instances": {
                    name: {
                        **{
                            "started": 1.0,
                            "deadlocks": 0,
                            "unjudged": 0,
                            "resident_mb": 80.0,
                            "latency": dict(latency[name]),
                        },
                        **{key: counters[name][key] for key in ("busy", "retries")},
                        "retried": {"55P03": counters[name]["retries"]},
                    }
                    for name in NAMES
                },
                "requests": _later(logged, at // EVERY_SECONDS),
                "database": {
                    **{"at": float(at), "started": "1", "stats_reset": "never", "deadlocks": 0},
                    **{"connections": 20, "connection_limit": 97, "pooler_waiting": 0},
                    **{"lock_wait_seconds": 0.0, "transaction_seconds": 0.1, "queue_lag_seconds": 0.2},
                },
            }
        )
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    limits = WindowLimits(60.0 * MINUTES, 60.0 * MINUTES, 3000, 0.01)
    assert limits.look_seconds == EVERY_SECONDS
    question = samples.Question("production", "green", "blue", limits, share=50)
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "samples.jsonl"
        lines = [question.to_line(), *map(samples.to_line, simulated(random.Random(1)))]
        file.write_text("\n".join(lines) + "\n")
        took = []
        for _ in range(RUNS):
            started = time.process_time()
            verdict = samples.replay(file).verdict
            took.append(time.process_time() - started)
        print(f"{len(lines) - 1} samples, {file.stat().st_size / 1e6:.1f} MB, {verdict}\n")
    row = Row("judging a 120-minute window, reading included", "s of CPU", took, LIMIT_SECONDS)
    print(show([row]))
    if args.json:
        args.json.write_text(json.dumps([row.to_dict()], indent=2))


if __name__ == "__main__":
    main()
