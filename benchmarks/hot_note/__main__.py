"""How many views of one note, and of ten, does the service count? Beside the incident and the two limits.

    .venv/bin/python -m benchmarks.hot_note [--seconds 20] [--limits lifted|counted] [--json FILE]

Real Postgres, pgbouncer in transaction mode and Redis on loopback. Every case has the same instances, of one
worker process with 8 threads each, and the same clients, in one process, sharing the processors with the
servers; its seconds are spent in rounds, so that a noisy moment touches every case alike. Every view has a
fingerprint of its own, so every view counts.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from app.counting import COUNT_VIEW, QUEUE_VIEW
from app.flags import ADVISORY_LOCKS, VIEW_QUEUE
from benchmarks.hot_note.case import Bench, Case
from benchmarks.outcome import Outcome, Ratio, Segment, quantile, show_outcomes, show_ratios, summarise
from benchmarks.stack import stack
from rollout.host.installed_servers import ensure

SERVICE, INCIDENT = "app.wsgi:app", "benchmarks.hot_note.incident:app"
HOT = {1: "one note", 10: "ten notes"}
STATEMENTS = {
    "statement": ("pgbench, the inline statement", COUNT_VIEW),
    "queue_statement": ("pgbench, the queue's statement", QUEUE_VIEW),
}
CASES = (
    Case("incident", "the incident: DDL in every view, 5 tries", INCIDENT),
    Case("inline", "inline, the default", SERVICE),
    Case("advisory", f"{ADVISORY_LOCKS}=1", SERVICE, flag=ADVISORY_LOCKS),
    Case("queue", f"{VIEW_QUEUE}=1 and its worker", SERVICE, flag=VIEW_QUEUE),
    Case("http", "the limit of HTTP: a limited 404, no database", SERVICE, touches_database=False),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20, help="of each case, on one note and on ten")
    parser.add_argument("--rounds", type=int, default=4, help="parts that the seconds are spent in")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--instances", type=int, default=2)
    how = "lifted by the rehearsal header, or counted in Redis and never reached"
    parser.add_argument("--limits", choices=("lifted", "counted"), default="lifted", help=how)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    servers = ensure()
    home = Path(tempfile.mkdtemp(prefix="p12-hot-"))
    home.chmod(0o755)
    seconds, is_lifted = options.seconds / options.rounds, options.limits == "lifted"
    try:
        with stack(servers, home) as below:
            bench = Bench(servers, below, seconds, options.clients, options.instances, is_lifted)
            outcomes, reads = measure(bench, options.rounds)
            ping_ms = quantile(below.round_trips_ms("inline"), 0.5)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    ping = Ratio("pool_pre_ping: a round trip through pgbouncer, median ms", ping_ms)
    found = [*ratios(outcomes), *read_ratios(reads), ping]
    print(show_outcomes(outcomes), show_ratios(found), sep="\n\n")
    if options.json:
        report = {
            "outcomes": [asdict(outcome) for outcome in outcomes],
            "ratios": [ratio.to_dict() for ratio in found],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(bench: Bench, rounds: int) -> tuple[list[Outcome], dict[str, float]]:
    """Run every case on one note and on ten; return the outcomes, and the reads' p99 in ms by what ran."""
    segments: dict[tuple[str, int], list[Segment]] = defaultdict(list)
    reads: dict[str, list[float]] = defaultdict(list)
    for name in STATEMENTS:
        bench.stack.new_database(name)
    with contextlib.ExitStack() as ending:
        running = {case: ending.enter_context(bench.running(case)) for case in CASES}
        for number in range(rounds):
            for notes in HOT:
                for name, (_, sql) in STATEMENTS.items():
                    segments[name, notes].append(bench.statement(name, sql, notes))
                for case, its in running.items():
                    segments[case.name, notes].append(bench.views(case, its, notes))
            queue = next(case for case in CASES if case.flag == VIEW_QUEUE)
            half = segments[queue.name, 1][-1].per_second / 2
            for beside, latencies_ms in bench.reads(running[queue], half).items():
                reads[beside] += latencies_ms
            print(f"round {number + 1} of {rounds} is over", file=sys.stderr, flush=True)
    titles = {name: title for name, (title, _) in STATEMENTS.items()} | {c.name: c.title for c in CASES}
    outcomes = [
        summarise(name, titles[name], HOT[notes], segments[name, notes]) for name in titles for notes in HOT
    ]
    return outcomes, {beside: quantile(latencies_ms, 0.99) for beside, latencies_ms in reads.items()}


def ratios(outcomes: Sequence[Outcome]) -> list[Ratio]:
    """Hold what was measured against its limits, on one note and on ten."""
    found = []
    for hot in HOT.values():
        by_name = {outcome.name: outcome for outcome in outcomes if outcome.hot == hot}
        incident, http = by_name["incident"], by_name["http"]
        inline, queue = by_name["inline"], by_name["queue"]
        found += [
            Ratio(f"{hot}: inline, views/s of the incident's", inline.per_second / incident.per_second, 4.0),
            Ratio(f"{hot}: queue, views/s of the incident's", queue.per_second / incident.per_second, 6.0),
            Ratio(f"{hot}: inline, p99 of the incident's", inline.p99_ms / incident.p99_ms, most=0.2),
            Ratio(f"{hot}: queue, p99 of the incident's", queue.p99_ms / incident.p99_ms, most=0.2),
            Ratio(f"{hot}: queue, views/s of HTTP's limit", queue.per_second / http.per_second, 0.6),
        ]
    ours = [outcome for outcome in outcomes if outcome.name in ("inline", "advisory", "queue")]
    return [
        *found,
        Ratio("ours: deadlocks", sum(outcome.deadlocks for outcome in ours), most=0),
        Ratio("ours: 5xx and lost", sum(outcome.busy + outcome.failed for outcome in ours), most=0),
        Ratio("ours: cases not exact", sum(not outcome.is_exact for outcome in ours), most=0),
        Ratio("ours: resident MB", max(outcome.resident_mb or 0 for outcome in ours), most=90),
    ]


def read_ratios(reads: Mapping[str, float]) -> list[Ratio]:
    """Compare the reads' p99 beside a load with the one beside nothing. Only hot views have a limit."""
    idle = reads["nothing"]
    loads = [name for name in reads if name != "nothing"]
    limits = {"hot views": 2.0}
    return [
        Ratio("reads beside nothing: p99 ms", idle),
        *(Ratio(f"reads beside {at}: p99 of idle", reads[at] / idle, most=limits.get(at)) for at in loads),
    ]


if __name__ == "__main__":
    sys.exit(main())
