"""A copy of a backup elsewhere: in another directory or on another host, proven by its digest there."""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from checks.backup import manifest
from checks.backup.manifest import Backup
from checks.base.errors import CannotMeasure, Misused
from checks.base.files import PARTIAL
from checks.base.pipeline import exit_text
from checks.base.postgres_tools import KEPT

ACCEPTED = "Accepted: an absolute path, or ssh://user@host[:port]/path."
PASSWORD = re.compile(r":[^:@/]*@")
HOST = re.compile(r"[A-Za-z0-9_.:-]+")
SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15")
# Says the digest of what arrived, and gives it its name only if it is the right one.
ARRIVE = """
cd -- {directory} && umask 077 && cat > {partial} && sync -- {partial} || {{ rm -f -- {partial}; exit 1; }}
seen=$(sha256sum < {partial} | cut -c 1-64)
echo "$seen"
if [ "$seen" = {sha256} ]; then mv -f -- {partial} {name} && sync .; else rm -f -- {partial}; fi
"""


@dataclass(frozen=True)
class Destination:
    """Where copies go: a directory here, or one on a host that ``ssh`` reaches.

    ``ssh_config`` is a file for ``ssh -F``, which may name key, known hosts and all else; empty is ssh's own.
    """

    directory: Path
    host: str = ""
    user: str = ""
    port: int | None = None
    ssh_config: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.directory}" if self.host else str(self.directory)

    @property
    def shell(self) -> list[str]:
        """What runs a script there."""
        if not self.host:
            return ["sh", "-c"]
        options = {"-F": self.ssh_config, "-l": self.user, "-p": self.port or ""}
        given = [word for name, value in options.items() if value for word in (name, str(value))]
        return [*SSH, *given, "--", self.host]


def parse_destination(text: str, ssh_config: str = "") -> Destination:
    """Read where copies go; raises Misused if that is neither a path nor an address."""
    if text.startswith("/"):
        return Destination(Path(text))
    refusal = Misused(f"{PASSWORD.sub(':…@', text)!r} is no place for copies. {ACCEPTED}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise refusal from None
    host, user = parts.hostname or "", parts.username or ""
    is_named = HOST.fullmatch(host) and not host.startswith("-") and not user.startswith("-")
    if parts.scheme != "ssh" or not is_named or len(parts.path) < 2 or parts.password:
        raise refusal
    return Destination(Path(parts.path), host, user, port, ssh_config)


def copy(backup: Backup, to: Destination, seconds: float) -> None:
    """Copy a backup's files, the manifest last, each under a temporary name until its digest is right there.

    The directory must be there: one that is made could be under a disk that is not mounted. Raises Misused if
    it is not, and CannotMeasure if a copy could not be made or arrived changed; the backup here is untouched.
    """
    said = backup.manifest
    digests = {said.archive: said.sha256, said.globals: said.globals_sha256}
    try:
        if not to.host and not to.directory.is_dir():
            raise Misused(f"{to} is not there. Mount it or make it.")
        if not to.host and to.directory.samefile(backup.directory):
            raise Misused(f"{to} is where backups are kept already. Set p12_backup_copy elsewhere.")
        for file in backup.files:
            sha256 = digests.get(file.name) or manifest.sha256(file)
            arrived = _send(file, sha256, to, seconds)
            if arrived != sha256:
                seen = f"sha256 {arrived[:12]}…, not {sha256[:12]}…"
                raise CannotMeasure(f"{file.name} arrived at {to} with {seen}; it was removed there.")
    except (CannotMeasure, Misused) as error:
        kept = f"{said.id} is verified and kept here, without a copy."
        raise type(error)(f"{error} {kept} Once that is mended: ./p12 backup") from None


def _send(file: Path, sha256: str, to: Destination, seconds: float) -> str:
    """Copy one file; return the digest that was computed where it arrived."""
    partial = f"{file.name}{PARTIAL}"
    named = {"directory": str(to.directory), "partial": partial, "name": file.name, "sha256": sha256}
    script = ARRIVE.format(**{name: shlex.quote(value) for name, value in named.items()})
    variables = {name: os.environ[name] for name in (*KEPT, "SSH_AUTH_SOCK") if name in os.environ}
    try:
        with file.open("rb") as source:
            done = subprocess.run(
                [*to.shell, script],
                stdin=source,
                env=variables,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"The copy to {to} took more than {seconds:g} s and was stopped.") from None
    except OSError as error:
        raise CannotMeasure(f"The copy to {to} failed: {error}.") from None
    if done.returncode:
        raise CannotMeasure(f"The copy to {to} failed: {exit_text(done.returncode, done.stderr)}.")
    return done.stdout.strip()
