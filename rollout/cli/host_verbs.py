"""The verbs of ``p12 host``, an entry each: name, function, help, and the options that the function takes.

A function is named and not imported: a rollback must not wait for what it does not use. Its first parameter,
``target`` or ``steering``, says what it works on; the options come by their names.
"""

import argparse
import getpass
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from rollout.cli.verb_table import Option, choice, flag, option
from rollout.target.target import FULL_SHARE, SLOTS, Target


@dataclass(frozen=True)
class Verb:
    """What a playbook asks of a host; ``name`` has a second word where a verb does several things."""

    name: str
    function: str
    help: str
    options: tuple[Option, ...] = ()
    # The parameter that the JSON document on standard input goes to, or those that its parts go to.
    reads: str | tuple[str, ...] = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    # Whether it has to see what only root can, and becomes the target's owner by itself.
    starts_as_root: bool = False

    def run(self, target: Target, options: Mapping[str, Any]) -> Any:
        """Call the function and return its answer; who asked, why and under which lock, if it wants that."""
        module, _, name = self.function.partition(":")
        function = getattr(import_module(module), name)
        first, *others = signature(function).parameters
        given = {name: value for name, value in options.items() if name in others or name not in OF_ANYBODY}
        if isinstance(self.reads, tuple):
            document = json.load(sys.stdin)
            given |= {name: document[name] for name in self.reads if name in document}
        elif self.reads:
            given[self.reads] = json.load(sys.stdin)
        if first == "target":
            return function(target, **given, **self.fixed)
        from rollout.target.steering import Steering

        return function(Steering.of(target), **given, **self.fixed)


class ReadInput(argparse.Action):
    """Take the text on standard input; on a command line everybody on the host could read it."""

    def __call__(self, _: Any, namespace: argparse.Namespace, *__: Any) -> None:
        setattr(namespace, self.dest, sys.stdin.read())


def verb(
    name: str,
    function: str,
    help: str,
    *options: Option,
    reads: str | tuple[str, ...] = "",
    as_root: bool = False,
    **fixed: Any,
) -> Verb:
    return Verb(name, f"rollout.{function}", help, options, reads, fixed, as_root)


EVERYWHERE = (
    option("--owner", default=os.environ.get("SUDO_USER") or getpass.getuser(), help="who asks"),
    option("--why", default="", help="the reason, for the journal"),
    option("--token", type=int, help="of the lock that is held"),
)
OF_ANYBODY = ("owner", "why", "token")
# Of the document that says what is released.
NAME, BYTES, WHOLE = ("release",), ("release", "sha256"), ("release", "commit", "sha256", "committed_at")
SLOT = choice("--slot", *SLOTS, required=True)
ANY_SLOT = choice("--slot", *SLOTS, default="", help="default: the one that serves")
MINUTES = option(
    "--minutes", type=lambda said: float(said) if said else None, help="how long the monitor window is"
)
SINCE = option("--since", default="", metavar="WHEN", help="90min, 12h, 7d, or a day's time")
NAMES = option("names", nargs="*", metavar="NAME")
BACKUP = option("--backup", dest="backup_id", required=True, metavar="ID")
IDENTITY = option(
    "--identity", action=ReadInput, nargs=0, default="", help="the private key is on standard input"
)
RESTORATION = option("--restoration", type=int, required=True, help="the number of the restore")

