"""Secrets, from the environment or from a private file of ``KEY='value'`` lines; never from an option."""

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from checks.base.errors import Misused

# The only thing that libpq may take from our environment: where secrets are kept.
SECRET_PLACES = ("PGPASSFILE", "PGSSLROOTCERT")


def secret(name: str, env_file: Path | None = None) -> str:
    """Return a secret; a file that is given is asked first. Raises Misused if it is nowhere."""
    if value := find(name, env_file):
        return value
    where = f"neither in {env_file} nor exported" if env_file else "not exported"
    raise Misused(f"{name} is {where}. Secrets are never taken from the command line.")


def find(name: str, env_file: Path | None = None) -> str:
    """Return a secret, empty if it is neither in the file nor in the environment."""
    return (read(env_file).get(name) if env_file else "") or os.environ.get(name, "")


def read(path: Path) -> Mapping[str, str]:
    """Read ``KEY='value'`` lines as a shell would; raises Misused if others could read them too."""
    try:
        with path.open(encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise Misused(f"{path} holds secrets and others may read it. Run: chmod 600 {path}")
            words = shlex.split(file.read(), comments=True)
    except (OSError, ValueError) as error:
        raise Misused(f"{path} cannot be read: {error}. It is to hold KEY='value' lines.") from error
    return dict(word.split("=", 1) for word in words if "=" in word)
