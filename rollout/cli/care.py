"""The verbs of ``p12 host`` that care for a target between releases: restore, rehearsal, maintenance."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from rollout.target.target import Target

Answer = Mapping[str, Any]
Verb = Callable[[Target, argparse.Namespace], Answer]


def _restore(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.database import restore_copy
    from rollout.database import swap as swapping

    # Never on a command line, where everybody on the host could read it.
    identity = sys.stdin.read() if options.identity else ""
    match options.action or ("into" if options.backup else "list"):
        case "losses":
            return swapping.losses(target, options.backup, identity)
        case "quiet":
            return swapping.await_quiet(target)
        case "copy":
            return restore_copy.copy(target, options.backup, options.restoration, identity)
        case "swap":
            return swapping.swap(target, options.backup, options.restoration)
        case "give-up":
            return restore_copy.give_up(target, options.backup, options.restoration)
        case "drop":
            return restore_copy.drop(target, options.name)
        case "rehearse":
            return restore_copy.rehearse(target, options.backup, identity)
        case "into":
            return restore_copy.into(target, options.backup, options.into, identity)
    return restore_copy.listed(target)


def _restoration(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import restore as restoration

    if options.action == "begin":
        return restoration.begin(steering_of(target), options.backup, options.token)
    if options.action == "look":
        return restoration.look(steering_of(target))
    return restoration.end(steering_of(target), options.token, options.replaced)


def _read_only(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import read_only

    return read_only.by_hand(steering_of(target), on=options.action == "on", token=options.token)


def _restart(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.database import restart as maintenance

    if options.server == "pgbouncer":
        return maintenance.restart_pgbouncer(target)
    return maintenance.restart_postgres(target, forced=options.forced)


def _budget(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.database import connection_budget

    names = ("max_connections", "pooler_pool_size", "max_client_conn")
    return connection_budget.require(target, {name: getattr(options, name) for name in names})


def _maintained(target: Target, options: argparse.Namespace) -> Answer:
    done = json.load(sys.stdin)
    steering = steering_of(target)
    with steering.change(options.token) as owner:
        steering.journal.append(owner, "maintained", summary=done["say"], settings=done.get("settings", {}))
    return {"changed": True}


def _resume(target: Target, _: argparse.Namespace) -> Answer:
    from rollout.database.pgbouncer import Pooler

    was_held = Pooler.of(target).resume()
    return {"changed": was_held, "say": f"{target.name}: pgbouncer let its clients go on"} if was_held else {}


def _rehearsal(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import rollback_drill

    steering = steering_of(target)
    if options.action == "look":
        rollback_drill.refuse_unopened(target, options.identity)
        return {"release": rollback_drill.serving(steering)}
    if options.action == "run":
        times = {"backup": round(options.backup_seconds, 3), "restore": options.restore_seconds}
        return rollback_drill.rehearse(steering, options.token, times)
    days = target.settings["rehearsal_valid_days"]
    said = rollback_drill.complaint(steering.state(), days, time.time())
    return {"valid": not said, "say": f"{target.name}: warning: {said}"} if said else {"valid": True}


VERBS: Mapping[str, Verb] = {
    "restore": _restore,
    "restoration": _restoration,
    "read-only": _read_only,
    "restart": _restart,
    "budget": _budget,
    "maintained": _maintained,
    "resume": _resume,
    "rehearsal": _rehearsal,
}


def add_options(asked: Mapping[str, argparse.ArgumentParser]) -> None:
    """Say what each of these verbs takes."""
    restore = ("list", "into", "losses", "quiet", "copy", "swap", "give-up", "drop", "rehearse")
    asked["restore"].add_argument("action", nargs="?", default="", choices=("", *restore))
    asked["restore"].add_argument("--into", default="", metavar="NAME")
    asked["restore"].add_argument("--name", default="")
    asked["restore"].add_argument("--restoration", type=int, default=0)
    asked["restoration"].add_argument("action", choices=("begin", "look", "end"))
    asked["restoration"].add_argument("--replaced", default="")
    for name in ("restore", "restoration"):
        asked[name].add_argument("--backup", default="")
    asked["restore"].add_argument("--identity", action="store_true", help="a private key on standard input")
    asked["rehearsal"].add_argument("--identity", action="store_true", help="there will be a private key")
    asked["read-only"].add_argument("action", choices=("on", "off"))
    asked["restart"].add_argument("server", choices=("postgres", "pgbouncer"))
    asked["restart"].add_argument("--forced", action="store_true")
    for name in ("max-connections", "pooler-pool-size", "max-client-conn"):
        asked["budget"].add_argument(f"--{name}", type=int, required=True)
    asked["rehearsal"].add_argument("action", choices=("look", "run", "age"))
    asked["rehearsal"].add_argument("--backup-seconds", type=float, default=0.0)
    asked["rehearsal"].add_argument("--restore-seconds", type=float, default=0.0)


def steering_of(target: Target) -> Any:
    from rollout.target.steering import Steering

    return Steering.of(target)
