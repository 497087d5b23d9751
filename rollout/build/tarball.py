"""Tarballs of Python: locked dependencies and our packages under one ``lib/``, ready to run on a host.

The dependencies are a gzip member of their own, kept by the hash of the lock: a new release costs only the
packing of its own files. Entries carry no owner and one fixed time, and nothing that an installer or a Python
writes by its own lights, so the same input gives the same content, whoever builds it and where.
"""

import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rollout.build.cache import scratch
from rollout.environment import environment
from rollout.errors import RolloutError
from rollout.files import content_sha256, file_lock, write_bytes

BLOCK = 512
WRITTEN_BY_INSTALLERS = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")
# Where packages come from is for whoever builds to say; what they are, the lock says.
FOR_UV = (
    *(
        "UV_DEFAULT_INDEX",
        "UV_INDEX_URL",
        "UV_INDEX",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_CONFIG_FILE",
    ),
    *("UV_CACHE_DIR", "UV_OFFLINE", "UV_NATIVE_TLS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"),
    *("HOME", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)


@dataclass(frozen=True)
class Platform:
    """What the hosts run: ``python`` as ``3.11``, ``machine`` as ``x86_64``."""

    python: str
    machine: str

    @property
    def is_ours(self) -> bool:
        return self.python == f"{sys.version_info.major}.{sys.version_info.minor}"


def dependencies(
    cache: Path, tree: Path, extra: str, platform: Platform, *, with_byte_code: bool = False
) -> Path:
    """Return the packed dependencies of one extra of ``tree``'s pyproject, built once per lock.

    Byte code is as the Python here writes it, and so no two builders' is the same.

    :raises RolloutError: a package cannot be had, or its hash is not the locked one.
    """
    lock, project = tree / "requirements.lock", tree / "pyproject.toml"
    described = f"{extra} {platform.python} {platform.machine}".encode()
    key = hashlib.sha256(described + lock.read_bytes() + project.read_bytes()).hexdigest()[:16]
    packed = cache / f"dependencies-{extra}-{key}.tar.gz"
    cache.mkdir(parents=True, exist_ok=True)
    digest = packed.with_suffix(".sha256")
    with file_lock(cache / f"{extra}.lock", wait_seconds=300):
        if not _is_as_it_was_made(packed, digest):
            with scratch(cache) as directory:
                _install(directory / "lib", lock, project, extra, platform)
                if with_byte_code:
                    _compile(directory / "lib", platform)
                write_bytes(packed, pack(files_below(directory, "lib"), last=False), 0o644)
                write_bytes(digest, content_sha256(packed).encode(), 0o644)
        packed.touch()
    return packed


def _is_as_it_was_made(packed: Path, digest: Path) -> bool:
    """Say whether kept dependencies can be trusted; damaged ones are made again."""
    try:
        return content_sha256(packed) == digest.read_text()
    except OSError:
        return False


def compose(destination: Path, packed: Path, files: Mapping[str, bytes]) -> str:
    """Write dependencies and our own files as one tarball and return the SHA-256 of its content."""
    write_bytes(destination, packed.read_bytes() + pack(files, last=True), 0o644)
    return content_sha256(destination)


def pack(files: Mapping[str, bytes], last: bool) -> bytes:
    """Return one gzip member of tar entries; only the ``last`` one ends the archive."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as compressed:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(files[name]), 0o644, 0
            compressed.write(entry.tobuf(tarfile.PAX_FORMAT))
            compressed.write(files[name] + b"\0" * (-len(files[name]) % BLOCK))
        if last:
            compressed.write(b"\0" * 2 * BLOCK)
    return packed.getvalue()


def files_below(directory: Path, prefix: str) -> dict[str, bytes]:
    """Return the regular files below ``directory/prefix`` by their path from ``directory``."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted((directory / prefix).rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def compiled(directory: Path, prefix: str, platform: Platform) -> dict[str, bytes]:
    """Return our own files with their byte code."""
    _compile(directory / prefix, platform)
    return files_below(directory, prefix)


def _install(lib: Path, lock: Path, project: Path, extra: str, platform: Platform) -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [
        *(str(uv), "pip", "install", "--quiet", "--target", str(lib)),
        *("--python-version", platform.python),
        *("--python-platform", f"{platform.machine}-manylinux_2_28"),
        *("--only-binary", ":all:", "--verify-hashes", "--link-mode", "copy"),
        *("--constraint", str(lock), "--requirement", str(project), "--extra", extra),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(FOR_UV))
    if done.returncode:
        raise RolloutError(
            f"The {extra} dependencies cannot be installed: {done.stderr.strip()[-600:]}",
            "Where the network is the reason, the same command works once it is back.",
        )
    # Programs and records hold the path of the Python that installed them.
    shutil.rmtree(lib / "bin", ignore_errors=True)
    for written in (path for name in WRITTEN_BY_INSTALLERS for path in lib.glob(f"*.dist-info/{name}")):
        written.unlink()


def _compile(lib: Path, platform: Platform) -> None:
    """Ship byte code where our Python writes what the hosts read; elsewhere they compile as they import."""
    if not platform.is_ours:
        return
    # -E: how the engineer has set up Python, e.g. PYTHONPYCACHEPREFIX, must not change the bytes.
    command = [sys.executable, "-E", "-m", "compileall", "-qq", "-j0", "-s", str(lib.parent)]
    command += ["--invalidation-mode", "unchecked-hash", str(lib)]
    subprocess.run(command, capture_output=True, check=False)
