"""Backups: make and prove one, list them, verify one, restore one beside the live database."""

import argparse
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checks.backup import manifest
from checks.backup.directory import sole_backup
from checks.backup.make import RUN_DIR, BackupPlan, backup
from checks.backup.manifest import SUFFIX, Manifest, list_backups
from checks.backup.offsite import copy, parse_destination
from checks.backup.retention import Keep, prune
from checks.backup.verify import NotProven, restore_into, verify
from checks.base import command
from checks.base.errors import Misused
from checks.base.postgres import dsn
from checks.base.postgres_tools import Tools
from checks.base.report import Finding, Report, compare

# The largest niceness there is. An idle class would let a busy host starve it with its snapshot open.
LAST = 19
MAKE_ONE = "Make another: ./p12 backup"


def options(argv: Sequence[str]) -> argparse.Namespace:
    parser = command.parser("backup", "Dump the database, prove the dump by restoring it, and keep it.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where backups are kept")
    parser.add_argument("--bin-dir", type=Path, default=Tools().bin_dir, help="Postgres's own programs")
    parser.add_argument("--release", default="", help="the release in service, for the manifest")
    parser.add_argument("--run-dir", type=Path, default=RUN_DIR, help="short, for a socket")
    parser.add_argument("--queue-seconds", type=float, default=600.0, help="how long to wait for a turn")
    parser.add_argument("--timeout-seconds", type=float, default=3600.0, help="how long one program may take")
    parser.add_argument("--env-file", type=Path, help="a 0600 file that holds DATABASE_URL")
    parser.add_argument("--lock-seconds", type=float, default=30.0, help="how long a table may stay locked")
    parser.add_argument("--age-recipient", action="append", default=[], metavar="KEY", help="encrypt to it")
    parser.add_argument("--identity", type=Path, metavar="FILE", help="opens an encrypted backup")
    parser.add_argument("--copy", default="", metavar="PLACE", help="a directory, or ssh://user@host/path")
    parser.add_argument("--ssh-config", default="", metavar="FILE", help="for ssh -F")
    parser.add_argument("--keep", type=keep, metavar="N,N,N", help="latest, daily and weekly backups to keep")
    parser.add_argument("--dry-run", action="store_true", help="with --prune: only say what would go")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="print the backups there are, as JSON")
    instead.add_argument("--verify", metavar="ID", help="hold a backup against its manifest")
    instead.add_argument("--restore", metavar="ID", help="restore a backup into --database")
    instead.add_argument("--prune", action="store_true", help="remove what --keep does not keep")
    parser.add_argument("--database", metavar="NEW", help="with --restore: the database to create")
    return parser.parse_args(argv)


def keep(text: str) -> Keep:
    """Read ``--keep``, such as 3,7,4."""
    return Keep(*(int(number) for number in text.split(",", 2)))


def main(argv: Sequence[str]) -> int:
    """``python -m checks backup``: back up, or list, verify or restore what was backed up."""
    args = options(argv)
    if args.list:
        shown = [dataclasses.asdict(kept.manifest) for kept in list_backups(args.out)]
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
        return 0
    lower_priority()
    tidy_up_when_stopped()
    return command.answer(args, "backup", lambda: report(args))


def lower_priority() -> None:
    """Let the service go first: this process, and whatever it starts, gets what nobody else wants."""
    os.nice(LAST)


def tidy_up_when_stopped() -> None:
    """Let SIGTERM end this process as an exception does: its scratch cluster and half archive go with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def report(args: argparse.Namespace) -> Report:
    """Do what was asked and say what came of it."""
    facts: dict[str, Any] = {}
    made = None
    try:
        if args.prune:
            findings, facts = _pruned(args)
        else:
            findings, made = _done(args)
    except NotProven as refused:
        sys.stderr.write(f"{refused}\n")
        findings = refused.findings
    if made:
        known = dataclasses.asdict(made) | {"manifest": str(args.out / f"{made.id}{SUFFIX}")}
        facts = {
            name: value for name, value in known.items() if name not in ("tables", "sequences", "objects")
        }
    inputs = {name: str(getattr(args, name) or "") for name in ("out", "release", "verify", "restore")}
    return Report("backup", args.target, findings, inputs=inputs, facts=facts)


def _pruned(args: argparse.Namespace) -> tuple[tuple[Finding, ...], dict[str, Any]]:
    with sole_backup(args.out, args.queue_seconds, not args.dry_run):
        gone = prune(args.out, args.keep or Keep(), args.dry_run)
        left = [kept.manifest.id for kept in list_backups(args.out) if kept.manifest.id not in gone]
    return (compare("kept", len(left), ">=", 1, MAKE_ONE),), {"pruned": gone, "is_dry_run": args.dry_run}


def _done(args: argparse.Namespace) -> tuple[tuple[Finding, ...], Manifest]:
    tools = Tools(args.bin_dir, args.timeout_seconds)
    identity = args.identity.read_text() if args.identity else ""
    if args.restore and not args.database:
        raise Misused("--restore needs --database: name a new database to restore into.")
    if wanted := args.verify or args.restore:
        kept = manifest.find(args.out, wanted)
        if args.verify:
            return verify(kept.archive, kept.manifest, tools, identity), kept.manifest
        return restore_into(dsn(args.env_file), kept, args.database, tools, identity), kept.manifest
    to = parse_destination(args.copy, args.ssh_config) if args.copy else None
    same = ("out", "target", "release", "run_dir", "queue_seconds", "lock_seconds")
    plan = BackupPlan(
        url=dsn(args.env_file),
        tools=tools,
        recipients=tuple(args.age_recipient),
        **{name: getattr(args, name) for name in same},
    )
    made = backup(plan)
    if to:
        copy(manifest.find(args.out, made.id), to, args.timeout_seconds)
    if args.keep:
        _pruned(args)
    return _proven(made), made


def _proven(made: Manifest) -> tuple[Finding, ...]:
    """What a backup came to; one whose proof failed never gets here."""
    if made.nothing_to_lose:
        elsewhere = ", ".join(made.foreign_tables)
        hint = f"Rows of foreign tables are elsewhere: {elsewhere}." if elsewhere else ""
        return (compare("nothing_to_lose", 1, "==", 1, hint),)
    return (
        compare("restored_tables", len(made.tables), ">=", 1, MAKE_ONE),
        compare("restored_rows", made.contents.rows, ">=", 0, MAKE_ONE),
        compare("size_bytes", made.size_bytes, ">=", 1, MAKE_ONE),
    )
