"""Git, asked for what is in a repository and never for what somebody has configured."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rollout.errors import RolloutError

# Only whoever may run this checkout's programs asks, so it being another user's is no surprise.
COMMAND = ("git", "--no-replace-objects", "-c", "safe.directory=*", "-C")
ENVIRONMENT = {
    "PATH": os.defpath,
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
}


def run(
    checkout: Path, *arguments: str, check: bool = True, keep: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run git in a checkout; ``keep`` names the variables of the engineer's that it may see.

    :raises RolloutError: git is missing, or fails where it must not.
    """
    kept = {name: os.environ[name] for name in keep if name in os.environ}
    done = subprocess.run(
        [*_command(checkout), *arguments],
        env={**ENVIRONMENT, **kept},
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise RolloutError(f"git {arguments[0]} failed in {checkout}: {done.stderr.strip()}")
    return done


def blobs(checkout: Path, names: Sequence[str]) -> list[bytes]:
    """Return the raw bytes of objects, in order."""
    done = subprocess.run(
        [*_command(checkout), "cat-file", "--batch"],
        input="".join(f"{name}\n" for name in names).encode(),
        env=ENVIRONMENT,
        capture_output=True,
        check=True,
    )
    contents, left = [], done.stdout
    for _ in names:
        head, _, left = left.partition(b"\n")
        size = int(head.split()[2])
        contents.append(left[:size])
        left = left[size + 1 :]
    return contents


def _command(checkout: Path) -> list[str]:
    if not any((Path(place) / "git").exists() for place in os.defpath.split(os.pathsep) if place):
        raise RolloutError("git is not installed.", "apt-get install git")
    return [*COMMAND, str(checkout)]