TABLE = (
    verb("status", "steps.status:report", "say what is true of the target now"),
    verb("summary", "steps.status:summary", "say it in a line"),
    verb("rollback", "steps.rollback:by_hand", "turn traffic back and lower the flags", flag("--flags-only")),
    verb("flags list", "steps.flags:listed", "list each slot's flags and who has them"),
    verb("flags set", "steps.flags:set_flags", "want NAME=VALUE …",
         option("pairs", nargs="*", metavar="NAME=VALUE"), ANY_SLOT),
    verb("flags on", "steps.flags:on", "want NAME=1 …", NAMES, ANY_SLOT),
    verb("flags off", "steps.flags:off", "lower what the release raised, or only NAME …", NAMES, ANY_SLOT,
         option("--generation", type=int, help="back to what this generation held")),
    verb("lock show", "steps.lock:show", "say who has the target"),
    verb("lock take", "steps.lock:take", "take the target, or what a dead session had",
         flag("--try", dest="tentative", help="say who has it instead of refusing"),
         reads=("owner", "session", "dead")),
    verb("lock drop", "steps.lock:drop", "give the target back"),
    verb("lock end", "steps.lock:end", "give back what a session that has ended had",
         option("--session", required=True)),
    verb("lock break", "steps.lock:break_", "take the target away from whoever has it"),
    verb("journal", "steps.reports:entries", "show everything that changed the target",
         flag("--verify", help="only see whether the whole chain holds"), SINCE),
    verb("history", "guard.history:report", "tell each release's stages, and the four DORA figures", SINCE),

    verb("serving", "steps.rollout:serving", "say which release serves and whether a backup of it is due",
         option("--reuse", type=json.loads, default=False, metavar="JSON", help="a fresh one is enough"),
         option("--new", type=json.loads, default={}, metavar="JSON", help="the release that is to come")),
    verb("allow", "steps.window:allow", "refuse what a rule of the house is against, or too short a window",
         MINUTES, reads=("release", "branches")),
    verb("approve", "steps.house_rules:approve", "journal whose signature lets a release go",
         reads=("shown", "signature")),
    verb("retained", "steps.reports:retained", "say why each release is kept"),
    verb("releases", "host.slot:listed", "list the releases of this host, and why", reads="reasons"),
    verb("plan", "steps.rollout:plan", "say what is already true of a release", reads=BYTES),
    verb("claim", "steps.rollout:claim", "note that the idle slot is being filled", reads=BYTES),
    verb("install", "host.slot:install", "unpack an artifact into a slot", SLOT,
         option("--artifact", required=True, type=Path), reads=BYTES),
    verb("migrate", "host.programs:migrate", "bring the database to the slot's schema", SLOT,
         option("--database", default="", help="default: the live one"),
         flag("--briefly", help="wait for locks for two seconds, then say who is in the way"),
         option("--seconds", type=float, help="how long to wait for locks; default: as the site says")),
    verb("await", "host.slot:await_instances", "wait until a host's instances are ready", SLOT,
         option("--host", required=True),
         option("--seconds", type=float, default=30.0, help="how long to wait"), reads=NAME),
    verb("prove", "steps.prove:prove", "show that its slot runs the release, with its flags",
         option("--flags", type=json.loads, default={}, help="where no certificate says which"), reads=WHOLE),
    verb("admit", "steps.rollout:admit", "accept staging's certificate", reads="shown"),
    verb("begin", "steps.rollout:begin", "begin the rollout of a proven slot",
         option("--steps", type=json.loads, default=[], metavar="JSON", help="the plan's"), reads=NAME),
    verb("shift", "steps.rollout:shift", "put a share of the traffic on the release",
         option("--share", type=lambda said: int(said) if said else None,
                choices=(None, *range(FULL_SHARE + 1)), metavar="PERCENT",
                help="default: all of it but the holdback"), reads=NAME),
    verb("window open", "steps.window_wait:announce_window", "have the guard watch",
         choice("--kind", "step", "monitor", default="step"), MINUTES),
    verb("window wait", "steps.window_wait:wait", "wait for the guard's verdict", reads=("id",)),
    verb("decide pass", "steps.window_wait:decide", "let an unknown window pass", passed=True),
    verb("decide fail", "steps.window_wait:decide", "turn traffic back after an unknown one", passed=False),
    verb("steer pause", "steps.in_flight:pause", "hold up the release that is under way"),
    verb("steer resume", "steps.in_flight:resume", "let it go on"),
    verb("steer now", "steps.in_flight:promote_now", "let its newest window pass as it stands"),
    verb("steer abort", "steps.in_flight:abort", "turn it back, quarantined; whoever waits for it stops"),
    verb("adopt", "steps.adopt:adopt", "pass every request to today's service"),
    verb("adopt finish", "steps.adopt:leave", "give up the way back to today's service"),
    verb("finish", "steps.rollout:finish", "give the release the rest and mark it good", reads=NAME),
    verb("prune", "host.room:prune", "remove releases and samples that nobody needs",
         option("--keep", required=True, type=lambda names: names.split(","), metavar="COMMIT12,…")),
    verb("prune-kits", "host.room:prune_kits", "remove kits that nobody needs", as_root=True),
    verb("room", "host.room:show", "name what takes room, and what bounds it"),

    verb("burst", "host.run_checks:burst", "burst the front door", reads=NAME),
    verb("counters", "host.run_checks:counters", "hold counters against the visitors' ledger"),
    verb("record check", "steps.reports:record", "journal a check's report", reads="report", kind="check"),
    verb("record backup", "steps.reports:record", "journal a verified backup", reads="report", kind="backup"),
    verb("record pruned", "steps.reports:record", "journal removed backups", reads="report", kind="pruned"),
    verb("certificate write", "steps.reports:write_certificate", "certify what passed here", reads=NAME),
    verb("certificate show", "steps.reports:certificate_of", "show whether it holds", reads=BYTES),
    verb("certificate key", "steps.reports:certificate_key", "show the public key of what is signed here"),
    verb("certificate trust", "steps.reports:trust", "trust what this signer certifies", reads="signer"),

    verb("front renew", "target.front_certificate:renew", "take the certificate that the owner's file holds"),
    verb("guard", "guard.loop:main", "watch open windows and turn back"),
    verb("signals", "guard.signals:show", "read the site's own signals once"),
    verb("visitors", "host.programs:visitors", "be the simulated visitors"),
    verb("preflight", "host.preflight:preflight", "see that this host is ready",
         option("--kit", default="", help="the kit that must be installed")),
    verb("evidence", "host.programs:evidence", "collect logs, health and diagnostics"),
    verb("processes ensure", "host.supervisord:ensure_as_owner", "make what runs equal to what is described",
         NAMES, as_root=True),
    verb("processes watch", "host.supervisord:watch", "kill a guard that hangs"),
    verb("processes stop", "host.supervisord:stop", "stop every process", as_root=True),
    verb("reload", "host.supervisord:reload", "have a process read its configuration", option("name"),
         option("--signal", default="HUP"), as_root=True),
    verb("database initialise", "host.programs:initialise_cluster", "make the Postgres cluster"),
    verb("database ensure", "database.roles:ensure", "make the database and its roles"),

    verb("backup", "database.backup:backup", "back up, proven by a restore",
         option("--release", default="", metavar="COMMIT12"), option("--spare", default="", metavar="ID"),
         option("--releases", type=json.loads, default={}, metavar="JSON", help="try these on the copy")),
    verb("prune-backups", "database.backup:prune", "remove the backups that are not to be kept",
         flag("--dry-run", dest="is_dry_run")),
    verb("restore", "database.restore_copy:listed", "list backups, and what restores left"),
    verb("restore into", "database.restore_copy:into", "restore beside the live database", BACKUP, IDENTITY,
         option("--name", default="", help="the new database")),
    verb("restore rehearse", "database.restore_copy:rehearse", "restore, then remove it", BACKUP, IDENTITY),
    verb("restore drop", "database.restore_copy:drop", "remove what a restore left", option("name")),
    verb("restore losses", "database.swap:losses", "say what a restore over it would lose", BACKUP, IDENTITY),
    verb("restore quiet", "database.swap:await_quiet", "wait until nobody writes any more"),
    verb("restore copy", "database.restore_copy:copy", "restore for a swap", BACKUP, RESTORATION, IDENTITY),
    verb("restore swap", "database.swap:swap", "put the copy in the live one's place", BACKUP, RESTORATION),
    verb("restore give-up", "database.restore_copy:give_up", "take the copy away", BACKUP, RESTORATION),
    verb("restoration confirm", "steps.restore:confirm", "refuse one whose target's name was not typed",
         option("--backup", default="", metavar="ID"), option("--name", default="")),
    verb("restoration begin", "steps.restore:begin", "refuse writes for a restore",
         option("--backup", required=True, metavar="ID")),
    verb("restoration look", "steps.restore:show_restore", "say which restore is under way"),
    verb("restoration end", "steps.restore:end", "take writes again", option("--replaced", default="")),
    verb("maintenance", "steps.maintenance:begin", "switch writes on|off, or say what is left to do",
         option("words", nargs="+", metavar="WORD"), flag("--dry-run")),
    verb("restart postgres", "database.restart:restart_postgres", "restart Postgres behind a pause",
         flag("--forced", help="even where no setting waits for it")),
    verb("restart pgbouncer", "database.restart:restart_pgbouncer", "have another pgbouncer take over"),
    verb("resume", "database.restart:resume", "let clients go on that wait in pgbouncer"),
    verb("budget", "database.connection_budget:require", "refuse settings that connections do not fit",
         option("--coming", required=True, type=json.loads, metavar="JSON")),
    verb("maintained", "steps.reports:maintained", "journal what was done to the servers", reads="done"),
    verb("rehearsal look", "steps.rollback_drill:show_release", "say what would be rehearsed with",
         flag("--identity", dest="has_identity", help="there will be a private key")),
    verb("rehearsal run", "steps.rollback_drill:rehearse", "roll back and forth, measured",
         option("--times", type=json.loads, default={}, metavar="JSON")),
    verb("rehearsal age", "steps.rollback_drill:age", "say whether the last one is too long ago"),
)  # fmt: skip
VERBS = {verb.name: verb for verb in TABLE}
