"""Ship a variant of the service as a branch through the real playbooks, and see what stops it."""

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from rollout.target.dsn import OWNER, database_url
from rollout.target.target import Target
from tests.faults.catalogue import Fault, apply
from tests.faults.stalls import stalling
from tests.whole_site import Site

STOPPED = re.compile(r"^ *stopped +(.*)$", re.MULTILINE)
# How often a release that was stopped, and not for what it did, is typed again.
MOST_TRIES = 6
GOOD_CHANGE = ("app/web/health.py", "\n# One more line.\n")
# A gate by the words with which it stops a release.
GATES = (
    ("window", re.compile(r": window (failed|held|unknown)")),
    ("way back", re.compile(r"no way back from ")),
    ("burst", re.compile(r": burst:? ")),
    ("slot", re.compile(r"instances? (run|has|have|is|are|answer)|flag generation|is ready|-\d@")),
    ("preflight", re.compile(r"preflight|connections|budget")),
)


@dataclass(frozen=True)
class Outcome:
    """How a shipment ended: whether it was stopped, by which gate, in which words, after how many seconds.

    ``is_back`` says that production serves what it served before; ``failed_requests`` are the visitors'.
    """

    name: str
    is_stopped: bool
    gate: str
    says: str
    seconds: float
    is_back: bool
    requests: int
    failed_requests: int

    @property
    def may_go_on(self) -> bool:
        """Whether it was stopped for something else than a release that was found faulty."""
        return self.is_stopped and not re.search(r": window failed|Failed: the harm", self.says)


def ship(site: Site, fault: Fault) -> Outcome:
    """Commit a fault on a branch of its own and release it."""
    site.git("checkout", "-q", "-B", f"fault-{fault.name}", "main")
    apply(fault, site.checkout)
    site.git("add", "--all", "app")
    site.git("commit", "-q", "--allow-empty", "-m", f"Fault: {fault.what}")
    site.git("checkout", "-q", "main")
    migrates = any("/migrations/" in edit.path for edit in fault.edits)
    with schema_of_staging_kept(site) if migrates else contextlib.nullcontext():
        return release(site, fault.name, f"fault-{fault.name}", fault.options)


@contextlib.contextmanager
def schema_of_staging_kept(site: Site) -> Iterator[None]:
    """Undo what a fault's migration makes of staging, where the next fault would meet it."""
    staging = Target.load("staging", site.root)
    programs, database = Path(staging.settings["postgres_bin"]), database_url(staging, OWNER)
    dump = subprocess.run(
        [programs / "pg_dump", "--schema=public", database], capture_output=True, check=True
    ).stdout
    yield
    psql = [programs / "psql", "-qXv", "ON_ERROR_STOP=1", "--single-transaction", database]
    subprocess.run(psql, input=b"DROP SCHEMA public CASCADE;\n" + dump, capture_output=True, check=True)


def ship_good(site: Site, number: int) -> Outcome:
    """Commit a change that changes nothing, and release it."""
    path, line = GOOD_CHANGE
    site.commit("good", path, lambda text: text + line * number)
    return release(site, f"good {number}", "good", ())


def ship_again(site: Site, number: int) -> Outcome:
    """Roll the good release back and take it up once more, while production's database stalls at random.

    What is held or unknown is typed again, as it says; what is blamed on the release is not.
    """
    site.p12("rollback")
    before = site.live()
    tries: list[Outcome] = []
    with stalling(site, Random(number)) as stalls:
        while len(tries) < MOST_TRIES and (not tries or tries[-1].may_go_on):
            tries.append(release(site, f"again {number}", "good", ("--why", "A/A"), ("promote", "monitor")))
    stopped = "; ".join(each.says for each in tries if each.is_stopped)
    said = f"{len(tries) - 1} times typed again, {len(stalls)} stalls{stopped and ': '}{stopped}"
    return replace(
        tries[-1],
        says=said,
        seconds=sum(each.seconds for each in tries),
        is_back=site.live() == before,
        requests=sum(each.requests for each in tries),
        failed_requests=sum(each.failed_requests for each in tries),
    )


def release(
    site: Site, name: str, branch: str, options: tuple[str, ...], verbs: tuple[str, ...] = ("release",)
) -> Outcome:
    """Type commands one after the other, until one is stopped."""
    before, seen = site.live(), site.visitors()
    started = time.monotonic()
    for verb in verbs:
        done = site.p12(verb, "--branch", branch, *options)
        if done.returncode:
            break
    seconds = time.monotonic() - started
    said = done.stdout + done.stderr
    words = STOPPED.search(said)
    after = site.visitors()
    return Outcome(
        name,
        done.returncode != 0,
        gate_of(words[1]) if words else "",
        words[1].strip() if words else said[-400:] if done.returncode else "",
        seconds,
        site.live() == before,
        after["requests"] - seen["requests"],
        after["failed"] - seen["failed"],
    )


def gate_of(words: str) -> str:
    return next((name for name, pattern in GATES if pattern.search(words)), "?")
