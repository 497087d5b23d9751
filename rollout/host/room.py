"""What takes room on a host, and what of it goes: only what the kit made, beyond a bound of the inventory."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rollout.host import slot
from rollout.room import table
from rollout.target.steering import Steering
from rollout.target.target import Target

# These bound themselves, or hold what is not the kit's to remove.
BOUNDS = {
    "journal.jsonl": "the record; never removed",
    "postgres": "your data",
    "log": "10 MB a file, rotated",
    "slots": "two",
}


def show(target: Target) -> dict[str, Any]:
    """Name all of a target that takes room on this host, and the setting that bounds it."""
    settings, kits = target.settings, target.directory.parent / "kit"
    keep = settings["backup"]["keep"]
    bounds = BOUNDS | {
        "releases": f"p12_keep_releases: {settings['keep_releases']}, and what slots hold",
        "artifacts": f"p12_keep_releases: {settings['keep_releases']}, and what slots hold",
        "windows": f"p12_keep_windows: {settings['keep_windows']}",
        "minutes": f"p12_baseline_days: {settings['baseline_days']}, and 100 MB",
        "kit": f"p12_keep_kits: {settings['keep_kits']}, and what runs",
        "backups": f"p12_backup_keep: {', '.join(f'{n} {name}' for name, n in keep.items())}; "
        "remove others: ./p12 backup --prune",
    }
    places = [*target.directory.iterdir(), *target.steering.iterdir(), kits]
    things = {place.name: _held(place) for place in sorted(places) if place != target.steering}
    return {"changed": False, "say": table(f"{target.name} on {settings['host']}", things, bounds)}


def prune(steering: Steering, keep: Iterable[str]) -> dict[str, Any]:
    """Remove the releases that are not in ``keep``, and the samples of all but the newest windows.

    What a slot points at and the windows of the rollout that the journal is at stay in any case.
    """
    removed = slot.prune(steering.target, keep)
    needed = {window.id for window in steering.state().windows}
    windows = sorted(steering.target.steering.glob("windows/[0-9]*T[0-9]*-*"), reverse=True)
    for directory in windows[steering.target.settings["keep_windows"] :]:
        if directory.name not in needed:
            shutil.rmtree(directory)
            removed.append(directory.name)
    return {"changed": bool(removed), "removed": removed}


def prune_kits(target: Target) -> dict[str, Any]:
    """Remove the kits before the newest, unless something runs from one."""
    kits = [path for path in (target.directory.parent / "kit").glob("[0-9a-f]*") if path.is_dir()]
    newest_first = sorted(kits, key=lambda path: path.stat().st_mtime, reverse=True)
    removed = [path for path in newest_first[target.settings["keep_kits"] :] if not _runs(path)]
    for path in removed:
        shutil.rmtree(path, ignore_errors=True)  # two targets may share a machine, and be at it
    return {"changed": bool(removed), "removed": [path.name for path in removed]}


def _held(place: Path) -> list[Path]:
    try:
        return list(place.iterdir()) if place.is_dir() else [place]
    except PermissionError:
        return [place]


def _runs(kit: Path) -> bool:
    """Say whether a process was started from a kit; asked as root, all can be seen."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"PYTHONPATH={kit}/".encode() in environment.read_bytes():
                return True
        except OSError:
            continue
    return False
