"""What the kept minutes of 500 requests a second on 20 routes cost: room on the disk, and CPU time.

.venv/bin/python -m benchmarks.minutes
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.table import Row, show
from checks.window.cells import bucket_of
from rollout.guard.minutes import MOST_BYTES, KeptMinutes, before_release
from rollout.target.target import Target

RATE, ROUTES, HOURS, DAYS = 500, 20, 2, 14
LIMIT_PERCENT = 1.0
# What a request comes to, and how often.
STATUSES = (("2xx", 0.975), ("404", 0.01), ("429", 0.005), ("3xx", 0.005), ("4xx", 0.003), ("5xx", 0.002))
BEGUN = 1_795_885_200.0
RELEASE = "4f1c0de4f1c0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="p12m", dir="/tmp"))
    try:
        rows = measured(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(show(rows))
    if args.json:
        args.json.write_text(json.dumps([row.to_dict() for row in rows], indent=2))


def measured(home: Path) -> list[Row]:
    target = Target("production", home, {"baseline_days": DAYS})
    target.steering.mkdir()
    kept, chance, costs = KeptMinutes(target), random.Random(1), []
    begin = BEGUN - 3600 * HOURS
    for hour in range(HOURS):
        looks = [look(chance, begin + 3600 * hour + second) for second in range(3600)]
        started = time.process_time()
        for second in range(3600):
            minute = kept.folding.add(begin + 3600 * hour + second, looks[second], RELEASE)
            if minute is not None:
                kept.write(minute)
        costs.append(100 * (time.process_time() - started) / 3600)
    packed = next(kept.directory.glob("*.gz"))
    for day in range(DAYS + 1):
        for hour in range(3):
            name = time.strftime("%Y%m%dT%H", time.gmtime(BEGUN - 86400 * day + 3600 * hour))
            shutil.copy(packed, kept.directory / f"{name}.gz")
    started = time.process_time()
    before_release(target, BEGUN)
    return [
        Row(f"minutes of {RATE} requests/s, folded and written", "% of a core", costs, LIMIT_PERCENT),
        Row(f"{DAYS} days on the disk", "MB", [packed.stat().st_size * 24 * DAYS / 1e6], MOST_BYTES / 1e6),
        Row("the time before a release, read", "s of CPU", [time.process_time() - started]),
    ]


def look(chance: random.Random, at: float) -> dict[str, Any]:
    """A second's cells as the guard reads them."""
    cells, marks = [], {}
    for route in range(ROUTES):
        weight = 2 * RATE / ROUTES * (ROUTES - route) / (ROUTES + 1)
        for status, ratio in STATUSES:
            n = int(weight * ratio + chance.random())
            if not n:
                continue
            buckets: dict[str, int] = {}
            for _ in range(n):
                bucket = str(bucket_of(chance.lognormvariate(2.5 + route / 20, 0.5)))
                buckets[bucket] = buckets.get(bucket, 0) + 1
            if status != "2xx":
                marks[str(len(cells))] = [chance.randrange(2**16) for _ in range(n)]
            cells.append([int(at), "blue", f"GET /api/of/{route}/N", status, n, n, 1, buckets])
    return {"cells": cells, "clients": {"blue": RATE // 2}, "marks": marks, "broken": []}


if __name__ == "__main__":
    main()
