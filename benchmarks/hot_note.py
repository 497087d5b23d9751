"""How many views of one note, and of ten, does the service count? Beside the incident and the two limits.

    .venv/bin/python -m benchmarks.hot_note [--seconds 20] [--limits lifted|counted] [--json FILE]

Real Postgres, pgbouncer in transaction mode and Redis on loopback; every case has the same number of
instances, of one worker process with 8 threads each, and the same clients, in one process, sharing the
processors with the servers. Every view has a fingerprint of its own, so every view counts.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from app.counting import COUNT_VIEW, QUEUE_VIEW
from app.flags import ADVISORY_LOCKS, VIEW_QUEUE
from benchmarks import statement
from benchmarks.load import Plan, Result, finish, fire, start
from benchmarks.outcome import Outcome, Ratio, show_outcomes, show_ratios
from benchmarks.stack import Instances, Stack, instances, process, stack
from rollout.servers import Servers, ensure
from tests.running import wait_for

SERVICE, INCIDENT = "app.wsgi:app", "benchmarks.incident:app"
HOT = {1: "one note", 10: "ten notes"}
OTHER_NOTES = range(101, 111)
READS_PER_SECOND = 50.0
WITHOUT_DATABASE = "/api/view?id=none"
STATISTICS_FLUSH_SECONDS = 1.1
DRAIN_SECONDS = 60.0
# Two limits, as many as a view has, none of which is ever reached.
COUNTED_LIMITS = {
    "P12_LIMIT_VIEW": "1000000 per second",
    "P12_LIMIT_VIEW_NOTE": "1000000 per minute",
    "P12_LIMIT_ALIAS": "1000000 per second; 1000000 per minute",
}


@dataclass(frozen=True)
class Case:
    """One way to serve views."""

    name: str
    title: str
    application: str = SERVICE
    flag: str = ""
    touches_database: bool = True


CASES = (
    Case("incident", "the incident: DDL in every view, 5 tries", INCIDENT),
    Case("inline", "inline, the default"),
    Case("advisory", f"{ADVISORY_LOCKS}=1", flag=ADVISORY_LOCKS),
    Case("queue", f"{VIEW_QUEUE}=1 and its worker", flag=VIEW_QUEUE),
    Case("http", "the limit of HTTP: a limited 404, no database", touches_database=False),
)


@dataclass(frozen=True)
class Bench:
    """What every case is measured with."""

    servers: Servers
    stack: Stack
    seconds: float
    clients: int
    instances: int
    is_lifted: bool

    def plan(self, running: Instances, paths: Sequence[str]) -> Plan:
        headers = self.stack.passing(time.time()) if self.is_lifted else {}
        return Plan(running.addresses, list(paths), self.seconds, clients=self.clients, headers=headers)

    @contextlib.contextmanager
    def running(self, case: Case) -> Iterator[Instances]:
        """Run a case's instances on a database of its own, warmed up, and its worker where it has one."""
        self.stack.new_database(case.name)
        self.stack.fill(case.name)
        more = {} if self.is_lifted else COUNTED_LIMITS
        environment = self.stack.environment(case.name, **more, **({case.flag: "1"} if case.flag else {}))
        with contextlib.ExitStack() as ending:
            running = ending.enter_context(instances(case.application, environment, self.instances))
            if case.flag == VIEW_QUEUE:
                ending.enter_context(process(["app.worker"], environment))
            warm_up = replace(self.plan(running, views(range(1, 100))), seconds=min(2.0, self.seconds))
            fire(warm_up)
            self.drained(case.name)
            yield running

    def drained(self, database: str) -> bool:
        """Wait until every queued view is counted; False when that takes too long."""
        sql = "SELECT NOT EXISTS (SELECT FROM view_queue)"
        try:
            wait_for(lambda: self.stack.postgres.run(sql, database)[0][0], "the queue drained", DRAIN_SECONDS)
        except TimeoutError:
            return False
        return True

    def deadlocks(self, database: str) -> int:
        """Ask for the deadlocks so far, once every backend has told its own."""
        time.sleep(STATISTICS_FLUSH_SECONDS)
        sql = f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{database}'"
        return int(str(self.stack.postgres.run(sql)[0][0]))

    def counters(self, database: str) -> tuple[int, int]:
        """Return the views that the notes show, and those that the log holds."""
        sql = "SELECT (SELECT sum(views) FROM notes), (SELECT count(*) FROM view_log)"
        ((shown, logged),) = self.stack.postgres.run(sql, database)
        return int(str(shown)), int(str(logged))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20, help="of each case, on one note and on ten")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--instances", type=int, default=2)
    parser.add_argument(
        "--limits",
        choices=("lifted", "counted"),
        default="lifted",
        help="lifted by the rehearsal header, or counted in Redis and never reached",
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="p12-hot-"))
    home.chmod(0o755)
    servers = ensure()
    try:
        with stack(servers, home) as servers_of_a_slot:
            lifted = options.limits == "lifted"
            bench = Bench(
                servers, servers_of_a_slot, options.seconds, options.clients, options.instances, lifted
            )
            outcomes, reads = measure(bench)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    found = [*ratios(outcomes), *read_ratios(reads)]
    print(show_outcomes(outcomes), show_ratios(found), sep="\n\n")
    if options.json:
        report = {
            "outcomes": [asdict(outcome) for outcome in outcomes],
            "ratios": [ratio.to_dict() for ratio in found],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def measure(bench: Bench) -> tuple[list[Outcome], dict[str, float]]:
    """Run every case on one note and on ten; return the outcomes, and the reads' p99 in ms by what ran."""
    outcomes = [
        *pgbench(bench, "statement", "pgbench, the inline statement", COUNT_VIEW),
        *pgbench(bench, "queue-statement", "pgbench, the queue's statement", QUEUE_VIEW),
    ]
    reads: dict[str, float] = {}
    for case in CASES:
        with bench.running(case) as running:
            outcomes += [segment(bench, case, running, notes) for notes in HOT]
            if case.name == "queue":
                reads = read_beside(bench, running, rate=outcomes[-2].per_second / 2)
    return outcomes, reads


def pgbench(bench: Bench, name: str, title: str, sql: str) -> Iterator[Outcome]:
    """Run a statement alone, straight to Postgres."""
    bench.stack.new_database(name)
    for notes, hot in HOT.items():
        bench.stack.fill(name)
        before = bench.deadlocks(name)
        done = statement.run(
            bench.servers, bench.stack.postgres, name, sql, notes, bench.clients, bench.seconds
        )
        yield Outcome(
            name,
            title,
            hot,
            accepted=done.done,
            per_second=done.done / done.seconds,
            p50_ms=done.quantile_ms(0.5),
            p99_ms=done.quantile_ms(0.99),
            deadlocks=bench.deadlocks(name) - before,
        )


def segment(bench: Bench, case: Case, running: Instances, notes: int) -> Outcome:
    """Measure a case on so many hot notes, and prove its counters."""
    bench.stack.fill(case.name)
    before = bench.deadlocks(case.name)
    paths = views(range(1, notes + 1)) if case.touches_database else [WITHOUT_DATABASE]
    result = fire(bench.plan(running, paths))
    is_drained = bench.drained(case.name)
    after = bench.deadlocks(case.name)
    accepted = result.count(lambda status: status == (200 if case.touches_database else 404))
    is_exact = is_drained and set(bench.counters(case.name)) == {accepted}
    return Outcome(
        case.name,
        case.title,
        HOT[notes],
        accepted=accepted,
        per_second=accepted / result.seconds,
        p50_ms=result.quantile_ms(0.5),
        p99_ms=result.quantile_ms(0.99),
        busy=result.count(lambda status: status == 503),
        failed=failures(result),
        deadlocks=after - before,
        is_exact=is_exact if case.touches_database else None,
        resident_mb=running.resident_mb(),
    )


def failures(result: Result) -> int:
    """Count 5xx other than 503, and requests without an answer."""
    return result.count(lambda status: status == 0 or (status >= 500 and status != 503))


def read_beside(bench: Bench, running: Instances, rate: float) -> dict[str, float]:
    """Read other notes alone, beside hot views as fast as can be and at ``rate``, and beside no database."""
    hot = bench.plan(running, views([1]))
    beside = {
        "nothing": None,
        "hot views": hot,
        "hot views at half their rate": replace(hot, rate=rate),
        "requests without a database": replace(hot, paths=[WITHOUT_DATABASE]),
    }
    return {name: read_p99_ms(bench, running, plan) for name, plan in beside.items()}


def read_p99_ms(bench: Bench, running: Instances, beside: Plan | None) -> float:
    reads = replace(
        bench.plan(running, [f"/api/notes/{note}" for note in OTHER_NOTES]),
        method="GET",
        clients=8,
        rate=READS_PER_SECOND,
    )
    other = start(beside) if beside else None
    try:
        result = fire(reads)
    finally:
        if other and beside:
            finish(other, beside)
    assert failures(result) == 0, result.statuses
    return result.quantile_ms(0.99)


def views(notes: Sequence[int]) -> list[str]:
    return [f"/api/notes/{note}/view" for note in notes]


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


def read_ratios(reads: dict[str, float]) -> list[Ratio]:
    """Compare the reads' p99 beside a load with the one beside nothing. Only hot views have a limit."""
    idle = reads["nothing"]
    return [
        Ratio("reads beside nothing: p99 ms", idle),
        *(
            Ratio(f"reads beside {name}: p99 of idle", p99 / idle, most=2.0 if name == "hot views" else None)
            for name, p99 in reads.items()
            if name != "nothing"
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
