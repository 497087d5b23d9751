"""Whatever happens to a backup under way: earlier ones stay, nothing half is listed, it says what to do."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from checks.backup import verify
from checks.backup.manifest import find as find_backup
from checks.backup.manifest import list_backups
from checks.backup.offsite import copy, parse_destination
from checks.base.errors import CannotMeasure
from checks.base.postgres_tools import Tools
from rollout.host.installed_servers import find
from tests.integration.checks.backup.backups import backup, command, environment, files, name_of
from tests.integration.checks.conftest import SCHEMA
from tests.integration.checks.servers import BIN, UNPRIVILEGED, Cluster, wait_for
from tests.running import Supervised, pooler
from tests.running import cluster as supervised_cluster

# About 12 MB that hardly compress.
BALLAST = """
INSERT INTO notes (text) SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 180000) AS i
GROUP BY i % 15000
"""
WITHOUT_LOOKING_FIRST = """
import sys
from checks.backup import cli, make
make.need_space = lambda *_: None
sys.exit(cli.main(sys.argv[1:]))
"""
HELD = """#!/bin/sh
case "$*" in
*{part}*)
    "{program}" "$@"
    echo $$ > {place}/held
    read _ < {place}/gate
    ;;
*) exec "{program}" "$@" ;;
esac
"""


def must_be_as_before(out: Path, kept: dict[str, Any]) -> None:
    """Nothing is listed but the earlier backup, which is still whole."""
    (listed,) = list_backups(out)
    assert listed.manifest.id == kept["id"]
    assert verify.is_proven(verify.verify(listed.archive, listed.manifest, Tools(BIN)))


def test_a_locked_table_ends_the_backup_and_its_holder_is_named(
    out: Path, notes: str, kept: dict[str, Any]
) -> None:
    holder = psycopg2.connect(notes, application_name="a colleague")
    with contextlib.closing(holder), holder.cursor() as cursor:
        cursor.execute("LOCK TABLE view_log IN ACCESS EXCLUSIVE MODE")
        status, report, _ = backup(out, notes, "--lock-seconds", "0.2")
        pid = holder.info.backend_pid

    assert status == 4
    assert (
        f"A table stayed locked for 0.2 s: pid {pid} (a colleague, user nobody) has held view_log"
        in (report["summary"])
    )
    assert "with: LOCK TABLE view_log IN ACCESS EXCLUSIVE MODE" in report["summary"]
    assert f"pg_terminate_backend({pid})" in report["summary"]
    must_be_as_before(out, kept)


def test_a_pooler_is_never_dumped_through(out: Path, postgres: Cluster, notes: str, scratch: Path) -> None:
    with pooler(find(), scratch / "pooler", postgres) as port:  # type: ignore[arg-type]
        status, _, said = backup(out, f"postgresql://nobody@127.0.0.1:{port}/{name_of(notes)}")

    assert status == 2
    assert "leads through a pooler. Name Postgres itself" in said
    assert files(out) == set()


@contextlib.contextmanager
def disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A small disk that belongs to the user who makes backups."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small disk that this test fills")
    place.mkdir()
    options = f"size={megabytes}m,mode=700,uid={pwd.getpwnam('nobody').pw_uid}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


@pytest.fixture(scope="module")
def ballast(postgres: Cluster) -> Iterator[str]:
    postgres.run("CREATE DATABASE ballast")
    postgres.run(SCHEMA + BALLAST, "ballast")
    yield postgres.url("ballast")
    postgres.run("DROP DATABASE ballast")


def put(kept: dict[str, Any], source: Path, to: Path) -> None:
    """Put an earlier backup on a disk, readable by whoever makes the next one."""
    for path in source.glob(f"{kept['id']}.*"):
        shutil.copy(path, to)
        shutil.chown(to / path.name, "nobody")


@pytest.mark.parametrize(
    ("megabytes", "part"),
    [(2, "age failed"), (2, "pg_dump failed"), (30, "initdb failed"), (48, "pg_restore failed")],
)
def test_a_disk_that_fills_up_on_the_way_is_named_with_what_to_do(
    scratch: Path, made_once: tuple[Path, dict[str, Any]], ballast: str, megabytes: int, part: str
) -> None:
    kept = made_once[1]
    encrypted = ["--age-recipient", "age1" + "q" * 58] if part.startswith("age") else []
    with disk(scratch / "small", megabytes) as small:
        put(kept, made_once[0], small)

        status, report, said = blind_backup(small, ballast, *encrypted)

        assert status == 4, said
        assert part in report["summary"]
        assert "MB are free there now. Free some space" in report["summary"]
        must_be_as_before(small, kept)
        assert files(small) == {path.name for path in small.glob(f"{kept['id']}.*")}


def blind_backup(out: Path, url: str, *more: str) -> tuple[int, dict[str, Any], str]:
    """Back up without a look at the free space beforehand, as if it were taken meanwhile."""
    words = command(out, *more)
    start = words.index("-m")
    blind = [*words[:start], "-c", WITHOUT_LOOKING_FIRST, *words[start + 3 :]]
    done = subprocess.run(blind, env=environment(url), cwd="/", capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def test_a_full_disk_elsewhere_leaves_the_backup_here(out: Path, scratch: Path, kept: dict[str, Any]) -> None:
    with disk(scratch / "small", 1) as small:
        (small / "filler").write_bytes(bytes(1024 * 1020))

        with pytest.raises(CannotMeasure, match=r"No space left on device.* kept here, without a copy"):
            copy(find_backup(out, kept["id"]), parse_destination(str(small)), 10)

        assert files(small) == {"filler"}
    must_be_as_before(out, kept)


@pytest.fixture
def gate(scratch: Path) -> Iterator[Path]:
    """A place where programs can be held."""
    place = scratch / "gate"
    place.mkdir()
    os.mkfifo(place / "gate")
    (place / "gate").chmod(0o666)
    place.chmod(0o777)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def programs(gate: Path) -> Path:
    """Postgres's own programs, one of which may be held after its work."""
    place = gate / "bin"
    place.mkdir()
    for program in BIN.iterdir():
        (place / program.name).symlink_to(program)
    return place


