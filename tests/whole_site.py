"""A whole local site in a clone of this checkout, on ports of its own, with visitors all the time."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.running import CHECKOUT

# Shorter than a laptop's patience; the same stages, gates and proofs.
QUICK = """\
p12_start_seconds: 60
p12_windows:
  step:
    {seconds: 4, max_seconds: 120, min_requests: 4, max_error_ratio: 0.02,
      warmup_seconds: 1, baseline_requests: 20, cold_seconds: 2,
      tolerable_errors: 0.3, tolerable_slow: 0.4, tolerable_missing: 0.7,
      withdrawal_seconds: 15, shared_seconds: 45}
  monitor:
    {seconds: 5, max_seconds: 120, min_requests: 40, max_error_ratio: 0.02,
      warmup_seconds: 1, max_slow_ratio: 0.5, cold_seconds: 2,
      tolerable_errors: 0.06, tolerable_slow: 0.4, tolerable_missing: 0.5,
      withdrawal_seconds: 15, shared_seconds: 45}
"""


@dataclass(frozen=True)
class Site:
    """A checkout that releases itself onto this machine."""

    checkout: Path

    @property
    def root(self) -> Path:
        """Where the targets live; not in the checkout, whose path has a space in it."""
        return Path(place(self)["p12_root"])

    def p12(self, *words: str, seconds: float = 900) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.checkout / "p12", *words], capture_output=True, text=True, timeout=seconds, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a p12 command in a session of its own, as another terminal would."""
        return subprocess.Popen(
            [self.checkout / "p12", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def await_line(self, running: subprocess.Popen[str], pattern: str) -> None:
        """Read what a command says until a line matches; it is an error that the command ends first."""
        said = []
        assert running.stdout is not None
        for line in running.stdout:
            said.append(line)
            if re.search(pattern, line):
                return
        raise AssertionError(f"it ended before {pattern!r}: {''.join(said)}")

    def host(self, *words: str, stdin: str = "") -> dict[str, Any]:
        """Ask the installed kit directly, as an engineer on the box would."""
        done = subprocess.run(
            [self.root / "bin" / "p12", *words], capture_output=True, text=True, input=stdin, check=False
        )
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer | {"status": done.returncode}

    def status(self, target: str = "production") -> dict[str, Any]:
        return self.host(target, "status")

    def live(self, target: str = "production") -> str:
        return str(self.status(target)["live"]["release"])

    def visitors(self) -> dict[str, Any]:
        """The ledger of production's visitors."""
        seen: dict[str, Any] = json.loads(
            (self.root / "production" / "visitors" / "visitors.json").read_text()
        )
        return seen

    def failed_requests(self) -> list[dict[str, Any]]:
        """What visitors could not do, the last ones in words; empty when nothing ever failed."""
        seen = self.visitors()
        return list(seen["failures"]) or [{"failed": seen["failed"]}] if seen["failed"] else []

    def commit(self, branch: str, path: str, change: Callable[[str], str]) -> str:
        """Change a file on a branch, commit it, and return the release it becomes."""
        self.git("checkout", "-q", "-B", branch)
        file = self.checkout / path
        file.write_text(change(file.read_text()))
        self.git("commit", "-qam", f"Change {path}")
        commit = self.git("rev-parse", "HEAD")
        self.git("checkout", "-q", "main")
        return commit[:12]

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
        done = subprocess.run(
            ["git", "-C", self.checkout, *identity, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


@contextlib.contextmanager
def whole_site(settings: str, production: str = "") -> Iterator[Site]:
    """Clone what is being tested, working tree included, under a name with a space in it.

    ``settings`` are variables of both targets, in YAML, over those of inventories/local; ``production``
    are more of production alone.
    """
    home = Path(tempfile.mkdtemp(prefix="p12-site-"))
    home.chmod(0o755)
    made = Site(home / "paste 12")
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", CHECKOUT, made.checkout], check=True)
    made.git("checkout", "-q", "-B", "main")
    changed = subprocess.run(
        ["git", "-C", CHECKOUT, "ls-files", "-z", "--modified", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, changed):
        if (CHECKOUT / name).is_file():
            (made.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, made.checkout / name)
    made.git("add", "-A")
    with contextlib.suppress(subprocess.CalledProcessError):
        made.git("commit", "-qm", "What is in the working tree")
    (made.checkout / ".venv").symlink_to(CHECKOUT / ".venv")
    cache = CHECKOUT / ".p12" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (made.checkout / ".p12").mkdir(mode=0o755)
    (made.checkout / ".p12" / "cache").symlink_to(cache)
    with free_blocks(2) as ports:
        for target, port in zip(("staging", "production"), ports, strict=True):
            variables = made.checkout / "inventories" / "local" / "group_vars" / target / "test.yml"
            more = production if target == "production" else ""
            variables.write_text(f"---\np12_port: {port}\n{settings}{more}")
        try:
            yield made
        finally:
            (made.checkout / ".p12" / "cache").unlink()
            made.p12("down", "--purge")
            shutil.rmtree(home, ignore_errors=True)


def place(site: Site) -> dict[str, Any]:
    done = subprocess.run(
        [site.checkout / "inventories" / "local" / "place.py", "--list"],
        env={**os.environ, "P12_CHECKOUT": str(site.checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    variables: dict[str, Any] = json.loads(done.stdout)["all"]["vars"]
    return variables


@contextlib.contextmanager
def free_blocks(count: int, size: int = 40) -> Iterator[Sequence[int]]:
    """Hold the first ports of whole blocks that nobody listens in, below the ephemeral range.

    A name among the abstract sockets is held for each, so that two sites made at once get different ones.
    """
    with contextlib.ExitStack() as held:
        found: list[int] = []
        for base in range(20000, 30000, size):
            name = held.enter_context(socket.socket(socket.AF_UNIX))
            with contextlib.suppress(OSError):
                name.bind(f"\0p12-test-ports-{base}")
                if all(is_free(port) for port in range(base, base + size)):
                    found.append(base)
            if len(found) == count:
                break
        yield found


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
