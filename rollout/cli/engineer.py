"""The engineer's ``p12`` command: each verb prints the ``ansible-playbook`` line it is, and runs it."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rollout.cli import restore_options
from rollout.errors import RolloutError

CHECKOUT = Path(__file__).resolve().parents[2]
LOCAL = CHECKOUT / "inventories" / "local"

VERBS = {
    "release": "release a branch: staging, burst, backup, production in steps, monitor",
    "rollback": "turn traffic back and lower the flags; one command, no questions",
    "status": "show what is true of both targets now",
    "flags": "list, set or turn off P12_ flags: flags [set NAME=VALUE …|off [NAME …]]",
    "provision": "make hosts ready for releases",
    "deploy": "put a release on staging",
    "verify": "burst staging and write the certificate",
    "backup": "back production up, proven by a restore",
    "promote": "take the certified release to production in steps",
    "monitor": "watch the release at 100 % and mark it good",
    "restore": "list backups, restore one beside the live database, or, confirmed, over it",
    "rehearse": "rehearse the way back in staging: backup, restore, rollback, flags off; measured and undone",
    "maintenance": "change server settings or restart behind a pause; or refuse writes: maintenance on|off",
    "evidence": "collect evidence of a target: logs, health, database diagnostics",
    "lock": "show the lock, or break it: lock break --why …",
    "down": "stop every local process (--purge removes the data too)",
    "decide": "say how a window goes on that ended unknown: decide --pass|--fail --why …",
    "replay": "judge a kept window again, offline: replay FILE [--limits NAME=VALUE,…]",
    "check": "run one check by hand: check NAME …",
    "test": "run every test, lint and type check",
    "host": "what playbooks run on a host: host TARGET VERB …",
}


MAINTENANCE = ("apply", "restart postgres", "restart pgbouncer", "on", "off")


def main(arguments: list[str]) -> int:
    """Run one verb and return its exit status."""
    try:
        if arguments[:1] == ["check"]:
            return _become([sys.executable, "-P", "-m", "checks", *arguments[1:]], {})
        if arguments[:1] == ["replay"]:
            return _become([sys.executable, "-P", "-m", "checks", *arguments], {})
        if arguments[:1] == ["test"]:
            from rollout.cli import run_tests

            return run_tests.main(arguments[1:])
        options = _parser().parse_args(arguments)
        if options.verb == "down":
            from rollout.cli import local_site

            return local_site.down(_inventory(options), options.purge)
        if options.verb in ("release", "provision"):
            from rollout.cli import local_site

            status = local_site.provision(
                _inventory(options),
                options.ansible,
                lambda: _wait(*_playbook("provision", options)),
                options.verb == "provision",
            )
            if options.verb == "provision" and status is not None:
                return status
        if options.verb == "restore" and restore_options.is_over(options):
            return restore_options.restore_over(options, lambda: _wait(*_playbook("restore", options)))
        return _become(*_playbook(options.verb, options))
    except RolloutError as error:
        sys.stderr.write(f"{error}\n" + (f"next     {error.hint}\n" if error.hint else ""))
        return 1
    except KeyboardInterrupt:
        return 130


def _playbook(verb: str, options: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """Print the line an engineer could type, and return the command and its environment."""
    inventory = _inventory(options)
    variables = _variables(options) if verb == options.verb else []
    if verb == "backup" and options.prune:
        verb = "prune"
    elif getattr(options, "dry_run", False):
        raise RolloutError("--dry-run shows what --prune would remove.", "./p12 backup --prune --dry-run")
    extra = [word for variable in variables for word in ("-e", variable)]
    environment = {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "P12_CHECKOUT": str(CHECKOUT)}
    if getattr(options, "json", False):
        environment["P12_OUTPUT"] = "json"
    else:
        shown = os.path.relpath(inventory) if Path.cwd() == CHECKOUT else str(inventory)
        line = ["ansible-playbook", "-i", shown, f"playbooks/{verb}.yml", *extra, *options.ansible]
        sys.stderr.write(f"$ {shlex.join(line)}\n")
        sys.stderr.flush()
    playbook = str(CHECKOUT / "playbooks" / f"{verb}.yml")
    command = [sys.executable, "-P", "-m", "ansible.cli.playbook", "-i", str(inventory), playbook]
    return [*command, *extra, *options.ansible], environment


def _become(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Go on as another program: its exit status is ours, and Ctrl-C reaches it directly."""
    os.execve(command[0], list(command), _environment(environment))


