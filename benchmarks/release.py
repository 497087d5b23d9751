"""How long is a release? A first one in a fresh clone with nothing running, then a later one, stage by stage.

    .venv/bin/python -m benchmarks.release [--json FILE]

Clones this checkout's HEAD to a temporary place, on the local site's own ports: run ``./p12 down`` first.
What apt has to install is in the first release's time only where it is not installed yet.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import Row, show

CHECKOUT = Path(__file__).resolve().parents[1]
LINE = re.compile(r"^\s*(\d+):(\d\d)  (.*)$")
LIMITS = {"first": 240.0, "later": 120.0, "stages": 45.0}
# A line like these ends a stretch that waits on purpose.
WAITING = re.compile(r"window passed|burst: passed")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="p12-benchmark-"))
    home.chmod(0o755)
    clone = home / "kit"
    subprocess.run(["git", "clone", "-q", str(CHECKOUT), str(clone)], check=True)
    try:
        first, _ = release(clone)
        identity = ("-c", "user.name=b", "-c", "user.email=b@example.org")
        commit = ("commit", "-q", "--allow-empty", "-m", "The next release")
        subprocess.run(["git", "-C", str(clone), *identity, *commit], check=True)
        later, said = release(clone)
        size = max(path.stat().st_size for path in (clone / ".p12" / "cache" / "artifacts").glob("*.tar.gz"))
    finally:
        subprocess.run([str(clone / "p12"), "down", "--purge"], check=False)
        shutil.rmtree(home, ignore_errors=True)
    rows = [
        Row("a first release, environment and servers included", "s", [first], LIMITS["first"]),
        Row("a later release", "s", [later], LIMITS["later"]),
        Row("of it all but windows and burst", "s", [later - waited(said)], LIMITS["stages"]),
        Row("the artifact", "MB", [size / 1e6], 30),
    ]
    print(said, show(rows), sep="\n\n")
    if options.json:
        options.json.write_text(json.dumps([row.to_dict() for row in rows], indent=2) + "\n")
    return 0


def release(clone: Path) -> tuple[float, str]:
    """Run ``./p12 release`` and return its seconds and what it said."""
    started = time.perf_counter()
    done = subprocess.run([str(clone / "p12"), "release"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started, done.stdout


def waited(said: str) -> float:
    """Add up the seconds between a line and the one before it, where the line ends a wait."""
    total, before = 0.0, 0.0
    for match in filter(None, map(LINE.match, said.splitlines())):
        at = 60.0 * int(match[1]) + int(match[2])
        if WAITING.search(match[3]):
            total += at - before
        before = at
    return total


if __name__ == "__main__":
    sys.exit(main())
