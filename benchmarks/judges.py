"""Who finds what, when, and how often in vain: our judge, and one of the kind that canary tools ship.

That one compares each minute's ratio of the two slots by the Mann-Whitney test: it fails a release if the
shift between them is more than a quarter of its own estimate, 98 % sure. Both see the same simulated minutes.

    .venv/bin/uv pip install --target /tmp/p12-scipy scipy
    PYTHONPATH=/tmp/p12-scipy .venv/bin/python -m benchmarks.judges
"""

import argparse
import itertools
import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks.base.report import Verdict
from checks.window.judge import WindowJudge
from checks.window.limits import WindowLimits
from tests.simulated import HEALTHY, minutes

LOOKS = 120
# Fewer minutes than this the test cannot tell apart at 98 %.
FEWEST_MINUTES = 5
CONFIDENCE, TOLERANCE = 0.98, 0.25
LIMITS = WindowLimits(
    seconds=60 * LOOKS,
    max_seconds=60 * LOOKS,
    min_requests=100,
    max_error_ratio=0.01,
    scrape_gap_seconds=90,
    warmup_seconds=60,
    baseline_requests=400,
    watch_database=False,
)
Samples = Sequence[Mapping[str, Any]]
# When a judge failed a window, in minutes; infinity where it did not.
Judge = Callable[[Samples], float]


@dataclass(frozen=True)
class Case:
    """Requests per minute of both slots, and how the candidate differs."""

    name: str
    per_minute: tuple[int, int]
    worse: Mapping[str, float]


CASES = (
    Case("healthy, 100 + 100 a minute", (100, 100), {}),
    Case("healthy, 10 + 190 a minute", (10, 190), {}),
    *(
        Case(f"errors 0.1 → {100 * ratio:g} %, {n} + {m} a minute", (n, m), {"errors": ratio})
        for n, m in ((100, 100), (10, 190))
        for ratio in (0.002, 0.005, 0.01, 0.02, 0.05)
    ),
    Case("slow 2 → 4 %, 100 + 100 a minute", (100, 100), {"slow": 0.04}),
    Case("slow 2 → 10 %, 100 + 100 a minute", (100, 100), {"slow": 0.1}),
)


def ours(samples: Samples) -> float:
    window = WindowJudge(LIMITS, "green", "blue")
    for sample in samples:
        if window.add(sample).verdict is not None:
            break
    return window.judgement.elapsed_seconds / 60 if window.judgement.verdict is Verdict.FAILED else math.inf


def each_minute(samples: Samples) -> float:
    series = ratios(samples)
    for looks in range(FEWEST_MINUTES, LOOKS + 1):
        if any(is_high(mine[:looks], theirs[:looks]) for mine, theirs in series):
            return float(looks)
    return math.inf


def at_the_end(samples: Samples) -> float:
    return float(LOOKS) if any(is_high(mine, theirs) for mine, theirs in ratios(samples)) else math.inf


def ratios(samples: Samples) -> list[tuple[list[float], list[float]]]:
    """Each event's share of the requests, minute by minute, of the candidate and of the control."""

    def counted(sample: Mapping[str, Any], slot: str, event: str) -> tuple[int, int]:
        server, instance = sample["servers"][slot], sample["instances"][slot]
        counts = {"errors": server["errors"], "slow": instance["latency"]["0.5"]}
        return server["requests"], counts[event] if event in counts else instance[event]

    def shares(slot: str, event: str) -> list[float]:
        seen = [counted(sample, slot, event) for sample in samples]
        return [(k - j) / (n - m) for (m, j), (n, k) in itertools.pairwise(seen)]

    return [(shares("green", event), shares("blue", event)) for event in HEALTHY]


def is_high(mine: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether the shift's confidence interval lies above the tolerance.

    That is so when the test rejects the candidate moved back by the tolerated part of the Hodges-Lehmann
    estimate of the shift.
    """
    import numpy
    from scipy import stats

    a, b = numpy.array(mine), numpy.array(theirs)
    estimate = float(numpy.median(numpy.subtract.outer(a, b)))
    if len({*mine, *theirs}) < 2 or estimate < 0:
        return False
    shifted = a - TOLERANCE * estimate
    tested = stats.mannwhitneyu(shifted, b, alternative="greater", method="asymptotic")
    return bool(tested.pvalue < (1 - CONFIDENCE) / 2)


JUDGES: Mapping[str, Judge] = {
    "ours, each minute": ours,
    "Mann-Whitney, each minute": each_minute,
    "Mann-Whitney, at the end": at_the_end,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40, help="windows of each case")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    try:
        import scipy  # noqa: F401
    except ImportError:
        sys.exit(
            "scipy is not installed, and only this benchmark needs it. " + str(__doc__).split("\n\n")[-1]
        )
    rows = [measured(case, args.runs) for case in CASES]
    print(show(rows, args.runs))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


def measured(case: Case, runs: int) -> dict[str, Any]:
    windows = [list(minutes(seed, LOOKS, case.worse, case.per_minute)) for seed in range(runs)]
    found = {name: [judge(samples) for samples in windows] for name, judge in JUDGES.items()}
    return {
        "case": case.name,
        "judges": {
            name: {
                "failed": sum(map(math.isfinite, times)) / runs,
                "median_minutes": m if math.isfinite(m := statistics.median(times)) else None,
            }
            for name, times in found.items()
        },
    }


def show(rows: Sequence[Mapping[str, Any]], runs: int) -> str:
    lines = [
        f"Windows of {LOOKS} minutes, {runs} of each case: how many were failed, and when half of them were.",
        "",
        f"| the release | {' | '.join(JUDGES)} |",
        f"|---|{'--:|' * len(JUDGES)}",
    ]
    for row in rows:
        cells = [
            f"{found['failed']:.0%}" + (f", {m:.0f} min" if (m := found["median_minutes"]) else "")
            for found in row["judges"].values()
        ]
        lines.append(f"| {row['case']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
