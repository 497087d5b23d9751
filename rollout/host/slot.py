"""Releases on an app host: unpack an artifact, point a slot at it, wait for its instances, prune."""

import errno
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rollout.environment import environment
from rollout.errors import Refused, RolloutError
from rollout.files import content_sha256, unpack
from rollout.host.ports import listening_pid
from rollout.target.instances import Reply, ask, ask_all
from rollout.target.target import Target, artifact_name
from rollout.waiting import attempts

LOG_CHARACTERS = 20_000
LOG_LINES = 20
# A process that listens as often under another id does not come up by waiting.
LIVES = 4
DAMAGED = "It was damaged on the way; run the same command again."


def install(target: Target, slot: str, artifact: Path, sha256: str, release: str) -> dict[str, Any]:
    """Unpack an artifact beside the other releases and point the slot at it.

    :raises Refused: the file that arrived is not the one that was built.
    :raises RolloutError: it cannot be unpacked, e.g. the disk is full; nothing is left behind.
    """
    directory = target.directory / "releases" / f"{release}-{sha256[:12]}"
    unpacked = not directory.exists()
    if unpacked:
        arrived = artifact_sha256(artifact)
        if arrived != sha256:
            raise Refused(f"{artifact} has sha256 {arrived[:12]}…, not {sha256[:12]}… as built.", DAMAGED)
        _unpack(artifact, directory, target.settings["python"])
    link = target.directory / "slots" / slot / "release"
    pointed = not link.is_symlink() or link.resolve() != directory.resolve()
    if pointed:
        draft = link.with_name(".release")
        draft.unlink(missing_ok=True)
        draft.symlink_to(directory)
        draft.replace(link)
    return {"changed": unpacked or pointed, "directory": str(directory)}


def await_instances(target: Target, slot: str, release: str, host: str, seconds: float) -> dict[str, Any]:
    """Wait until this host's instances of a slot are ready and run ``release``.

    :raises RolloutError: one is not, by the deadline, or ends again and again; shows the end of its log.
    """
    instances = [i for i in target.instances_of(slot) if i.name.endswith(f".{host}")]
    started, lives = time.monotonic(), {i.name: set[int]() for i in instances}
    for _ in attempts(seconds, pause=0.2):
        for instance in instances:
            lives[instance.name] |= {listening_pid(instance.address, instance.port) or 0} - {0}
        answers = ask_all(instances, lambda i: ask(i, "GET", "/internal/ready", timeout_seconds=2.0))
        late = {name: a for name, a in answers.items() if a.status != 200 or a.release != release}
        if instances and not late:
            return {"changed": False, "say": f"{target.name}: {slot} is ready on {host}"}
        restless = next((name for name in late if len(lives[name]) >= LIVES), None)
        if restless:
            break
    name = restless or next(iter(late), f"{slot} on {host}")
    again = f" and was started {LIVES} times" if restless else ""
    said = error_text(late.get(name, Reply(0, error="no instance")))
    raise RolloutError(
        f"{target.name}: {name} was not ready within {time.monotonic() - started:.0f} s{again}: {said}",
        f"The end of its log:\n{log_tail(target, name)}",
    )


