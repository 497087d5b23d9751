"""Databases beside the live one, on the database host: restored copies, and what a restore replaced.

What has become of a restore is read from the databases' own comments, so a stage that was killed is found as
far as it came: a copy is only marked once it was restored and equal, and the swap is one transaction.
"""

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg2

from checks.backup.manifest import Backup
from checks.base.report import Finding
from rollout.database import backup_list
from rollout.database.comments import (
    COPY,
    beside,
    copy_name,
    drop_database,
    mark_of,
    restore_lock,
    set_mark,
    written,
)
from rollout.database.postgres import Cluster
from rollout.database.roles import give
from rollout.errors import Refused
from rollout.host.run_checks import as_rollout_error, postgres_tools
from rollout.target.dsn import OWNER
from rollout.target.target import Target
from rollout.text import size_text

# It goes when a rehearsal ends, or the next one begins.
REHEARSAL = "restored_rehearsal"


def listed(target: Target) -> dict[str, Any]:
    """List the backups with age, size and release, verified or not, and the databases of restores."""
    found = backup_list.kept(target.directory / "backups")
    left = {} if target.is_database_elsewhere else beside(Cluster.of(target), target.settings["database"])
    lines = [backup_list.listed(target.name, found)]
    lines += [
        f"  {name}  {size_text(size)}, {'' if whole else 'unfinished, '}beside the live database"
        for name, (size, whole) in left.items()
    ]
    return {
        "target": target.name,
        "backups": [asdict(each.backup.manifest) for each in found if each.backup],
        "unverified": {each.id: each.unverified for each in found if each.unverified},
        "databases": {name: size for name, (size, _) in left.items()},
        "say": "\n".join(lines),
    }


def into(target: Target, backup_id: str, name: str, identity: str = "") -> dict[str, Any]:
    """Restore a backup into a new database beside the live one, and compare digests with its manifest.

    ``identity`` is the private key that opens an encrypted one. A database of that name that an earlier
    restore left unfinished goes first.

    :raises RolloutError: there is no such verified backup, it cannot be opened, the name is taken or none,
        or the copy differs.
    """
    name = name or copy_name(backup_id, "restored_")
    refuse_name(target, name)
    return _into(target, backup_id, name, identity)


def _into(target: Target, backup_id: str, name: str, identity: str) -> dict[str, Any]:
    kept = backup_list.require_verified(target.directory / "backups", backup_id)
    findings = _restored(target, kept, name, {"scratch_of": backup_id}, identity)
    tables = [
        f"  {table:<28} {content['rows']:>9} rows  digest {str(content['digest'])[-12:]}  equal"
        for table, content in kept.manifest.tables.items()
    ]
    lines = [
        f"{target.name}: {backup_id} is back in the new database {name}, equal to what was dumped",
        *tables,
    ]
    server = Cluster.of(target).dsn
    lines.append(f"  look at it, on its host: psql -h {server['host']} -p {server['port']} {name}")
    return {
        "changed": True,
        "database": name,
        "compared": [str(finding) for finding in findings],
        "say": "\n".join([*lines, f"  away again with: ./p12 restore --drop {name}"]),
    }


def refuse_name(target: Target, name: str) -> None:
    """Refuse to restore into the live database, or into one that a restore over it would take for its own."""
    live = target.settings["database"]
    if name in (live, REHEARSAL) or name.startswith((COPY, f"{live}_replaced_")):
        raise Refused(
            f"{name} is no name for a database beside {live}.",
            f"Accepted: any but {live}, {REHEARSAL}, {COPY}… and {live}_replaced_…",
        )


def rehearse(target: Target, backup_id: str, identity: str = "") -> dict[str, Any]:
    """Restore a backup beside the live database, and remove it again; tell how long the restore took."""
    if REHEARSAL in beside(Cluster.of(target), target.settings["database"]):
        drop(target, REHEARSAL)
    started = time.monotonic()
    _into(target, backup_id, REHEARSAL, identity)
    seconds = round(time.monotonic() - started, 3)
    drop(target, REHEARSAL)
    said = f"{target.name}: {backup_id} restored and equal in {seconds:.1f} s, and removed again"
    return {"changed": True, "seconds": seconds, "say": said}


