"""Verified backups on a host: made, proven, copied elsewhere, and removed when newer ones do."""

import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rollout.database.way_back import Proof
from rollout.errors import Refused, RolloutError
from rollout.host.programs import environment, last_words
from rollout.host.run_checks import as_rollout_error, postgres_tools
from rollout.target.dsn import MONITOR, OWNER, database_url
from rollout.target.target import Target
from rollout.text import one_line, size_text

QUEUE_SECONDS = 600.0
SNAPSHOT_SECONDS = 900.0
LONGEST_ID = 200
MEND = "Mend p12_snapshot_command or take it out, ./p12 provision, then the same command again"
NONE: Mapping[str, Any] = {}


def backup(
    target: Target, release: str, spare: str = "", releases: Mapping[str, Any] = NONE
) -> dict[str, Any]:
    """Back up, prove the backup by restoring it, keep it, copy it, prune older ones; return its manifest.

    ``spare`` is a backup that is not pruned, because it is about to be restored. With ``releases``, the
    ``new`` one and, if there is one, the ``old``, the way back is proven on the restored copy as well.

    :raises RolloutError: no release is named, it is not proven, so it is none, or it has no copy; earlier
        ones are untouched.
    """
    if not release:
        raise Refused("A backup names the release in service.", "p12 host TARGET backup --release=COMMIT12")
    from checks.backup import cli, make, manifest, offsite

    cli.lower_priority()
    cli.tidy_up_when_stopped()
    wanted = target.settings["backup"]
    proof = Proof(target, releases) if releases.get("new") else None
    directory = target.directory / "backups"
    tools = postgres_tools(target)
    snapshot = take_snapshot(target)
    with as_rollout_error(target, "backup"):
        to = offsite.parse_destination(wanted["copy"], wanted["ssh_config"]) if wanted["copy"] else None
        made = make.backup(
            make.BackupPlan(
                url=database_url(target, OWNER),
                watching=database_url(target, MONITOR),
                out=directory,
                tools=tools,
                target=target.name,
                release=release,
                run_dir=Path(target.settings["run"]),
                queue_seconds=QUEUE_SECONDS,
                lock_seconds=wanted["lock_seconds"],
                recipients=tuple(wanted["age_recipients"]),
                on_copy=proof,
            )
        )
        if to:
            offsite.copy(manifest.find(directory, made.id), to, tools.seconds)
    pruned = prune(target, spare=spare)["pruned"]
    summary = f"{target.name}: backup {made.id}: {_proof_text(asdict(made), str(to or ''), len(pruned))}"
    summary += f"; the provider's snapshot is {snapshot}" if snapshot else ""
    return {
        **{name: value for name, value in asdict(made).items() if name != "objects"},
        "verdict": "passed",
        "summary": summary,
        "copied_to": str(to or ""),
        "snapshot": snapshot,
        "way_back": proof.outcome if proof else {},
        "pruned": pruned,
        "changed": True,
    }


def take_snapshot(target: Target) -> str:
    """Ask the provider for a snapshot with the site's own command; return its id, empty where there is none.

    The id is the last line that the command prints. It is asked for first: one that cannot be had is no
    reason to wait for a dump.

    :raises RolloutError: the command is not there, fails, says nothing or takes too long.
    """
    command = target.settings["backup"].get("snapshot_command")
    if not command:
        return ""
    try:
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=SNAPSHOT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RolloutError(f"{target.name}: the snapshot cannot be asked for: {error}", MEND) from error
    said = done.stdout.strip().splitlines()
    if done.returncode or not said:
        raise RolloutError(f"{target.name}: {command[0]} gives no snapshot: it {last_words(done)}", MEND)
    return one_line(said[-1].strip())[:LONGEST_ID]


def _proof_text(made: Mapping[str, Any], copied_to: str, pruned: int) -> str:
    if made["nothing_to_lose"]:
        elsewhere = ", ".join(made["foreign_tables"])
        return "nothing to lose yet" + (f" (rows of {elsewhere} are elsewhere)" if elsewhere else "")
    rows = sum(int(table["rows"]) for table in made["tables"].values())
    words = f"{size_text(made['size_bytes'])}, {rows} rows in {len(made['tables'])} tables restored and equal"
    words += ", encrypted" if made["encrypted_to"] else ""
    words += f", copied to {copied_to}" if copied_to else ""
    return words + (f", {pruned} older removed" if pruned else "")


def prune(target: Target, is_dry_run: bool = False, spare: str = "") -> dict[str, Any]:
    """Remove the backups that ``p12_backup_keep`` does not keep, or only say which; never ``spare``.

    :raises RolloutError: a backup is being made all the while.
    """
    from checks.backup import manifest, retention
    from checks.backup.directory import sole_backup

    directory = target.directory / "backups"
    keep = retention.Keep(**target.settings["backup"]["keep"])
    with (
        as_rollout_error(target, "backup"),
        sole_backup(directory, QUEUE_SECONDS, not is_dry_run),
    ):
        gone = retention.prune(directory, keep, is_dry_run, [spare])
        stay = [b.manifest.id for b in manifest.list_backups(directory) if b.manifest.id not in gone]
    how = "would be removed" if is_dry_run else "removed"
    listed = [*(f"\n  {how}  {name}" for name in gone), *(f"\n  kept  {name}" for name in stay)]
    said = f"{target.name}: backups kept {len(stay)}, {how} {len(gone)}{''.join(listed)}"
    return {"changed": bool(gone) and not is_dry_run, "pruned": gone, "summary": said, "say": said}
