"""What the judge must hold: what befalls healthy releases fails none, and what is broken is never good.

Each row is windows simulated through the real judge, request by request, with fixed seeds.

    .venv/bin/python -m benchmarks.judging_cases --runs 400
"""

import argparse
import json
import math
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import judging_sweeps
from checks.base.report import Verdict
from checks.window.judge import Judgement, WindowJudge
from checks.window.limits import WindowLimits
from tests import simulated_causes as causes
from tests.simulated_causes import Make, answers, errors_beside_503s, fewer, slower, tail
from tests.simulated_requests import NEW, OLD, samples

Named = str | tuple[str, ...]
SHARES = (5, 25, 50, 98)
# A rate of at most 1 % in few windows may show itself as one of them.
MOST_FAILED = 0.01
STEP, LAST = 10.0, 60.0
JUDGING: Mapping[str, Any] = {"scrape_gap_seconds": 15, "watch_database": False}


@dataclass(frozen=True)
class Case:
    """Windows of so many minutes; ``begin`` is the minute in which the trouble does.

    ``named`` is what a failed window must name, in the name of a finding, or one of several;
    ``within`` the most minutes of the median until then. A healthy case has no name.
    """

    kind: str
    name: str
    make: Make
    share: int = 25
    per_minute: float = 600
    minutes: float = LAST
    begin: float = 0.0
    named: Named = ""
    within: float = math.inf


@dataclass(frozen=True)
class Result:
    """What became of one window: the verdict, in which minute, and what decided it."""

    verdict: Verdict
    minute: float
    deciding: tuple[str, ...]


def healthy() -> Iterator[Case]:
    for name, make in causes.HEALTHY.items():
        for share in SHARES:
            yield Case("healthy", f"{name}, {share} %", make, share)


def found() -> Iterator[Case]:
    def errors(name: str, make: Make, within: float, begin: float = 0.0) -> Case:
        minutes = LAST if not begin else 2 * LAST
        return Case("errors", name, make, 50, 200, minutes, begin, "failed", within)

    yield errors("0.1 → 1 %, 100 + 100 a minute", answers({"5xx": 0.01}), 14)
    yield errors("0.1 → 2 %", answers({"5xx": 0.02}), 6)
    yield errors("0.1 → 1 %, beside 0.2 % of 503s in both", errors_beside_503s(0.01), 14 * 1.2)
    yield errors("0.1 → 2 %, beside 0.2 % of 503s in both", errors_beside_503s(0.02), 6 * 1.2)
    for minute in (10, 25, 40, 50):
        begin = 60.0 * minute
        yield errors(f"1 % from minute {minute}", answers({"5xx": 0.01}, begin), 14 * 1.5, minute)
        yield errors(f"2 % from minute {minute}", answers({"5xx": 0.02}, begin), 6 * 1.5, minute)
        yield errors(f"5 % from minute {minute}", answers({"5xx": 0.05}, begin), 2, minute)


UNSERVED = ("unserved", "shared")


def broken() -> Iterator[Case]:
    def fault(
        name: str,
        make: Make,
        named: str | tuple[str, ...],
        share: int = 25,
        minutes: float = STEP,
        **more: Any,
    ) -> Case:
        return Case("fault", name, make, share, minutes=minutes, named=named, **more)

    rare = causes.RARE
    yield fault("every answer redirects", answers({"3xx": 1.0}), "redirected", 5)
    yield fault("a tenth of the answers redirect", answers({"3xx": 0.1}), "redirected")
    yield fault("404s for a fifth", answers({"404": 0.2}), "not_found", 5)
    yield fault("404s for one route", answers({"404": 1.0}, route=rare), "not_found")
    yield fault("429s doubled", causes.limits_doubled, "limited")
    yield fault("40 % of the answers gone", fewer(0.6), "missing", 25, LAST)
    yield fault("nearly all requests gone", fewer(0.03), "missing")
    yield fault("1 % errors beside a robot", causes.beside_robot(0.01), "failed", 50, LAST)
    yield fault("clients give up, 5 %", answers({"cut": 0.05}), "cut")
    yield fault("latency × 10 from minute 50", slower(10, 3000), "latency", 50, 2 * LAST, begin=50.0)
    yield fault("latency × 3", slower(3), "latency")
    yield fault("both slots 3 times as slow", slower(3, begin=120, both=True), "shared")
    both = ("shared", "old_slot_worsened")
    yield fault("both slots fail 5 %", answers({"5xx": 0.05}, begin=120, both=True), both)
    yield fault("no slot has room for 2 %", causes.unserved(12), UNSERVED)
    yield fault("no slot has room for 1 %, from minute 5", causes.unserved(6, 300), UNSERVED)
    yield fault("no slot has room for anybody, for a minute", causes.unserved(600, 300, 60), UNSERVED)
    yield fault("2 % take ten times as long", tail(0.02, 10), "slow_p9", 25, 30)
    yield fault("p99 × 3", tail(0.02, 13), "slow_p9", 50, LAST)
    yield fault("one route of 5 % fails", answers({"5xx": 1.0}, route=rare), "failed", within=STEP)
    yield fault(
        "one route of 5 % fails, one in five", answers({"5xx": 0.2}, route=rare), "failed", within=STEP
    )
    yield fault("one route of 5 % is 3 × as slow", slower(3, route=rare), "slow_p90", within=STEP)
    yield fault("one route of 5 % is gone", fewer(0.0, route=rare), "missing", 50, LAST)


