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

from rollout import care
from rollout.care import Answer, Verb, steering_of
from rollout.errors import Refused
from rollout.target import Target, root_directory


def _status(target: Target, _: argparse.Namespace) -> Answer:
    from rollout.display import status_text
    from rollout.status import status

    answer = status(steering_of(target))
    return {**answer, "say": status_text(answer)}


def _summary(target: Target, _: argparse.Namespace) -> Answer:
    from rollout.display import summary_text
    from rollout.status import status

    return {"say": summary_text(status(steering_of(target)))}


def _preflight(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.preflight import preflight

    return preflight(target, options.kit)


def _evidence(target: Target, _: argparse.Namespace) -> Answer:
    from rollout import programs

    return programs.evidence(target)


def _rollback(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.rollback import flags_off, roll_back

    if options.flags_only:
        return flags_off(steering_of(target), options.owner)
    return roll_back(steering_of(target), options.owner, options.why or "rolled back by hand")


def _flags(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import flag_changes

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
    from rollout import stages

    return stages.plan(steering_of(target), options.release, options.sha256)


def _serving(target: Target, _: argparse.Namespace) -> Answer:
    from rollout import stages

    return stages.serving(steering_of(target))


def _allow(target: Target, options: argparse.Namespace) -> Answer:
    from rollout.admission import refuse_quarantined
    from rollout.windows import limits_of, refuse_short

    refuse_quarantined(steering_of(target).state(), options.release, options.why)
    if target.settings["admission"]:
        refuse_short(target, "monitor", limits_of(target, "monitor", options.minutes), options.why)
    return {}


def _claim(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import stages

    return stages.claim(steering_of(target), options.release, options.token, options.why)


def _prove(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import stages

    identity = {"release": options.release, "commit": options.commit, "sha256": options.sha256}
    return stages.prove(steering_of(target), options.slot, identity, json.loads(options.flags), options.token)


def _admit(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import stages

    shown = json.load(sys.stdin)
    if not shown.get("valid"):
        raise Refused(
            f"Staging has no certificate of {options.release}: {shown.get('reason')}.", "./p12 verify"
        )
    return stages.accept_certificate(
        steering_of(target), shown["certificate"], options.release, options.sha256, options.token
    )


def _begin(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import stages

    return stages.begin(steering_of(target), options.release, options.token, options.why)


def _shift(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import stages

    return stages.shift(steering_of(target), options.release, options.share, options.token)


def _finish(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import stages

    return stages.finish(steering_of(target), options.release, options.token)


def _window(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import watching

    steering = steering_of(target)
    if options.action == "open":
        return watching.opened(steering, options.kind, options.token, options.minutes, options.why)
    return watching.wait(steering, options.id, options.token, options.seconds)


def _decide(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import watching

    return watching.decide(steering_of(target), options.owner, options.action == "pass", options.why)


def _record(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import records

    return records.record(steering_of(target), options.action, json.load(sys.stdin), options.token)


def _certificate(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import records

    steering = steering_of(target)
    if options.action == "write":
        return records.write_certificate(steering, options.release, options.token)
    return records.certificate_of(steering, options.release, options.sha256)


def _journal(target: Target, _: argparse.Namespace) -> Answer:
    from dataclasses import asdict

    return {"entries": [asdict(entry) for entry in steering_of(target).journal.entries()]}


def _guard(target: Target, _: argparse.Namespace) -> Answer:
    from rollout import guard

    sys.exit(guard.main(target))


def _install(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import releases

    return releases.install(target, options.slot, Path(options.artifact), options.sha256, options.release)


def _await(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import releases

    return releases.await_instances(target, options.slot, options.release, options.host, options.seconds)


def _prune(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import releases

    return releases.prune(target, options.keep.split(","))


def _migrate(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import programs

    return programs.migrate(target, options.slot, options.database)


def _burst(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import proofs

    return proofs.burst(target, options.release)


def _counters(target: Target, _: argparse.Namespace) -> Answer:
    from rollout import proofs

    return proofs.counters(target)


def _backup(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import backups

    if options.prune:
        return backups.prune(target, options.dry_run)
    backups.require_release(options.release)
    return backups.backup(target, options.release, options.spare)


def _visitors(target: Target, _: argparse.Namespace) -> Answer:
    from rollout import programs

    programs.visitors(target)
    return {}


def _database(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import database, programs

    if options.action == "initialise":
        return programs.initialise_cluster(target, target.directory / "postgres")
    return database.ensure(target)


def _processes(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import processes

    if target.settings["process_manager"] == "systemd":
        raise Refused(
            f"{target.name}: systemd keeps the processes of this host running.",
            f"systemctl list-dependencies p12-{target.name}.target",
        )
    if options.action == "stop":
        return processes.stop_all(root_directory())
    processes.require_ports(root_directory(), target, options.names)
    become_owner(target.directory)
    return processes.ensure(root_directory(), target, options.names)


def _reload(target: Target, options: argparse.Namespace) -> Answer:
    from rollout import processes

    return processes.reload(root_directory(), f"p12-{target.name}-{options.name}", options.signal)


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
