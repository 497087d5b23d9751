"""Backups: make and prove one, list them, verify one, restore one beside the live database."""

import argparse
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from checks import command, manifest
from checks.database import dsn
from checks.dumping import RUN_DIR, Plan, backup
from checks.errors import Misused
from checks.manifest import SUFFIX, Backup, Manifest, list_backups
from checks.postgres_tools import Tools
from checks.proof import Refused, restore_into, verify
from checks.report import Finding, Report, compare

__all__ = ["Backup", "Manifest", "Plan", "Refused", "backup", "list_backups", "restore_into", "verify"]


def options(argv: Sequence[str]) -> argparse.Namespace:
    parser = command.parser("backup", "Dump the database, prove the dump by restoring it, and keep it.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where backups are kept")
    parser.add_argument("--bin-dir", type=Path, default=Tools().bin_dir, help="Postgres's own programs")
    parser.add_argument("--release", default="", help="the release in service, for the manifest")
    parser.add_argument("--run-dir", "--run-as-dir", type=Path, default=RUN_DIR, help="short, for a socket")
    parser.add_argument("--queue-seconds", type=float, default=600.0, help="how long to wait for a turn")
    parser.add_argument("--timeout-seconds", type=float, default=3600.0, help="how long one program may take")
    parser.add_argument("--env-file", type=Path, help="a 0600 file that holds DATABASE_URL")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="print the backups there are, as JSON")
    instead.add_argument("--verify", metavar="ID", help="hold a backup against its manifest")
    instead.add_argument("--restore", metavar="ID", help="restore a backup into --database")
    parser.add_argument("--database", metavar="NEW", help="with --restore: the database to create")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """``python -m checks backup``: back up, or list, verify or restore what was backed up."""
    args = options(argv)
    if args.list:
        shown = [dataclasses.asdict(kept.manifest) for kept in list_backups(args.out)]
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
        return 0
    # A stopped backup still has its scratch cluster to stop and its half archive to remove.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return command.answer(args, "backup", time.time, lambda: report(args))


def report(args: argparse.Namespace) -> Report:
    """Do what was asked and say what came of it."""
    started_at = time.time()
    tools = Tools(args.bin_dir, args.timeout_seconds)
    try:
        if args.verify:
            kept = manifest.find(args.out, args.verify)
            findings, made = verify(kept.archive, kept.manifest, tools), kept.manifest
        elif args.restore:
            if not args.database:
                raise Misused("--restore needs --database: name a new database to restore into.")
            kept = manifest.find(args.out, args.restore)
            url = dsn(args.env_file)
            findings, made = restore_into(url, kept, args.database, tools), kept.manifest
        else:
            plan = Plan(
                url=dsn(args.env_file),
                out=args.out,
                tools=tools,
                target=args.target,
                release=args.release,
                run_dir=args.run_dir,
                queue_seconds=args.queue_seconds,
            )
            made = backup(plan)
            findings = _proven(made)
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        return _report(args, refused.findings, started_at, None)
    return _report(args, findings, started_at, made)


def _proven(made: Manifest) -> tuple[Finding, ...]:
    """What a backup came to; one whose proof failed never gets here."""
    if made.nothing_to_lose:
        return (compare("nothing_to_lose", 1, "==", 1),)
    return (
        compare("restored_tables", len(made.tables), ">=", 1),
        compare("restored_rows", made.contents.rows, ">=", 0),
        compare("size_bytes", made.size_bytes, ">=", 1),
    )


def _report(
    args: argparse.Namespace, findings: tuple[Finding, ...], started_at: float, made: Manifest | None
) -> Report:
    known = dataclasses.asdict(made) if made else {}
    return Report(
        check="backup",
        target=args.target,
        findings=findings,
        started_at=started_at,
        finished_at=time.time(),
        inputs={
            "out": str(args.out),
            "release": args.release,
            "verify": args.verify,
            "restore": args.restore,
        },
        facts={name: value for name, value in known.items() if name not in ("tables", "sequences")}
        | ({"manifest": str(args.out / f"{made.id}{SUFFIX}")} if made else {}),
    )