def judged(case: Case, seed: int) -> Result:
    """Watch one window to its verdict."""
    most = 60 * case.minutes * (3 if case.minutes <= STEP else 1)
    limits = WindowLimits(60 * case.minutes, most, 100, 0.01, **JUDGING)
    window = WindowJudge(limits, NEW, OLD, share=case.share)
    world = case.make(random.Random(seed), case.share / 100)
    for sample in samples(seed, most, case.per_minute, case.share / 100, world):
        if window.add(sample).verdict is not None:
            break
    return _result(window.judgement)


def _result(judgement: Judgement) -> Result:
    verdict = judgement.verdict or Verdict.UNKNOWN
    deciding = tuple(found.name for found in judgement.findings if found.verdict is verdict)
    return Result(verdict, judgement.elapsed_seconds / 60, deciding)


def measured(case: Case, runs: int) -> dict[str, Any]:
    results = [judged(case, 1000 * n + runs % 7) for n in range(runs)]
    shares = Counter(result.verdict for result in results)
    stopped = [
        r.minute - case.begin if r.verdict in (Verdict.FAILED, Verdict.HELD) else math.inf for r in results
    ]
    median = statistics.median(stopped)
    named = Counter(name for r in results if r.verdict is not Verdict.PASSED for name in r.deciding[:1])
    return {
        "kind": case.kind,
        "case": case.name,
        "runs": runs,
        "verdicts": {verdict: shares[verdict] / runs for verdict in Verdict},
        "median_minutes": round(median, 1) if math.isfinite(median) else None,
        "named": dict(named.most_common(3)),
        "holds": holds(case, shares, median, results),
    }


def holds(case: Case, shares: Mapping[Verdict, int], median: float, results: Sequence[Result]) -> bool:
    if not case.named:
        return shares[Verdict.FAILED] <= max(MOST_FAILED * len(results), 1 if len(results) < 100 else 0)
    stopped = [r for r in results if r.verdict in (Verdict.FAILED, Verdict.HELD)]
    rightly = sum(any(name.startswith(case.named) for name in r.deciding) for r in stopped)
    return not shares[Verdict.PASSED] and rightly >= 0.9 * len(stopped) and median <= case.within


KINDS: Mapping[str, Callable[[], Iterator[Case]]] = {"healthy": healthy, "errors": found, "fault": broken}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="windows of each row")
    parser.add_argument("--only", default="", metavar="WORDS", help="rows whose kind or name holds this")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    rows = []
    print("| kind | case | failed | held | unknown | passed | median min | named | holds |")
    print("|---|---|--:|--:|--:|--:|--:|---|---|")
    for case in (case for cases in KINDS.values() for case in cases()):
        if args.only in f"{case.kind} {case.name}":
            rows.append(row := measured(case, args.runs))
            print(show(row), flush=True)
    for name, measure in judging_sweeps.rows():
        if args.only in name:
            rows.append(row := measure(args.runs))
            print(show(row), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))
    return 0 if all(row["holds"] for row in rows) else 3


def show(row: Mapping[str, Any]) -> str:
    order = (Verdict.FAILED, Verdict.HELD, Verdict.UNKNOWN, Verdict.PASSED)
    verdicts = row["verdicts"]
    shares = [f"{verdicts[verdict]:.1%}" if verdicts else "" for verdict in order]
    named = ", ".join(f"{name} {count}" for name, count in row.get("named", {}).items())
    if row["kind"] == "monotone":
        shares = [f"stopped {listed(row['stopped'])}", "", "", f"passed {listed(row['passed'])}"]
    found = row.get("median_minutes")
    minutes = "" if found is None else f"{found:g}"
    cells = [row["kind"], row["case"], *shares, minutes, named, "yes" if row["holds"] else "NO"]
    return f"| {' | '.join(cells)} |"


def listed(parts: Sequence[float]) -> str:
    return " → ".join(f"{part:.0%}" for part in parts)


if __name__ == "__main__":
    sys.exit(main())
