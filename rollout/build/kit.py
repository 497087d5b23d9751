"""The kit as it is installed on hosts: this checkout's ``checks`` and ``rollout`` with what they need."""

import hashlib
from pathlib import Path

from rollout.build.cache import scratch
from rollout.build.tarball import Platform, compiled, compose, dependencies, files_below

PACKAGES = ("checks", "rollout")


def kit_id(checkout: Path, platform: Platform) -> str:
    """Name the kit by what it is made of: 12 hex digits over its sources and the lock."""
    digest = hashlib.sha256(f"{platform.python} {platform.machine}".encode())
    sources = {name: content for package in PACKAGES for name, content in _sources(checkout, package).items()}
    for name in sorted(sources):
        digest.update(name.encode() + b"\0" + sources[name] + b"\0")
    digest.update((checkout / "requirements.lock").read_bytes())
    return digest.hexdigest()[:12]


def build(checkout: Path, cache: Path, platform: Platform) -> tuple[Path, str, bool]:
    """Return the kit's tarball, its name, and whether it had to be built."""
    name = kit_id(checkout, platform)
    path = cache / f"kit-{name}.tar.gz"
    if path.exists():
        path.touch()  # the newest are kept
        return path, name, False
    packed = dependencies(cache, checkout, "kit", platform, with_byte_code=True)
    with scratch(cache) as tree:
        for package in PACKAGES:
            for source, content in _sources(checkout, package).items():
                copy = tree / "lib" / source
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(content)
        compose(path, packed, compiled(tree, "lib", platform))
    return path, name, True


def _sources(checkout: Path, package: str) -> dict[str, bytes]:
    return {
        name: content
        for name, content in files_below(checkout, package).items()
        if "__pycache__" not in name and not name.endswith(".pyc")
    }
