"""How long is a proven backup, beside a plain pg_dump, and do visitors notice? On a database of a given size.

    .venv/bin/python -m benchmarks.backup [--megabytes 500] [--encrypted] [--json FILE]

Real Postgres, pgbouncer, Redis and two instances on loopback. A plain dump and a proven backup take turns
while nobody else is there; then one more backup is made beside visitors, whose slowest are held against those
before it.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Plan, finish, start
from benchmarks.outcome import Ratio, quantile, show_ratios
from benchmarks.stack import CHECKOUT, Instances, Stack, instances, stack
from checks.backup.age import new_key
from checks.backup.manifest import find
from checks.backup.verify import restore_into
from checks.base.postgres_tools import Tools
from rollout.host.installed_servers import Servers, ensure
from tests.running import UNPRIVILEGED

DATABASE = "paste12"
WORDS = "array['a', 'note', 'that', 'somebody', 'wrote', 'about', 'nothing', 'much', 'in', 'particular']"
# About 10 MB: notes of some 400 characters, and their views.
MORE = f"""
INSERT INTO notes (text, expires_at, likes, views, reports)
SELECT md5(i::text || random()) || (SELECT string_agg(({WORDS})[1 + (random() * 9)::int], ' ')
                                    FROM generate_series(1, 60 + i % 2)),
       timezone('utc', now()) + interval '1 day', 0, 5, 0
FROM generate_series(1, 10000) AS i;
INSERT INTO view_log (note_id, fingerprint, day)
SELECT 1 + (random() * 9999)::int, md5(random()::text), '2030-01-01' FROM generate_series(1, 25000);
"""
VISITORS_PER_SECOND = 50.0
CLIENTS = 8
CALM_SECONDS, WARM_UP_SECONDS = 15.0, 5.0


@dataclass(frozen=True)
class Made:
    """One backup's own figures, and its seconds from end to end."""

    manifest: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Bench:
    servers: Servers
    stack: Stack
    out: Path
    recipients: Sequence[str]

    @property
    def url(self) -> str:
        return self.stack.postgres.url(DATABASE)

    def fill(self, megabytes: int) -> None:
        """Make the service's database and fill it until it has the size."""
        self.stack.new_database(DATABASE)
        while self.megabytes() < megabytes:
            self.stack.postgres.run(MORE, DATABASE)
        self.stack.postgres.run("VACUUM ANALYZE", DATABASE)
        self.stack.postgres.run("CHECKPOINT", DATABASE)

    def megabytes(self) -> float:
        ((size,),) = self.stack.postgres.run(f"SELECT pg_database_size('{DATABASE}')")
        return int(str(size)) / 1e6

    def plain_dump(self) -> float:
        """Time ``pg_dump -Fc -Z1`` alone."""
        target = self.out / "plain.dump"
        words = [self.servers.path("pg_dump"), "-Fc", "-Z1", "-f", target, self.url]
        started = time.perf_counter()
        subprocess.run([*UNPRIVILEGED, *map(str, words)], check=True, cwd="/")
        seconds = time.perf_counter() - started
        target.unlink()
        return seconds

    def backup(self) -> Made:
        """Make a proven backup as a host does."""
        words = [
            *(sys.executable, "-P", "-m", "checks", "backup", "--json", "--keep", "1,0,0"),
            *("--out", str(self.out), "--bin-dir", str(self.servers.postgres_bin)),
            *(word for recipient in self.recipients for word in ("--age-recipient", recipient)),
        ]
        variables = self.stack.environment(DATABASE) | {"DATABASE_URL": self.url, "PYTHONPATH": str(CHECKOUT)}
        started = time.perf_counter()
        done = subprocess.run(
            [*UNPRIVILEGED, *words], env=variables, cwd="/", capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return Made(json.loads(done.stdout), time.perf_counter() - started)

    def restore(self, made: Made, identity: str) -> float:
        """Time a restore into a new database beside the live one, compared."""
        started = time.perf_counter()
        kept = find(self.out, made.manifest["id"])
        restore_into(self.url, kept, "back", Tools(self.servers.postgres_bin), identity)
        seconds = time.perf_counter() - started
        self.stack.postgres.run("DROP DATABASE back")
        return seconds

    @contextlib.contextmanager
    def visitors(self, running: Instances, seconds: float, latencies_ms: list[float]) -> Iterator[None]:
        """Have notes read and viewed while the block lasts, and keep what each request took."""
        headers = self.stack.passing(time.time())
        share = {"clients": CLIENTS, "rate": VISITORS_PER_SECOND / 2, "headers": headers}
        notes = range(1, 101)
        plans = [
            Plan(running.addresses, [f"/api/notes/{n}" for n in notes], seconds, method="GET", **share),  # type: ignore[arg-type]
            Plan(running.addresses, [f"/api/notes/{n}/view" for n in notes], seconds, **share),  # type: ignore[arg-type]
        ]
        loads = [(start(plan), plan) for plan in plans]
        yield
        for process, plan in loads:
            result = finish(process, plan)
            assert set(result.statuses) == {200}, result.statuses
            latencies_ms += result.latencies_ms


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=500, help="the size of the database")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encrypted", action="store_true", help="with a key, as an inventory may name one")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    key = new_key() if options.encrypted else None
    servers = ensure()
    home = Path(tempfile.mkdtemp(prefix="p12-backup-"))
    home.chmod(0o755)
    out = home / "out"
    out.mkdir()
    if UNPRIVILEGED:
        shutil.chown(out, "nobody", "nogroup")
    try:
        with stack(servers, home) as below:
            bench = Bench(servers, below, out, [key.recipient] if key else [])
            bench.fill(options.megabytes)
            found = measure(bench, options.rounds, key.identity if key else "")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(show_ratios(found))
    if options.json:
        options.json.write_text(json.dumps([ratio.to_dict() for ratio in found], indent=2) + "\n")
    return 0


