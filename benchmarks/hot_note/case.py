"""Measure one case for a while: views of hot notes, its counters, and reads of other notes beside a load."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import psutil

from app.flags import VIEW_QUEUE
from benchmarks.hot_note import statement
from benchmarks.load import Plan, Result, finish, fire, start
from benchmarks.outcome import Segment, Spent
from benchmarks.stack import Instances, Stack, instances, process, tree_seconds
from rollout.host.installed_servers import Servers
from tests.running import wait_for

OTHER_NOTES = range(101, 111)
READERS, READS_PER_SECOND = 8, 50.0
# Bad on purpose: the alias passes the limiter, refuses the id, and never asks the database.
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
    """One way to serve views; its database has its name."""

    name: str
    title: str
    application: str
    flag: str = ""
    touches_database: bool = True


@dataclass(frozen=True)
class Bench:
    """What every case is measured with; ``seconds`` are those of one segment."""

    servers: Servers
    stack: Stack
    seconds: float
    clients: int
    instances: int
    is_lifted: bool

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
            fire(replace(self.plan(running, views(range(1, 100))), seconds=min(2.0, self.seconds)))
            self.drained(case.name)
            yield running

    def plan(self, running: Instances, paths: Sequence[str]) -> Plan:
        headers = self.stack.passing(time.time()) if self.is_lifted else {}
        return Plan(running.addresses, list(paths), self.seconds, clients=self.clients, headers=headers)

    def views(self, case: Case, running: Instances, notes: int) -> Segment:
        """Measure views of so many hot notes, and compare the counters with the answers."""
        self.stack.fill(case.name)
        deadlocks_before, spent_before = self.deadlocks(case.name), self.spent(running)
        paths = views(range(1, notes + 1)) if case.touches_database else [WITHOUT_DATABASE]
        result = fire(self.plan(running, paths))
        spent = self.spent(running).since(spent_before)
        is_drained = self.drained(case.name)
        accepted = result.count(lambda status: status == (200 if case.touches_database else 404))
        is_exact = is_drained and set(self.counters(case.name)) == {accepted}
        return Segment(
            accepted,
            result.seconds,
            result.latencies_ms,
            busy=result.count(lambda status: status == 503),
            failed=failures(result),
            deadlocks=self.deadlocks(case.name) - deadlocks_before,
            is_exact=is_exact if case.touches_database else None,
            spent=spent,
            resident_mb=running.resident_mb(),
        )

    def statement(self, name: str, sql: str, notes: int) -> Segment:
        """Measure a statement alone, straight to Postgres."""
        self.stack.fill(name)
        postgres = self.stack.postgres
        done = statement.run(self.servers, postgres, name, sql, notes, self.clients, self.seconds)
        return Segment(done.done, done.seconds, done.latencies_ms)

    def reads(self, running: Instances, rate: float) -> dict[str, Sequence[float]]:
        """Read other notes beside nothing and beside each load; return the latencies in ms."""
        hot = self.plan(running, views([1]))
        beside = {
            "nothing": None,
            "hot views": hot,
            "hot views at half their rate": replace(hot, rate=rate),
            "requests without a database": replace(hot, paths=[WITHOUT_DATABASE]),
        }
        return {name: self._read_beside(running, plan) for name, plan in beside.items()}

    def _read_beside(self, running: Instances, beside: Plan | None) -> Sequence[float]:
        plan = self.plan(running, [f"/api/notes/{note}" for note in OTHER_NOTES])
        reads = replace(plan, method="GET", clients=READERS, rate=READS_PER_SECOND)
        other = start(beside) if beside else None
        try:
            result = fire(reads)
        finally:
            if other and beside:
                finish(other, beside)
        assert failures(result) == 0, result.statuses
        return result.latencies_ms

    def spent(self, running: Instances) -> Spent:
        """Return the processor time that was spent so far, by whom."""
        postgres, pooler = self.stack.postgres.process, self.stack.pooler
        return Spent(running.cpu_seconds(), tree_seconds(postgres), tree_seconds(pooler), machine_seconds())

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


def machine_seconds() -> float:
    """Return the processor time that everything on this machine has used since it started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def failures(result: Result) -> int:
    """Count 5xx other than 503, and requests without an answer."""
    return result.count(lambda status: status == 0 or (status >= 500 and status != 503))


def views(notes: Sequence[int]) -> list[str]:
    return [f"/api/notes/{note}/view" for note in notes]
