"""How long judging a long window's kept samples takes: 120 minutes, a sample every 5 s, 4 instances.

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
from checks.window.limits import WindowLimits

MINUTES, EVERY_SECONDS, RUNS, LIMIT_SECONDS = 120, 5, 7, 1.0
EDGES = [f"{0.001 * 1.2**step:.4g}" for step in range(20, 45)]
NAMES = {f"{slot}-{number}.app1": slot for slot in ("green", "blue") for number in (1, 2)}


def simulated(chance: random.Random) -> list[dict[str, Any]]:
    """Samples as the guard keeps them, of two healthy slots with 50 requests an instance each time."""
    counters = {name: dict.fromkeys(("requests", "busy", "retries"), 0) for name in NAMES}
    latency = {name: dict.fromkeys(EDGES, 0) for name in NAMES}
    taken = []
    for at in range(0, 60 * MINUTES + 1, EVERY_SECONDS):
        for name, counted in counters.items():
            counted["requests"] += 50
            counted["retries"] += chance.random() < 0.2
            for edge in chance.choices(EDGES, k=50):
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
    question = samples.Question("production", "green", "blue", limits)
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
