"""``p12 host TARGET VERB``: what a playbook does on a host, as a program with JSON answers.

Standard library only and imported lazily: a rollback must not wait for what it does not use. Started by root
it becomes the owner of the target's directory first, so nothing it writes belongs to root.
"""

import argparse
import getpass
import json
import os
import sys
import time

from rollout.cli import care
from rollout.cli.care import Answer
from rollout.cli.host_verbs import VERBS, become_owner
from rollout.errors import RolloutError
from rollout.target.target import SLOTS, Target, root_directory


def main(arguments: list[str]) -> int:
    """Run one verb and print its JSON answer; 1 with ``error`` and ``hint`` when it was refused or failed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        root = root_directory()
        if options.verb != "processes":  # only root can name who holds a port
            become_owner(root / options.target)
        answer = VERBS[options.verb](Target.load(options.target, root), options)
    except RolloutError as error:
        return _print({"error": str(error), "hint": error.hint}, 1)
    except Exception as error:  # whatever it is, the playbook gets an answer and no stack trace
        reason = f"{type(error).__name__}: {error}"
        return _print({"error": f"{options.target}: {options.verb}: {reason}", "hint": ""}, 1)
    return _print(answer, 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="p12 host", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("target")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    asked = {name: verbs.add_parser(name) for name in VERBS}
    actions = {
        "flags": ("list", "set", "off"),
        "lock": ("show", "take", "renew", "drop", "break"),
        "window": ("open", "wait"),
        "decide": ("pass", "fail"),
        "record": ("backup", "check", "pruned"),
        "certificate": ("write", "show"),
        "database": ("initialise", "ensure"),
        "processes": ("ensure", "stop"),
    }
    for name, choices in actions.items():
        asked[name].add_argument("action", choices=choices)
    asked["flags"].add_argument("names", nargs="*", metavar="NAME[=VALUE]")
    asked["flags"].add_argument("--generation", type=int)
    asked["rollback"].add_argument("--flags-only", action="store_true")
    asked["window"].add_argument("--kind", choices=("step", "monitor"), default="step")
    asked["window"].add_argument("--id", default="")
    for name in ("allow", "window"):
        asked[name].add_argument("--minutes", type=float)
    asked["lock"].add_argument("--session", default="")
    asked["lock"].add_argument("--dead-session", default="-")
    asked["lock"].add_argument("--try", dest="tentative", action="store_true")
    asked["processes"].add_argument("names", nargs="*", metavar="NAME")
    asked["preflight"].add_argument("--kit", default="")
    asked["backup"].add_argument("--release", default="")
    asked["backup"].add_argument("--prune", action="store_true")
    asked["backup"].add_argument("--dry-run", action="store_true")
    asked["backup"].add_argument("--spare", default="", metavar="ID")
    care.add_options(asked)
    asked["reload"].add_argument("name")
    asked["reload"].add_argument("--signal", default="HUP")
    asked["shift"].add_argument("--share", type=int, required=True, choices=range(101), metavar="0..100")
    asked["prove"].add_argument("--commit", required=True)
    asked["prove"].add_argument("--flags", default="{}")
    asked["install"].add_argument("--artifact", required=True)
    asked["await"].add_argument("--host", required=True)
    asked["prune"].add_argument("--keep", required=True)
    for name in ("await", "window"):
        asked[name].add_argument("--seconds", type=float, default=30.0)
    for name in (
        "plan",
        "allow",
        "claim",
        "prove",
        "admit",
        "begin",
        "shift",
        "finish",
        "install",
        "await",
        "certificate",
        "burst",
    ):
        asked[name].add_argument("--release", required=True)
    for name in ("plan", "prove", "admit", "install", "certificate"):
        asked[name].add_argument("--sha256", default="")
    for name in ("prove", "install", "await", "migrate"):
        asked[name].add_argument("--slot", required=True, choices=SLOTS)
    asked["migrate"].add_argument("--database", default="")
    asked["flags"].add_argument("--slot", default="", choices=("", *SLOTS))
    for name in asked:
        asked[name].add_argument("--owner", default=os.environ.get("SUDO_USER") or getpass.getuser())
        asked[name].add_argument("--why", default="")
        asked[name].add_argument("--token", type=int)
    return parser


def _print(answer: Answer, code: int) -> int:
    answer = {"changed": False, "at": round(time.time(), 3), **answer}
    print(json.dumps(answer, indent=2 if sys.stdout.isatty() else None, default=str))
    return code