def measure(bench: Bench, rounds: int, identity: str) -> list[Ratio]:
    """Take turns between a plain dump and a backup; then one backup beside visitors."""
    plain, made = [], []
    for number in range(rounds):
        plain.append(bench.plain_dump())
        made.append(bench.backup())
        print(f"round {number + 1} of {rounds} is over", file=sys.stderr, flush=True)
    dump = median(one.manifest["dump_seconds"] for one in made)
    proof = median(one.manifest["proof_seconds"] for one in made)
    whole = median(one.seconds for one in made)
    restore = bench.restore(made[-1], identity)
    before_ms: list[float] = []
    during_ms: list[float] = []
    with instances("app.wsgi:app", bench.stack.environment(DATABASE), 2) as running:
        with bench.visitors(running, WARM_UP_SECONDS, []):
            pass
        with bench.visitors(running, CALM_SECONDS, before_ms):
            pass
        # No longer than a backup takes alone, so that every request is beside it.
        with bench.visitors(running, whole, during_ms):
            beside = bench.backup()
    before, during = quantile(before_ms, 0.99), quantile(during_ms, 0.99)
    return [
        Ratio("the database, MB", bench.megabytes()),
        Ratio("the archive, MB", made[-1].manifest["size_bytes"] / 1e6),
        Ratio("a plain pg_dump -Fc -Z1, s", median(plain)),
        Ratio("the dump of a backup, s", dump),
        Ratio("the dump, of a plain one", dump / median(plain), most=1.2),
        Ratio("its proof, s", proof),
        Ratio("the proof, of the dump", proof / dump, most=6.0),
        Ratio("the whole backup, s", whole),
        Ratio("the same beside visitors, s", beside.seconds),
        Ratio("a restore beside the live database, s", restore),
        Ratio("visitors before, p99 ms", before),
        Ratio("visitors during a backup, p99 ms", during),
        Ratio("their p99, of that before", during / before, most=2.0),
    ]


def median(values: Iterator[float] | Sequence[float]) -> float:
    return quantile(list(values), 0.5)


if __name__ == "__main__":
    sys.exit(main())