def listed(target: Target, reasons: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """List the releases that this host keeps, each with the schema that it knows and why it is kept.

    ``reasons`` are the journal's. What it knows of a slot and is not here is named with the host.
    """
    here: dict[str, str] = {}
    for artifact in (target.directory / "artifacts").glob("*.tar.gz"):
        here[artifact.name.split("-")[0]] = "packed"
    for directory in (target.directory / "releases").glob("[0-9a-f]*"):
        known = schema_of(directory)
        here[directory.name.split("-")[0]] = f"schema {known}" if known else "schema unknown"
    order = [*(release for release in reasons if release in here), *sorted({*here} - {*reasons})]
    lines = []
    for release in order:
        why = "; ".join(reasons.get(release) or ["no more needed"])
        lines.append(f"{target.name}: {release}  {here[release]:<14}  {why}")
    in_a_slot = [name for name, why in reasons.items() if why[0].startswith(("live", "warm"))]
    lacks = [release for release in in_a_slot if release not in here]
    lines += [f"{target.name}: {target.settings['host']} lacks {release}" for release in lacks]
    return {"releases": here, "lacks": lacks, "say": lines or [f"{target.name}: no release is kept here"]}


def schema_of(directory: Path) -> str:
    """The newest schema that an unpacked release knows; "" where it does not say so."""
    for path in directory.glob("*/app/store/schema.py"):
        if found := re.search(r'^HEAD = "(\w+)"', path.read_text(errors="replace"), re.MULTILINE):
            return found[1]
    return ""


def prune(target: Target, keep: Iterable[str]) -> list[str]:
    """Remove every release and artifact that is neither in ``keep`` nor pointed at by a slot."""
    keep = set(keep)
    pointed = {link.resolve() for link in target.directory.glob("slots/*/release")}
    removed = []
    for directory in sorted((target.directory / "releases").glob("[0-9a-f]*")):
        if directory.name.split("-")[0] not in keep and directory.resolve() not in pointed:
            shutil.rmtree(directory)
            removed.append(directory.name)
    for artifact in sorted((target.directory / "artifacts").glob("*.tar.gz")):
        if artifact.name.split("-")[0] not in keep:
            artifact.unlink()
    return removed


def log_tail(target: Target, instance: str) -> str:
    path = target.directory / "log" / f"{instance}.log"
    try:
        return telling_part(path.read_text(errors="replace")[-LOG_CHARACTERS:])
    except OSError as error:
        return f"  (no log: {error})"


def _unpack(artifact: Path, directory: Path, python: str) -> None:
    draft = directory.with_name(f".{directory.name}.{os.getpid()}")
    for leftover in directory.parent.glob(f".{directory.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with tarfile.open(artifact) as archive:
            unpack(archive, draft)
        _compile(python, draft, directory)
        draft.replace(directory)
    except (OSError, tarfile.TarError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RolloutError(
            f"{artifact} cannot be unpacked into {directory.parent}: {error}.",
            f"Free some space there: df -h {directory.parent}" if full else "Run the same command again.",
        ) from error


def _compile(python: str, draft: Path, directory: Path) -> None:
    """Write byte code, which the service may not, and would have to compile at each start.

    It gives way to whatever serves here; what cannot be compiled is only slower to start.
    """
    command = ["nice", "-n", "10", python, "-I", "-m", "compileall", "-qq", "-j0"]
    places = ["-s", str(draft), "-p", str(directory), "--invalidation-mode", "unchecked-hash", str(draft)]
    subprocess.run([*command, *places], env=environment(), capture_output=True, check=False)


def artifact_path(target: Target, release: str, sha256: str) -> Path:
    """Where this host keeps the artifact of a release."""
    return target.directory / "artifacts" / artifact_name(release, sha256)


def artifact_sha256(path: Path) -> str:
    """Return the digest of an artifact's content, which is what names it.

    :raises Refused: it was damaged on the way.
    :raises RolloutError: it cannot be read.
    """
    try:
        return content_sha256(path)
    except OSError as error:
        if error.errno is None:
            raise Refused(f"{path} is not the file as built: {error}.", DAMAGED) from error
        raise RolloutError(f"{path} cannot be read: {error}.", "Run the same command again.") from error


def error_text(answer: Reply) -> str:
    if not answer.status:
        return answer.error
    return json.dumps(answer.document)[:300] or str(answer.status)


def telling_part(log: str) -> str:
    """Return what says why a process ended: its last traceback, without frames, else its last lines."""
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
    if starts:
        lines = lines[starts[-1] :]
        # The error and where it was raised say more in fewer lines.
        frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
        lines = lines[frames[-1] :] if frames else lines
    return "\n".join(f"  {line}" for line in lines[-LOG_LINES:])