def hold(programs: Path, name: str, part: str, program: Path | None = None) -> None:
    for held in programs.iterdir():
        if not held.is_symlink():
            held.unlink()
            held.symlink_to(BIN / held.name)
    script = programs / name
    script.unlink(missing_ok=True)
    script.write_text(HELD.format(part=part, program=program or BIN / name, place=programs.parent))
    script.chmod(0o755)


@contextlib.contextmanager
def held(gate: Path, words: list[str], variables: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Start a backup and give it when its program is held; whatever is still held ends with the block."""
    (gate / "held").unlink(missing_ok=True)
    pipe = subprocess.PIPE
    running = subprocess.Popen(words, env=variables, cwd="/", stdout=pipe, stderr=pipe, text=True)
    try:
        pid = int(wait_for(lambda: (gate / "held").read_text().strip(), "a program being held"))
        yield running
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    finally:
        running.kill()
        running.communicate()


PHASES = [
    ("pg_dump", "-Fc"),
    ("pg_restore", "/dev/null"),
    ("initdb", "-D"),
    ("pg_restore", "--exit-on-error"),
]


def test_a_backup_killed_in_any_phase_is_none_and_the_next_one_clears_up(
    out: Path, notes: str, kept: dict[str, Any], gate: Path, programs: Path, postgres: Cluster
) -> None:
    before = files(out)
    for name, part in PHASES:
        hold(programs, name, part)
        with held(gate, command(out, "--bin-dir", str(programs)), environment(notes)) as running:
            assert files(out) - before, (name, part)
            servers = [p for p in psutil.process_iter() if is_scratch_of(out, p)]
            running.send_signal(signal.SIGKILL)
            running.wait()

        must_be_as_before(out, kept)

    postgres.run("CREATE DATABASE nothing_yet")
    status, report, _ = backup(out, postgres.url("nothing_yet"))
    postgres.run("DROP DATABASE nothing_yet")

    assert status == 0
    assert files(out) == before | {f"{report['id']}.manifest.json"}
    assert servers
    wait_for(lambda: not any(server.is_running() for server in servers), "the orphaned server's end")


def is_scratch_of(out: Path, process: psutil.Process) -> bool:
    try:
        return any(word.startswith(f"{out}/.scratch-") for word in process.cmdline())
    except psutil.Error:
        return False


def test_a_backup_killed_between_its_names_and_its_manifest_is_none(
    out: Path, empty: str, kept: dict[str, Any]
) -> None:
    orphans = [
        out / "20300101T000000Z-production-abc.dump",
        out / "20300101T000000Z-production-abc.globals.sql.age",
    ]
    mine = out / "mine.dump"
    for path in [*orphans, mine]:
        path.write_bytes(b"whole, but never proven")
        if UNPRIVILEGED:
            shutil.chown(path, "nobody")

    must_be_as_before(out, kept)
    backup(out, empty)

    assert [path.exists() for path in orphans] == [False, False]
    assert mine.exists()


def test_a_postgres_restarted_in_mid_dump_ends_the_backup(
    out: Path, scratch: Path, kept: dict[str, Any], gate: Path
) -> None:
    if not shutil.which("age"):
        pytest.skip("age is not installed: apt-get install age")
    reading = gate / "path"
    reading.mkdir()
    # It takes the beginning of the dump and then no more, so the dump is held in its middle.
    lines = ["#!/bin/sh", "head -c 1000 > /dev/null", f"echo $$ > {gate}/held", f"read _ < {gate}/gate"]
    (reading / "age").write_text("\n".join([*lines, "cat > /dev/null", ""]))
    (reading / "age").chmod(0o755)
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(supervised_cluster(find(), scratch / "restarted"))
        server = Supervised(cluster.process, cluster.home, stack, signal.SIGINT)
        cluster.run(SCHEMA + BALLAST)
        words = command(out, "--age-recipient", "age1" + "q" * 58)
        variables = environment(cluster.url())

        variables["PATH"] = f"{reading}:{variables['PATH']}"
        with held(gate, words, variables) as running:
            server.end(signal.SIGINT)
            server.start_again()
            wait_for(lambda: cluster.run("SELECT 1"), "Postgres accepting connections")
            with (gate / "gate").open("w") as opened:
                opened.write("go\n")
            said, _ = running.communicate(timeout=30)

        assert running.returncode == 4
        assert "pg_dump failed" in json.loads(said)["summary"]
        assert "When Postgres is back: ./p12 backup" in json.loads(said)["summary"]
        must_be_as_before(out, kept)
