"""Databases beside the live one, on the database host: restored copies, and what a restore replaced.

What has become of a restore is read from the databases' own comments, so a stage that was killed is found as
far as it came: a copy is only marked once it was restored and equal, and the swap is one transaction.
"""

import json
import re
import time
from dataclasses import asdict
from typing import Any

import psycopg2
from psycopg2 import sql

from rollout import kept_backups
from rollout.database import OWNER
from rollout.errors import Refused
from rollout.maintenance import Server
from rollout.ownership import give
from rollout.proofs import explained, postgres_tools
from rollout.target import Target

COPY = "p12_copy_"
BESIDE = """
SELECT datname, pg_database_size(oid), shobj_description(oid, 'pg_database') LIKE '%%scratch_of%%'
FROM pg_database WHERE datname <> %s ORDER BY 1
"""


def listed(target: Target) -> dict[str, Any]:
    """List the backups with age, size and release, verified or not, and the databases of restores."""
    found = kept_backups.kept(target.directory / "backups")
    lines = [kept_backups.listed(target.name, found)]
    left = beside(target)
    lines += [f"  {name}  {size / 1e6:.0f} MB, beside the live database" for name, size in left.items()]
    return {
        "target": target.name,
        "backups": [asdict(each.backup.manifest) for each in found if each.backup],
        "unverified": {each.id: each.unverified for each in found if each.unverified},
        "databases": left,
        "say": "\n".join(lines),
    }


def into(target: Target, backup_id: str, name: str, identity: str = "") -> dict[str, Any]:
    """Restore a backup into a new database beside the live one, and compare digests with its manifest.

    ``identity`` is the private key that opens an encrypted one.

    :raises RolloutError: it cannot be opened, there is no such verified backup, the database exists, or the copy differs.
    """
    from checks import proof

    kept = kept_backups.require_verified(target.directory / "backups", backup_id)
    name = name or "restored_" + backup_id.replace("-", "_").lower()
    with explained(target, "restore"):
        findings = proof.restore_into(socket_url(target), kept, name, postgres_tools(target), identity)
    with Server.of(target).cursor(name) as cursor:
        give(cursor, name, OWNER)
        set_mark(cursor, name, {"scratch_of": backup_id})
    tables = [
        f"  {table:<28} {content['rows']:>9} rows  digest {str(content['digest'])[-12:]}  equal"
        for table, content in kept.manifest.tables.items()
    ]
    lines = [
        f"{target.name}: {backup_id} is back in the new database {name}, equal to what was dumped",
        *tables,
    ]
    return {
        "changed": True,
        "database": name,
        "compared": [str(finding) for finding in findings],
        "say": "\n".join([*lines, f"  away again with: ./p12 restore --drop {name}"]),
    }


def rehearse(target: Target, backup_id: str, identity: str = "") -> dict[str, Any]:
    """Restore a backup beside the live database, and remove it again; tell how long the restore took."""
    name = "restored_rehearsal"
    if name in beside(target):
        drop(target, name)
    started = time.monotonic()
    into(target, backup_id, name, identity)
    seconds = round(time.monotonic() - started, 3)
    drop(target, name)
    said = f"{target.name}: {backup_id} restored and equal in {seconds:.1f} s, and removed again"
    return {"changed": True, "seconds": seconds, "say": said}


def copy(target: Target, backup_id: str, restoration: int, identity: str = "") -> dict[str, Any]:
    """Restore a backup into a database of its own and compare; one that was finished before is kept.

    :raises RolloutError: the backup is not verified, damaged or cannot be opened with ``identity``, or the copy differs.
    """
    server, live = Server.of(target), target.settings["database"]
    done = mark_of(server, live)
    if done.get("restoration") == restoration:
        return {"swapped": True, "database": live, "replaced": done["replaced"]}
    kept = kept_backups.require_verified(target.directory / "backups", backup_id)
    name = copy_name(backup_id)
    if mark_of(server, name) == {"backup": backup_id}:
        return {"swapped": False, "database": name, "say": f"{target.name}: {name} is there already"}
    from checks import proof

    with server.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    started = time.monotonic()
    with explained(target, "restore"):
        findings = proof.restore_into(socket_url(target), kept, name, postgres_tools(target), identity)
    with server.cursor(name) as cursor:
        give(cursor, name, OWNER)
        set_mark(cursor, name, {"backup": backup_id})
    seconds = time.monotonic() - started
    return {
        "changed": True,
        "swapped": False,
        "database": name,
        "seconds": round(seconds, 3),
        "say": f"{target.name}: {backup_id} restored into {name} in {seconds:.1f} s, "
        f"{sum(f.verdict == 'passed' for f in findings)} of {len(findings)} comparisons equal",
    }


def drop(target: Target, name: str) -> dict[str, Any]:
    """Remove a database that a restore made or replaced, for good.

    :raises Refused: it is none of those; names those there are.
    """
    server = Server.of(target)
    there = beside(target)
    if name not in there:
        listed = ", ".join(f"{each} ({size / 1e6:.0f} MB)" for each, size in there.items()) or "none"
        raise Refused(f"{name} is no database that a restore left.", f"Accepted: {listed}")
    with server.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    return {"changed": True, "say": f"{target.name}: {name} is gone, {there[name] / 1e6:.0f} MB"}


def beside(target: Target) -> dict[str, int]:
    """Return the databases that restores left beside the live one, with their sizes in bytes."""
    replaced = f"{target.settings['database']}_replaced_"
    with Server.of(target).cursor() as cursor:
        cursor.execute(BESIDE, [target.settings["database"]])
        found = cursor.fetchall()
    return {name: int(size) for name, size, scratch in found if scratch or name.startswith((COPY, replaced))}


def copy_name(backup_id: str) -> str:
    return COPY + re.sub(r"\W", "_", backup_id.lower())[:50]


def socket_url(target: Target) -> str:
    """The DSN of the cluster's superuser, for programs that take one."""
    return str(psycopg2.extensions.make_dsn(**Server.of(target).dsn))


def mark_of(server: Server, name: str) -> dict[str, Any]:
    """Return what we noted at a database, empty when nothing or when it is not there."""
    with server.cursor() as cursor:
        cursor.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name]
        )
        row = cursor.fetchone()
    try:
        noted = json.loads((row or ("",))[0] or "{}")
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


def set_mark(cursor: Any, name: str, mark: dict[str, Any]) -> None:
    comment = sql.SQL("COMMENT ON DATABASE {} IS {}")
    cursor.execute(comment.format(sql.Identifier(name), sql.Literal(json.dumps(mark, sort_keys=True))))
