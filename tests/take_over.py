"""The day an owner moves in: today's service, on servers that are somebody else's, and the kit beside it.

A whole local site whose production has neither a database nor a Redis of its own. Visitors come all the time,
from the moment that every request is passed on to today's service.
"""

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import yaml

from rollout.host.installed_servers import find
from tests.elsewhere import DATABASE, Elsewhere, elsewhere
from tests.running import free_port, wait_for
from tests.today.database import ROWS
from tests.today.service import running_today
from tests.whole_site import Site, whole_site

WHY = "first release beside what ran before"
SNAPSHOT = "snapshot-of-the-provider"
# What nobody has written since: the notes that were there, without what today's service leaves null.
UNTOUCHED = """
SELECT md5(string_agg(row::text, E'\\n' ORDER BY id)) FROM (
    SELECT id, text, timestamp, expires_at, coalesce(likes, 0) AS likes, coalesce(views, 0) AS views,
           coalesce(reports, 0) AS reports, author_fp, deleted_at,
           (SELECT count(*) FROM view_log WHERE note_id = notes.id) AS viewed,
           (SELECT count(*) FROM like_log WHERE note_id = notes.id) AS liked
    FROM notes WHERE id <= 400) AS row
"""


@dataclass
class Move:
    """A site that moves in, what it moves from, and how long each step took in seconds."""

    site: Site
    there: Elsewhere
    port: int
    today: contextlib.ExitStack
    seconds: dict[str, float] = field(default_factory=dict)
    failed_before: int = 0
    requests_before: int = 0
    requests: int = 0
    failed_at_the_end: int = 0
    figures: list[tuple[str, str]] = field(default_factory=list)

    def do(self, step: str, *words: str) -> str:
        """Type a command, and keep how long it took; returns what it says."""
        started = time.monotonic()
        done = self.site.p12(*words)
        self.seconds[step] = round(time.monotonic() - started, 2)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def sql(self, query: str) -> list[Any]:
        """Ask the database as its owner."""
        with contextlib.closing(psycopg2.connect(self.there.direct())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchall() if cursor.description else []

    def start_today(self) -> None:
        """Start today's service, which makes its tables and triggers.

        Its views deadlock with each other, a tenth of them at a hundred a second: it tries them again here
        until they are counted, so that what fails is the move's.
        """
        self.today.enter_context(running_today(self.there.direct(), self.port, tries=1000))

    def look(self) -> dict[str, Any]:
        """What ``./p12 adopt --check`` says of the database."""
        done = self.site.p12(
            "adopt", "--check", "--json", "--inventory", str(self.site.checkout / "inventories/local")
        )
        assert done.stdout, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said | {"status": done.returncode}

    def take_triggers_away(self) -> None:
        """Type what the look says against each trigger."""
        for finding in self.look()["findings"]:
            if finding["name"] == "trigger" and finding["verdict"] == "failed":
                self.sql(finding["hint"].partition(";")[0])

    def untouched(self) -> str:
        ((digest,),) = self.sql(UNTOUCHED)
        return str(digest)

    def begin(self) -> None:
        """From now on every request is one that somebody can answer."""
        self.await_visits(50)
        seen = self.site.visitors()
        self.failed_before, self.requests_before = int(seen["failed"]), int(seen["requests"])

    def end(self) -> None:
        """Keep what visitors had, for the site goes."""
        self.failed_at_the_end = self.failed
        self.requests = int(self.site.visitors()["requests"]) - self.requests_before

    def back(self) -> float:
        """Roll back to today's service; returns the seconds from Enter."""
        self.do("back", "rollback")
        return self.seconds["back"]

    def await_visits(self, more: int = 300) -> None:
        """Wait until so many more requests were made."""
        wanted = self.site.visitors()["requests"] + more
        wait_for(lambda: self.site.visitors()["requests"] >= wanted, f"{more} more requests", 60)

    @property
    def failed(self) -> int:
        """Requests of visitors that failed since today's service had the first one through HAProxy."""
        return int(self.site.visitors()["failed"]) - self.failed_before

    def servers(self) -> list[str]:
        return sorted(slot for slot, share in self.site.status()["shares"].items() if share)


@contextlib.contextmanager
def move(settings: str, rate: int = 100) -> Iterator[Move]:
    """Have today's service run, with 400 notes, and a site that knows of it and is not provisioned yet."""
    home, port = Path(tempfile.mkdtemp(prefix="p12-elsewhere-")), free_port()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        there = stack.enter_context(elsewhere(find(), home))
        today = stack.enter_context(contextlib.ExitStack())
        site = stack.enter_context(whole_site(settings, variables(there, port, rate)))
        forget_own_servers(site)
        made = Move(site, there, port, today)
        made.start_today()
        made.sql(ROWS)
        yield made


def variables(there: Elsewhere, port: int, rate: int) -> str:
    """What the owner says of production, as JSON, which is YAML."""
    said = {
        "p12_visitors_rate": rate,
        "p12_today_servers": [f"127.0.0.1:{port}"],
        "p12_today_check": "/api/health",
        "p12_today_url": f"http://127.0.0.1:{port}",
        "p12_database_url_direct": there.direct(),
        "p12_database_url_pooled": there.pooled(),
        "p12_database_url_monitor": there.direct("looker"),
        "p12_pgbouncer_url": there.console(),
        "p12_database_ca": there.ca.read_text(),
        "p12_redis_url": there.redis(),
        "p12_backup_host": "production-local",
        "p12_snapshot_command": ["/bin/echo", SNAPSHOT],
    }
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in said.items())


def forget_own_servers(site: Site) -> None:
    """Take production out of the groups of hosts for databases and for Redis."""
    path = site.checkout / "inventories/local/hosts.yml"
    hosts = yaml.safe_load(path.read_text())
    for group in ("database", "cache"):
        del hosts[group]["hosts"]["production-local"]
    path.write_text(yaml.safe_dump(hosts))
    site.git("commit", "-qam", "Production's database and Redis are somebody else's")


def passwords(there: Elsewhere) -> list[str]:
    """What no file that anybody else may read, and nothing that is said, may hold."""
    urls = (there.direct(), there.pooled(), there.direct("looker"), there.console(), there.redis())
    return sorted({str(urlsplit(url).password) for url in urls})


__all__ = ["DATABASE", "SNAPSHOT", "WHY", "Move", "move", "passwords"]
