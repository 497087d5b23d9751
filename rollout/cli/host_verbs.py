"""The verbs of ``p12 host``: each takes the target and its options, and returns what is printed as JSON.

What a verb needs is imported when it runs: a rollback must not wait for what it does not use.
"""

import argparse
import json
import os
import pwd
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rollout.cli import care
from rollout.cli.care import Answer, Verb, steering_of
from rollout.errors import Refused
from rollout.target.target import Target, root_directory


def _status(target: Target, _: argparse.Namespace) -> Answer:
    from rollout.steps.status import status
    from rollout.steps.status_text import status_text

    answer = status(steering_of(target))
    return {**answer, "say": status_text(answer)}


def _summary(target: Target, _: argparse.Namespace) -> Answer:
    from rollout.steps.status import status
    from rollout.steps.status_text import summary_text

    return {"say": summary_text(status(steering_of(target)))}


def _preflight(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.host.preflight import preflight

    return preflight(target, options.kit)


def _evidence(target: Target, _: argparse.Namespace) -> Answer:
    from rollout.host import programs

    return programs.evidence(target)


def _rollback(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps.rollback import flags_off, roll_back

    if options.flags_only:
        return flags_off(steering_of(target), options.owner)
    return roll_back(steering_of(target), options.owner, options.why or "rolled back by hand")


def _flags(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import flags as flag_changes

    return flag_changes.run(steering_of(target), options)


def _lock(target: Target, options: argparse.Namespace) -> Answer:
    from dataclasses import asdict

    lock = steering_of(target).lock
    match options.action:
        case "take":
            try:
                return asdict(lock.take(options.owner, options.session, options.dead_session)) | {
                    "held": True
                }
            except Refused as error:
                if not options.tentative:
                    raise
                return asdict(lock.holder()) | {"held": False, "error": str(error), "hint": error.hint}
        case "renew":
            return asdict(lock.renew(options.token))
        case "drop":
            return {"changed": lock.drop(options.token)}
        case "break":
            steering = steering_of(target)
            broken = lock.holder()
            token = lock.fence()
            steering.journal.append(options.owner, "lock.broken", broken=asdict(broken), why=options.why)
            return {"changed": True, "token": token, "say": f"{target.name}: the lock is free"}
    holder = lock.holder()
    words = f"locked by {holder.describe()}" if holder.holds(time.time()) else "the lock is free"
    return asdict(holder) | {"say": f"{target.name}: {words}"}


def _plan(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import rollout as stages

    return stages.plan(steering_of(target), options.release, options.sha256)


def _serving(target: Target, _: argparse.Namespace) -> Answer:
    from rollout.steps import rollout as stages

    return stages.serving(steering_of(target))


def _allow(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps.rules import refuse_quarantined
    from rollout.steps.window import limits_of, refuse_short

    refuse_quarantined(steering_of(target).state(), options.release, options.why)
    if target.settings["admission"]:
        refuse_short(target, "monitor", limits_of(target, "monitor", options.minutes), options.why)
    return {}


def _claim(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import rollout as stages

    return stages.claim(steering_of(target), options.release, options.token, options.why)


def _prove(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import rollout as stages

    identity = {"release": options.release, "commit": options.commit, "sha256": options.sha256}
    return stages.prove(steering_of(target), options.slot, identity, json.loads(options.flags), options.token)


def _admit(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import rollout as stages

    shown = json.load(sys.stdin)
    if not shown.get("valid"):
        raise Refused(
            f"Staging has no certificate of {options.release}: {shown.get('reason')}.", "./p12 verify"
        )
    return stages.accept_certificate(
        steering_of(target), shown["certificate"], options.release, options.sha256, options.token
    )


def _begin(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import rollout as stages

    return stages.begin(steering_of(target), options.release, options.token, options.why)


def _shift(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import rollout as stages

    return stages.shift(steering_of(target), options.release, options.share, options.token)


def _finish(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import rollout as stages

    return stages.finish(steering_of(target), options.release, options.token)


def _window(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import window_wait

    steering = steering_of(target)
    if options.action == "open":
        return window_wait.opened(steering, options.kind, options.token, options.minutes, options.why)
    return window_wait.wait(steering, options.id, options.token, options.seconds)


def _decide(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import window_wait

    return window_wait.decide(steering_of(target), options.owner, options.action == "pass", options.why)


def _record(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import reports

    return reports.record(steering_of(target), options.action, json.load(sys.stdin), options.token)


def _certificate(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.steps import reports

    steering = steering_of(target)
    if options.action == "write":
        return reports.write_certificate(steering, options.release, options.token)
    return reports.certificate_of(steering, options.release, options.sha256)


def _journal(target: Target, _: argparse.Namespace) -> Answer:
    from dataclasses import asdict

    return {"entries": [asdict(entry) for entry in steering_of(target).journal.entries()]}


def _guard(target: Target, _: argparse.Namespace) -> Answer:
    from rollout.guard import loop

    sys.exit(loop.main(target))


def _install(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.host import slot

    return slot.install(target, options.slot, Path(options.artifact), options.sha256, options.release)


def _await(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.host import slot

    return slot.await_instances(target, options.slot, options.release, options.host, options.seconds)


def _prune(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.host import slot

    return slot.prune(target, options.keep.split(","))


def _migrate(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.host import programs

    return programs.migrate(target, options.slot, options.database)


def _burst(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.host import run_checks

    return run_checks.burst(target, options.release)


def _counters(target: Target, _: argparse.Namespace) -> Answer:
    from rollout.host import run_checks

    return run_checks.counters(target)


def _backup(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.database import backup as backups

    if options.prune:
        return backups.prune(target, options.dry_run)
    backups.require_release(options.release)
    return backups.backup(target, options.release, options.spare)


def _visitors(target: Target, _: argparse.Namespace) -> Answer:
    from rollout.host import programs

    programs.visitors(target)
    return {}


def _database(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.database import roles
    from rollout.host import programs

    if options.action == "initialise":
        return programs.initialise_cluster(target, target.directory / "postgres")
    return roles.ensure(target)


def _processes(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.host import supervisord

    if target.settings["process_manager"] == "systemd":
        raise Refused(
            f"{target.name}: systemd keeps the processes of this host running.",
            f"systemctl list-dependencies p12-{target.name}.target",
        )
    if options.action == "stop":
        return supervisord.stop_all(root_directory())
    supervisord.require_ports(root_directory(), target, options.names)
    become_owner(target.directory)
    return supervisord.ensure(root_directory(), target, options.names)


def _reload(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.host import supervisord

    return supervisord.reload(root_directory(), f"p12-{target.name}-{options.name}", options.signal)


VERBS: Mapping[str, Verb] = {
    "status": _status,
    "rollback": _rollback,
    "flags": _flags,
    "lock": _lock,
    "plan": _plan,
    "serving": _serving,
    "allow": _allow,
    "claim": _claim,
    "install": _install,
    "await": _await,
    "prove": _prove,
    "admit": _admit,
    "begin": _begin,
    "shift": _shift,
    "window": _window,
    "decide": _decide,
    "finish": _finish,
    "prune": _prune,
    "record": _record,
    "certificate": _certificate,
    "journal": _journal,
    "guard": _guard,
    "migrate": _migrate,
    "burst": _burst,
    "backup": _backup,
    "counters": _counters,
    "visitors": _visitors,
    "database": _database,
    "processes": _processes,
    "reload": _reload,
    "summary": _summary,
    "preflight": _preflight,
    "evidence": _evidence,
    **care.VERBS,
}


def become_owner(directory: Path) -> None:
    if os.geteuid() != 0 or not directory.exists():
        return
    owner = directory.stat()
    if owner.st_uid == 0:
        return
    os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    os.umask(0o077)
