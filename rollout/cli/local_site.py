"""What only the local site needs from the engineer's side: provisioning by itself, and being taken down."""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rollout.cli import session
from rollout.cli.controller_environment import for_ansible
from rollout.errors import Refused, RolloutError
from rollout.target.lock import LOCKED_HINT
from rollout.target.site_processes import of_site
from rollout.text import aimed

CHECKOUT = Path(__file__).resolve().parents[2]


def provision(inventory: Path, options: Sequence[str], run: Callable[[], int], always: bool) -> int | None:
    """Provision a local site, unless it was from exactly these files and variables and all of it runs.

    ``options`` are Ansible's, as given for this command; variables among them are part of the site.

    Returns the exit status when it was provisioned, ``None`` when that was not needed or the site is not
    a local one.

    :raises RolloutError: provisioning on the way to a release failed; it has said why. Or somebody else has
        a target, which nothing is changed under.
    """
    hosts = _hosts(inventory)
    if not _is_local(hosts):
        return None
    if not always:
        for host in hosts.values():
            _refuse_locked(host)
    marks = [Path(host["p12_root"]) / host["p12_target"] / "provisioned" for host in hosts.values()]
    wanted = fingerprint(inventory, hosts, variables_in(options))
    is_fresh = all(_read(mark) == wanted for mark in marks)
    if not always and is_fresh and all(map(_ensure_running, hosts.values())):
        return None
    for mark in marks:
        mark.unlink(missing_ok=True)
    status = run()
    if status == 0:
        for mark in marks:
            mark.write_text(wanted)
    elif not always:
        raise RolloutError("Provisioning stopped, so nothing was released.")
    return status


def down(inventory: Path, purge: bool) -> int:
    """Stop every process of a local site; with ``purge`` remove everything it ever wrote."""
    hosts = _hosts(inventory)
    if not _is_local(hosts):
        raise RolloutError(f"{inventory} is not a local site; only such a site can be taken down.")
    host = next(iter(hosts.values()))
    root, run = Path(host["p12_root"]), Path(host["p12_run"])
    command = root / "bin" / "p12"
    said = "nothing was running"
    if command.exists():
        done = subprocess.run(
            [str(command), host["p12_target"], "processes", "stop"],
            capture_output=True,
            text=True,
            check=False,
        )
        answer = json.loads(done.stdout or "{}")
        if done.returncode:
            raise RolloutError(answer.get("error") or done.stderr.strip(), answer.get("hint", ""))
        said = answer.get("say", said)
    if left := of_site(root):
        named = ", ".join(f"{name} (pid {pid})" for pid, name in sorted(left.items()))
        raise RolloutError(f"Still running: {named}.", "End it, then the same command again")
    if purge:
        _remove((root, run, CHECKOUT / ".p12", Path(host["p12_secrets_directory"])))
        said += f"; {root} is gone"
    print(said)
    return 0


def _remove(directories: Iterable[Path]) -> None:
    """Remove directories with all in them.

    :raises RolloutError: something is left; says what, and why.
    """
    left: dict[str, str] = {}

    def note(_: Any, path: str, failed: Any) -> None:
        if not isinstance(failed[1], FileNotFoundError):
            left[path] = f"{path}: {failed[1].strerror}"

    for directory in directories:
        shutil.rmtree(directory, onerror=note)
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        raise RolloutError(
            f"Not removed: {'; '.join(list(left.values())[:3])}{more}.", "As its owner: ./p12 down --purge"
        )


def fingerprint(inventory: Path, hosts: Mapping[str, Mapping[str, Any]], variables: Sequence[str]) -> str:
    """Hash everything that provisioning depends on: kit, playbooks and the site's variables."""
    digest = hashlib.sha256(json.dumps([hosts, *variables], sort_keys=True).encode())
    sources = [inventory, CHECKOUT / "playbooks", CHECKOUT / "rollout", CHECKOUT / "checks"]
    files = [path for source in sources for path in sorted(source.rglob("*")) if path.is_file()]
    for path in [*files, CHECKOUT / "requirements.lock"]:
        if "__pycache__" not in path.parts:
            digest.update(str(path).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def variables_in(options: Sequence[str]) -> list[str]:
    """Return what ``-e`` and ``--extra-vars`` say among Ansible's options, in any of their spellings."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-e", "--extra-vars", action="append", default=[])
    return list(parser.parse_known_args(list(options))[0].extra_vars)


def _hosts(inventory: Path) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ansible", "inventory", "-i", str(inventory), "--list"],
        env=for_ansible(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RolloutError(f"{inventory} cannot be read: {done.stderr.strip()[-600:]}")
    hosts: dict[str, dict[str, Any]] = json.loads(done.stdout)["_meta"]["hostvars"]
    return hosts


def _is_local(hosts: Mapping[str, Mapping[str, Any]]) -> bool:
    return bool(hosts) and all(host.get("p12_process_manager") == "supervisord" for host in hosts.values())


def _ensure_running(host: Mapping[str, Any]) -> bool:
    command = [f"{host['p12_root']}/bin/p12", host["p12_target"], "processes", "ensure"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0


def _refuse_locked(host: Mapping[str, Any]) -> None:
    command = Path(host["p12_root"], "bin", "p12")
    if not command.exists():
        return
    asked = [str(command), host["p12_target"], "lock", "show"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    holder = json.loads(done.stdout or "{}") if done.returncode == 0 else {}
    if holder.get("owner") and holder["expires"] > time.time() and not session.is_dead(holder["session"]):
        raise Refused(f"{holder['say']}.", aimed(LOCKED_HINT, host["p12_target"]))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