def copy(target: Target, backup_id: str, restoration: int, identity: str = "") -> dict[str, Any]:
    """Restore a backup into a database of its own and compare; one finished for this restore is kept.

    One of another restore is not: nobody knows what was done to it since.

    :raises RolloutError: the restore was given up, the backup is not verified, damaged or cannot be opened
        with ``identity``, or the copy differs.
    """
    cluster, live, name = Cluster.of(target), target.settings["database"], copy_name(backup_id)
    done = mark_of(cluster, live)
    if done.get("restoration") == restoration:
        return {"swapped": True, "database": live, "replaced": done["replaced"]}
    refuse_given_up(done, restoration)
    kept = backup_list.require_verified(target.directory / "backups", backup_id)
    mark = {"backup": backup_id, "restoration": restoration}
    if mark_of(cluster, name) == mark:
        return {"swapped": False, "database": name, "say": f"{target.name}: {name} is there already"}
    started = time.monotonic()
    findings = _restored(target, kept, name, mark, identity)
    seconds = time.monotonic() - started
    return {
        "changed": True,
        "swapped": False,
        "database": name,
        "seconds": round(seconds, 3),
        "say": f"{target.name}: {backup_id} restored into {name} in {seconds:.1f} s, "
        f"{sum(f.verdict == 'passed' for f in findings)} of {len(findings)} comparisons equal",
    }


def give_up(target: Target, backup_id: str, restoration: int) -> dict[str, Any]:
    """Take a restore's copy away, so that nobody can swap it in any more, and say whether somebody has.

    ``replaced`` names the database that was live before, empty if it still is. Whoever drove this restore may
    only be asleep, so this comes before writes are taken again.
    """
    cluster, live = Cluster.of(target), target.settings["database"]
    # First, and then asked: a swap under way has either happened by then or finds no copy.
    drop_database(cluster, copy_name(backup_id))
    done = mark_of(cluster, live)
    if done.get("restoration") == restoration:
        return {"replaced": done["replaced"], "say": f"{target.name}: {backup_id} is live already"}
    with cluster.cursor() as cursor:
        set_mark(cursor, live, {**done, "given_up": restoration})
    return {"changed": True, "replaced": ""}


def refuse_given_up(live: dict[str, Any], restoration: int) -> None:
    """Refuse a restore that somebody gave up or a later one overtook, by the mark of the live database."""
    last = max(live.get("given_up", -1), live.get("restoration", -1))
    if restoration <= last:
        raise Refused(
            f"Restore {restoration} was given up or overtaken (the last one is {last}); nothing was changed.",
            "./p12 status",
        )


def drop(target: Target, name: str) -> dict[str, Any]:
    """Remove a database that a restore made or replaced, for good.

    :raises Refused: it is none of those; names those there are.
    """
    cluster = Cluster.of(target)
    there = beside(cluster, target.settings["database"])
    if name not in there:
        listed = ", ".join(f"{each} ({size_text(size)})" for each, (size, _) in there.items()) or "none"
        raise Refused(f"{name} is no database that a restore left.", f"Accepted: {listed}")
    drop_database(cluster, name)
    return {"changed": True, "say": f"{target.name}: {name} is gone, {size_text(there[name][0])}"}


def require_room(target: Target, kept: Backup) -> None:
    """Refuse to restore where it would fill the disk of the live database; asks that where its files are."""
    with Cluster.of(target).cursor() as cursor:
        cursor.execute("SHOW data_directory")
        data = Path(cursor.fetchone()[0])
    backup_list.require_room(target.name, kept, data, free_bytes(data))


def free_bytes(place: Path) -> int:
    return shutil.disk_usage(place).free


def socket_url(target: Target) -> str:
    """The DSN of the cluster's superuser, for programs that take one."""
    return str(psycopg2.extensions.make_dsn(**Cluster.of(target).dsn))


def _restored(
    target: Target, kept: Backup, name: str, mark: dict[str, Any], identity: str
) -> tuple[Finding, ...]:
    """Restore into a new database and mark it once it is whole; until then it is marked as unfinished.

    It has the locale of the live one, and is the service's; so is all in it if its owners are not known here.
    """
    from checks.backup import properties, verify

    cluster = Cluster.of(target)
    with restore_lock(cluster, name), as_rollout_error(target, "restore"):
        if name.startswith(COPY) or "unfinished" in mark_of(cluster, name):
            drop_database(cluster, name)
        require_room(target, kept)
        unfinished = written({"unfinished": kept.manifest.id})
        with cluster.cursor() as cursor:
            locale = properties.read(cursor.connection, target.settings["database"]).locale
        findings = verify.restore_into(
            socket_url(target), kept, name, postgres_tools(target), identity, unfinished, locale
        )
        with cluster.cursor(name) as cursor:
            give(cursor, name, OWNER, is_all=any(found.name == "roles_missing" for found in findings))
            set_mark(cursor, name, mark)
    return findings