def _wait(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program to its end; Ctrl-C reaches it directly, and we wait for what it makes of it."""
    running = subprocess.Popen(command, env=_environment(environment))
    while True:
        try:
            return running.wait()
        except KeyboardInterrupt:
            continue


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), **more}


def _variables(options: argparse.Namespace) -> list[str]:
    """Return the verb's options as the playbook's extra variables."""
    named = ["target", "branch", "why", "minutes", "backup", "into", "drop", "confirm", "identity"]
    pairs = [_variable(name, str(getattr(options, name))) for name in named if getattr(options, name, None)]
    switches = ("flags_only", "dry_run", "over", "ask", "give_up", "skip_backup")
    pairs += [f"{name}=true" for name in switches if getattr(options, name, False)]
    if getattr(options, "verdict", ""):
        pairs.append(f"verdict={options.verdict}")
    if options.verb == "maintenance":
        pairs.append(_variable("words", _maintenance(options.words)))
    if options.verb in ("flags", "lock"):
        words = [options.action, *getattr(options, "names", [])]
        words += [f"--slot={options.slot}"] if getattr(options, "slot", "") else []
        words += [f"--generation={options.generation}"] if getattr(options, "generation", None) else []
        pairs.append(_variable("words", " ".join(words)))
    return pairs


def _maintenance(words: Sequence[str]) -> str:
    """Return what maintenance is to do; a word too many or too few must not make it do nothing."""
    said = " ".join(words) or "apply"
    if said not in MAINTENANCE:
        raise RolloutError(
            f"maintenance does not know {said!r}, so nothing was done. Accepted: {', '.join(MAINTENANCE)}.",
            "./p12 maintenance restart postgres, or on another target: ./p12 maintenance on --target staging",
        )
    return said


def _variable(name: str, value: str) -> str:
    """One extra variable; JSON where ``name=value`` would need quotes, for Ansible's are not the shell's."""
    if re.fullmatch(r"[\w./:@%+,=-]+", value):
        return f"{name}={value}"
    return json.dumps({name: value}, ensure_ascii=False)


def _inventory(options: argparse.Namespace) -> Path:
    named = Path(options.inventory) if options.inventory else LOCAL
    for candidate in (named, CHECKOUT / named, CHECKOUT / "inventories" / named):
        if candidate.exists():
            return candidate.resolve()
    sites = sorted(path.name for path in (CHECKOUT / "inventories").iterdir() if path.is_dir())
    raise RolloutError(
        f"{options.inventory} is not an inventory. Accepted: a path, or one of {', '.join(sites)}.",
        "./p12 release --inventory inventories/local",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="p12", description="Release Paste12 in steps, and turn it back.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {}
    for verb, help_text in VERBS.items():
        # argparse takes a lone % for the beginning of a format.
        shown = help_text.replace("%", "%%")
        made[verb] = verbs.add_parser(verb, help=shown, description=shown)
        made[verb].add_argument("-i", "--inventory", default="", help="the site (default: inventories/local)")
        made[verb].set_defaults(ansible=[])
        if verb not in ("down", "check", "replay", "test", "host"):
            made[verb].add_argument(
                "--ansible", action="append", default=[], metavar="OPTION", help="e.g. -v"
            )
    for verb in ("release", "deploy", "verify", "promote", "monitor"):
        made[verb].add_argument("--branch", default="", help="a branch, tag or commit (default: checked out)")
        made[verb].add_argument("--why", default="", help="the reason, where a rule asks for one")
    for verb in ("rollback", "lock"):
        made[verb].add_argument("--why", default="", help="the reason, for the journal")
    for verb in ("rollback", "flags", "evidence", "restore", "lock", "backup", "maintenance"):
        made[verb].add_argument("--target", default="production", choices=("staging", "production"))
    for verb in ("restore", "rehearse"):
        made[verb].add_argument(
            "--identity", type=restore_options.private_key, metavar="FILE", help="opens an encrypted backup"
        )
    for verb in ("release", "monitor"):
        made[verb].add_argument("--minutes", type=float, help="how long the monitor window is")
    verdicts = made["decide"].add_mutually_exclusive_group(required=True)
    for verdict, help_text in (("pass", "go on as if it had passed"), ("fail", "turn traffic back")):
        verdicts.add_argument(
            f"--{verdict}", dest="verdict", action="store_const", const=verdict, help=help_text
        )
    made["decide"].add_argument("--why", required=True, help="the reason, for the journal")
    made["backup"].add_argument(
        "--prune", action="store_true", help="remove what p12_backup_keep does not keep"
    )
    made["backup"].add_argument("--dry-run", action="store_true", help="with --prune: only say what would go")
    made["rollback"].add_argument("--flags-only", action="store_true", help="lower flags, leave traffic")
    made["status"].add_argument("--json", action="store_true", help="print JSON")
    made["flags"].add_argument("action", nargs="?", default="list", choices=("list", "set", "off"))
    made["flags"].add_argument("names", nargs="*", metavar="NAME[=VALUE]")
    made["flags"].add_argument("--slot", default="", choices=("", "blue", "green"))
    made["flags"].add_argument("--generation", type=int, help="with off: back to what this generation held")
    made["lock"].add_argument("action", nargs="?", default="show", choices=("show", "break"))
    made["restore"].add_argument(
        "--backup", default="", help="the id of a backup; without one, they are listed"
    )
    made["restore"].add_argument("--into", default="", help="the new database beside the live one")
    made["restore"].add_argument("--over", action="store_true", help="put it in the live database's place")
    made["restore"].add_argument("--confirm", default="", metavar="TARGET", help="with --over: its name")
    made["restore"].add_argument("--skip-backup", action="store_true", help="with --over: it cannot be read")
    made["restore"].add_argument("--give-up", action="store_true", help="end a restore that is under way")
    made["restore"].add_argument("--drop", default="", metavar="NAME", help="remove what a restore left")
    made["maintenance"].add_argument("words", nargs="*", metavar="WORD", help="; ".join(MAINTENANCE))
    made["down"].add_argument("--purge", action="store_true", help="remove data, backups and secrets too")
    return parser
