"""A server dies or hangs under steady visitors: no view is lost or doubled, and all comes back by itself."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import requests
from aiohttp import ClientSession, TCPConnector

from rollout.host.installed_servers import Servers
from tests.integration.app.sites import MODES, POOL_SIZE, Site, site_in
from tests.integration.app.visitors import DROPPED, Visitors
from tests.running import wait_for

BACK_SECONDS = 5
PAUSE_SECONDS = 1.0
AT_ONCE = 300
DISK_MB = 128
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def site(servers: Servers, scratch: Path) -> Iterator[Site]:
    with site_in(scratch / "faults", servers, scratch) as made:
        yield made


def must_be_back(visitors: Visitors, since: float) -> None:
    """Wait until all instances serve again, and see that this took no longer than it may."""
    back = wait_for(lambda: visitors.back(since), "the visitors being served again")
    assert back is not None
    assert back - since <= BACK_SECONDS


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_a_postgres_that_restarts_loses_and_doubles_nothing(
    site: Site, mode: str, how: signal.Signals
) -> None:
    visitors = site.visitors(mode)

    with site.worker(), visitors.visiting():
        site.postgres.end(how)
        site.postgres.start_again()
        wait_for(lambda: site.cluster.run("SELECT 1"), "Postgres accepting connections")
        must_be_back(visitors, time.monotonic())

    assert visitors.unforeseen() == []
    site.must_have_counted(visitors)


@pytest.mark.parametrize("mode", MODES)
def test_a_pooler_killed_and_started_again_costs_only_503s(site: Site, mode: str) -> None:
    visitors = site.visitors(mode)

    with site.worker(), visitors.visiting():
        site.pgbouncer.end(signal.SIGKILL)
        wait_for(lambda: visitors.statuses()[503], "a visitor being told to come back")
        site.pgbouncer.start_again()
        must_be_back(visitors, time.monotonic())

    assert visitors.unforeseen() == []
    site.must_have_counted(visitors)


def test_a_paused_pooler_costs_its_pause_and_nothing_else(site: Site) -> None:
    visitors = site.visitors("inline")

    with visitors.visiting():
        with contextlib.ExitStack() as paused:
            site.command_pooler("PAUSE")
            paused.callback(site.command_pooler, "RESUME")
            until = time.monotonic() + PAUSE_SECONDS
            wait_for(lambda: time.monotonic() > until, "the pause")
        must_be_back(visitors, time.monotonic())

    assert set(visitors.statuses()) == {200}
    assert max(answer.ended - answer.started for answer in visitors.answers) >= PAUSE_SECONDS / 2
    site.must_have_counted(visitors)


def test_a_full_pooler_sheds_visitors_until_it_has_room(site: Site) -> None:
    visitors = site.visitors("inline")

    with visitors.visiting():
        with contextlib.ExitStack() as full:
            for _ in range(POOL_SIZE):
                holder = full.enter_context(contextlib.closing(psycopg2.connect(site.pooler_url())))
                holder.cursor().execute("SELECT 1")
            site.command_pooler("SET query_wait_timeout = 1")
            full.callback(site.command_pooler, "RELOAD")
            wait_for(lambda: visitors.statuses()[503], "a visitor being told to come back")
        must_be_back(visitors, time.monotonic())

    assert visitors.unforeseen() == []
    site.must_have_counted(visitors)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("whole", [False, True], ids=["its worker process", "all of it"])
def test_an_instance_killed_leaves_the_other_and_comes_again(site: Site, mode: str, whole: bool) -> None:
    visitors = site.visitors(mode)
    killed, other = site.slot.urls

    with site.worker(), visitors.visiting():
        site.slot.kill(0, whole=whole)
        if whole:
            wait_for(lambda: visitors.statuses()[DROPPED], "a visitor being dropped")
            site.slot.start(0)
        wait_for(lambda: requests.get(f"{killed}/healthz", timeout=5).ok, "the instance answering")
        must_be_back(visitors, time.monotonic())

    assert visitors.unforeseen(may_drop=[killed]) == []
    assert {answer.status for answer in visitors.answers if answer.base == other} == {200}
    site.must_have_counted(visitors)


def test_a_worker_killed_in_mid_batch_leaves_its_batch_to_the_next(site: Site) -> None:
    free, held = site.new_note(), site.new_note()
    queue = "INSERT INTO view_queue (note_id) SELECT {} FROM generate_series(1, {})"
    site.cluster.run(f"{queue.format(free, 10_000)}; {queue.format(held, 10_000)}")
    worker = [sys.executable, "-m", "app.worker"]

    with contextlib.closing(psycopg2.connect(site.cluster.url())) as holder:
        holder.cursor().execute(f"SELECT FROM notes WHERE id = {held} FOR UPDATE")
        process = subprocess.Popen(worker, env=site.slot.environment, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: site.cluster.run(BLOCKED) == [(1,)], "the worker being in the third batch")
        finally:
            process.kill()
            process.wait()
        assert site.queued() == 10_000
    site.slot.drain()

    assert site.queued() == 0
    assert site.views([free, held]) == {free: 10_000, held: 10_000}


@pytest.mark.parametrize("how", ["pushed", "put there"])
def test_every_request_started_after_a_flag_was_set_is_answered_with_it(site: Site, how: str) -> None:
    site.slot.set_flags()
    path = f"/api/notes/{site.new_note()}/view"
    in_force_since = [(time.monotonic(), site.slot.generation)]
    seen: list[tuple[float, int]] = []
    done = threading.Event()

    async def ask(session: ClientSession, number: int) -> None:
        base = site.slot.urls[number % len(site.slot.urls)]
        while not done.is_set():
            started = time.monotonic()
            async with session.post(base + path, headers={"X-FP": f"v{number}"}) as answer:
                seen.append((started, int(answer.headers["X-P12-Flags"])))

    def wait_until_seen() -> None:
        generation = site.slot.generation
        wait_for(
            lambda: sum(found == generation for _, found in seen) >= AT_ONCE, "answers with flags in force"
        )

    def set_flags() -> None:
        try:
            wait_until_seen()
            for mode in ("queue", "inline"):
                (site.slot.set_flags if how == "pushed" else site.slot.put_flags_there)(**MODES[mode])
                in_force_since.append((time.monotonic(), site.slot.generation))
                wait_until_seen()
        finally:
            done.set()

    async def ask_while_flags_are_set() -> None:
        async with ClientSession(connector=TCPConnector(limit=0)) as session:
            asking = (ask(session, number) for number in range(AT_ONCE))
            await asyncio.gather(asyncio.to_thread(set_flags), *asking)

    asyncio.run(ask_while_flags_are_set())

    for started, generation in seen:
        assert generation >= max(set_ for since, set_ in in_force_since if since <= started)


@pytest.fixture(scope="module")
def small_disk(scratch: Path) -> Iterator[Path]:
    """A disk of its own, just large enough for a cluster."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small disk that this test fills")
    disk = scratch / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "none", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)
    disk.rmdir()


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Take all the space that is left, and give it back at the end of the block."""
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(2**16)):
                pass
        yield
    finally:
        filler.unlink()


@pytest.fixture(scope="module")
def confined(servers: Servers, scratch: Path, small_disk: Path) -> Iterator[Site]:
    """A site whose database has the small disk."""
    with site_in(small_disk / "postgres", servers, scratch, max_wal_size="32MB", min_wal_size="32MB") as made:
        yield made


@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk_sheds_visitors_until_there_is_space(confined: Site, small_disk: Path, mode: str) -> None:
    visitors = confined.visitors(mode)

    with confined.worker(), visitors.visiting():
        with filled(small_disk):
            wait_for(lambda: visitors.statuses()[503], "a visitor being told to come back")
        must_be_back(visitors, time.monotonic())

    assert visitors.unforeseen() == []
    confined.must_have_counted(visitors)


def test_a_postgres_that_gave_up_on_a_full_disk_lost_nothing(confined: Site, small_disk: Path) -> None:
    visitors = confined.visitors("queue")

    def gave_up() -> bool:
        with contextlib.suppress(psycopg2.Error):
            confined.cluster.run("SELECT pg_switch_wal()")
        return confined.postgres.process.poll() is not None

    with confined.worker(), visitors.visiting():
        with filled(small_disk):
            wait_for(gave_up, "Postgres having nowhere to write its log")
        confined.postgres.start_again()
        wait_for(lambda: confined.cluster.run("SELECT 1"), "Postgres accepting connections")
        must_be_back(visitors, time.monotonic())

    assert visitors.unforeseen() == []
    confined.must_have_counted(visitors)
