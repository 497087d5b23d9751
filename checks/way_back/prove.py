"""Prove on a copy of the database that the old release runs on what the new one makes of it, and back."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg2.extensions

from checks.base.report import Finding, Verdict, combine, compare
from checks.way_back import contract
from checks.way_back.contract import Notes, Written
from checks.way_back.instance import Instance, NotServed, Release, started


@dataclass(frozen=True)
class WayBack:
    """What came of it. ``schema`` is the revision that both ran on, empty where the migration stopped."""

    old: str
    new: str
    schema: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def verdict(self) -> Verdict:
        return combine(finding.verdict for finding in self.findings)


def prove(old: Release | None, new: Release, dsn: str, place: Path) -> WayBack:
    """Migrate the copy at ``dsn`` under the running old release, and have both do all they must.

    Where nothing served before, only the new one is asked: whether it can take the database over.

    ``place`` is a private directory for logs. Nothing but the copy is touched.
    """
    began = time.monotonic()
    steps = _Steps(old or new, new, url_of(dsn), place)
    both = (steps.before, steps.migrate, steps.old_goes_on, steps.new_serves, steps.old_comes_back)
    with steps.stack:
        for step in both if old else (steps.migrate, steps.new_serves):
            if not steps.run(step):
                break
    seconds = round(time.monotonic() - began, 3)
    return WayBack(old.name if old else "", new.name, steps.schema, tuple(steps.findings), seconds)


def url_of(dsn: str) -> str:
    """A DSN as the URL that the service takes; the host is a socket's directory."""
    parts = psycopg2.extensions.parse_dsn(dsn)
    return (
        f"postgresql://{quote(parts['user'], safe='')}@/{quote(parts['dbname'], safe='')}"
        f"?host={quote(parts['host'], safe='')}&port={parts['port']}"
    )


class _Steps:
    """The steps in order; each leaves what the next ones compare with."""

    def __init__(self, old: Release, new: Release, url: str, place: Path) -> None:
        self.old, self.new, self.url, self.place = old, new, url, place
        self.stack = ExitStack()
        self.findings: list[Finding] = []
        self.schema = ""
        self.notes: Notes = {}
        self.written: list[Written] = []

    def run(self, step: Callable[[], Iterator[str]]) -> bool:
        """Run a step, keep its finding, and say whether it went well."""
        try:
            complaints = list(step())
        except NotServed as error:
            complaints = [str(error)]
        name = step.__name__
        hint = "; ".join(complaints)
        self.findings.append(compare(name, len(complaints), "==", 0, hint))
        return self.findings[-1].verdict is Verdict.PASSED

    def before(self) -> Iterator[str]:
        """The old release on the schema in service: what it reads and writes there."""
        self.running = self._start(self.old)
        self.notes = contract.read(self.running)
        self.written += contract.write(self.running, "before")
        yield from ()

    def migrate(self) -> Iterator[str]:
        """The new release's migrations, while the old one serves."""
        self.schema = self.new.migrate(self.url)
        yield from ()

    def old_goes_on(self) -> Iterator[str]:
        """The old release, which was never stopped, on the new schema."""
        yield from self._serves(self.running, "old")

    def new_serves(self) -> Iterator[str]:
        """The new release, on what the old one wrote before and after."""
        self.newest = self._start(self.new)
        yield from self._serves(self.newest, "new")

    def old_comes_back(self) -> Iterator[str]:
        """The old release, started anew after the new one has written; both read all that is there alike."""
        again = self._start(self.old)
        by_new = contract.read(self.newest)
        yield from contract.same(by_new, contract.read(again))
        yield from self._serves(again, "back")
        yield from contract.same(contract.read(again), contract.read(self.newest))

    def _serves(self, instance: Instance, who: str) -> Iterator[str]:
        yield from contract.same(self.notes, contract.read(instance))
        for written in self.written:
            contract.repeat(instance, written)
        self.written += contract.write(instance, who)

    def _start(self, release: Release) -> Instance:
        return self.stack.enter_context(started(release, self.url, self.place))
