"""The verbs of ``p12``, an entry each: name, help and options. Most are a playbook of the first word's name.

An option becomes the playbook's variable of its name.
"""

from dataclasses import dataclass
from pathlib import Path

from rollout.cli.restore_options import private_key
from rollout.cli.verb_table import Option, choice, flag, option
from rollout.target.target import SLOTS


@dataclass(frozen=True)
class Verb:
    """What an engineer types; of several rows with the same first word the first is meant by that alone."""

    name: str
    help: str
    options: tuple[Option, ...] = ()


INVENTORY = option("-i|--inventory", default="", metavar="SITE", help="default: inventories/local")
ANSIBLE = option(
    "--ansible", action="append", default=[], metavar="OPTION", help="of Ansible, e.g. --ansible=-v"
)
BRANCH = option("--branch", default="", help="a branch, tag or commit (default: checked out)")
FETCH = flag("--fetch", help="take the branch from origin, as it is there now")
WHY = option("--why", default="", help="the reason, where a rule asks for one")
REASON = option("--why", default="", help="the reason, for the journal")
NEEDED = option("--why", required=True, help="the reason, for the journal")
TARGET = choice("--target", "production", "staging", default="production")
IDENTITY = option("--identity", type=private_key, metavar="FILE", help="opens an encrypted backup")
SINCE = option("--since", default="", metavar="WHEN", help="90min, 12h, 7d, or a day's time")
MINUTES = option("--minutes", type=float, help="how long the monitor window is")
SLOT = choice("--slot", *SLOTS, default="", help="default: the one that serves")


def absolute(path: str) -> str:
    """A path as it is here: Ansible would read it from where a playbook is."""
    return path and str(Path(path).absolute())


def verb(name: str, help: str, *options: Option) -> Verb:
    """A playbook of the first word's name."""
    return Verb(name, help, (*options, INVENTORY, ANSIBLE))


TABLE = (
    verb("release", "release a branch: staging, burst, backup, production in steps, monitor",
         BRANCH, FETCH, WHY, MINUTES),
    verb("rollback", "turn traffic back and lower the flags; one command, no questions", TARGET, REASON,
         flag("--flags-only", help="lower flags, leave traffic")),
    verb("status", "show what is true of both targets now", flag("--json", help="print JSON"),
         flag("--room", help="what takes room, and what bounds it")),
    verb("releases", "list what the app hosts keep, which schema each knows, and why it is kept", TARGET),
    verb("history", "tell each release's stages with times, who and verdicts, and the four DORA figures",
         TARGET, SINCE, flag("--json", help="print JSON")),
    verb("journal", "show everything that changed a target", TARGET, SINCE,
         option("--verify", nargs="?", const=True, default=False, metavar="FILE",
                help="only see whether the whole chain holds, or that of an exported FILE"),
         option("--export", type=absolute, default="", metavar="FILE", help="keep a copy of it there"),
         flag("--json", help="print JSON")),
    verb("flags list", "list P12_ flags", TARGET),
    verb("flags set", "set P12_ flags", option("names", nargs="+", metavar="NAME=VALUE"), TARGET, SLOT),
    verb("flags on", "raise P12_ flags to 1", option("names", nargs="+", metavar="NAME"), TARGET, SLOT),
    verb("flags off", "lower what the release raised, or only NAME …",
         option("names", nargs="*", metavar="NAME"), TARGET, SLOT,
         option("--generation", type=int, help="back to what this generation held")),
    verb("adopt", "pass every request to the Paste12 that runs today, for a release to go up beside it",
         flag("--check", help="only look at it and its database; changes nothing"), TARGET,
         flag("--finish", help="give up the way back to it, once a release is good"),
         option("--database-url-file", default="", metavar="FILE", help="0600, holds the URL"),
         option("--today-url", default="", metavar="URL", help="where today's service is reached"),
         flag("--json", help="print JSON")),
    verb("provision", "make hosts ready for releases"),
    verb("deploy", "put a release on staging", BRANCH, FETCH, WHY),
    verb("verify", "burst staging and write the certificate", BRANCH, FETCH, WHY),
    verb("backup", "back production up, proven by a restore", TARGET,
         flag("--prune", help="remove what p12_backup_keep does not keep"),
         flag("--dry-run", help="with --prune: only say what would go")),
    verb("promote", "take the certified release to production in steps", BRANCH, FETCH, WHY,
         flag("--now", help="end the open window as a person's decision; whoever waits for it goes on")),
    verb("monitor", "watch the last window, then mark the release good", BRANCH, FETCH, WHY, MINUTES),
    verb("pause", "hold up the release that is under way; the guard goes on watching", NEEDED),
    verb("resume", "let it go on", REASON),
    verb("abort", "turn the release back that is under way, and quarantine it", NEEDED),
    verb("approve", "sign staging's certificate of a release, where the site wants that (p12_approvals)",
         BRANCH, FETCH,
         option("--key", default="~/.ssh/id_ed25519", metavar="FILE", help="a private SSH key, Ed25519")),
    verb("decide", "say how a window goes on that ended unknown",
         option("--pass", dest="verdict", action="append_const", const="pass", help="go on as if it passed"),
         option("--fail", dest="verdict", action="append_const", const="fail", help="turn traffic back"),
         NEEDED),
    verb("restore", "list backups, restore one beside the live database, or, confirmed, over it", TARGET,
         option("--backup", default="", metavar="ID", help="without one, they are listed"), IDENTITY,
         option("--into", default="", metavar="NAME", help="the new database beside the live one"),
         flag("--over", help="put it in the live database's place"),
         option("--confirm", default="", metavar="TARGET", help="with --over: its name"),
         flag("--skip-backup", help="with --over: what is live cannot be read"),
         flag("--give-up", help="end a restore that is under way"),
         option("--drop", default="", metavar="NAME", help="remove what a restore left")),
    verb("rehearse", "rehearse the way back in staging: backup, restore, rollback; undone", IDENTITY),
    verb("maintenance apply", "bring server settings into force, with a restart where one is needed", TARGET),
    verb("maintenance restart postgres", "restart Postgres while clients wait in pgbouncer", TARGET),
    verb("maintenance restart pgbouncer", "have another pgbouncer take over", TARGET),
    verb("maintenance on", "refuse writes with 503 read_only", TARGET),
    verb("maintenance off", "take writes again", TARGET),
    verb("evidence", "collect evidence of a target: logs, health, database diagnostics", TARGET),
    verb("lock show", "show who has a target", TARGET),
    verb("lock break", "take a target away from whoever has it", TARGET, REASON),
    Verb("down", "stop every local process",
         (flag("--purge", help="remove data, backups and secrets too"), INVENTORY)),
    Verb("replay", "judge a kept window again, offline: replay FILE [--limits NAME=VALUE,…]"),
    Verb("check", "run one check by hand: check NAME …"),
    Verb("test", "run every test, lint and type check; --quick: no servers; --all: what is slow too"),
    Verb("completion", "print what completes these words: completion bash|zsh|fish"),
    Verb("host", "what playbooks run on a host: host TARGET VERB …"),
)  # fmt: skip
VERBS = {verb.name: verb for verb in TABLE}
