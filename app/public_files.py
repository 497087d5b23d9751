"""The owner's public files: which are served, and as what. Standard library only, for playbooks ask it too.

``python -m app.public_files DIRECTORY`` says what is wrong with a directory, before it is shipped;
``--digest DIRECTORY`` names what it holds.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LARGEST_BYTES = 1_048_576
MOST_FILES = 500
WELL_KNOWN, IMAGES = ".well-known", "images"
TEXT = "text/plain; charset=utf-8"
IMAGE_TYPES: Mapping[str, str] = {
    **{"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif"},
    **{"webp": "image/webp", "avif": "image/avif", "svg": "image/svg+xml", "ico": "image/x-icon"},
}
TYPES: Mapping[str, str] = {
    **IMAGE_TYPES,
    **{"html": "text/html; charset=utf-8", "txt": TEXT, "json": "application/json"},
}
# What has no ending of its own: tokens of ACME, and Apple's.
WITHOUT_ENDING: Mapping[str, str] = {"apple-app-site-association": "application/json"}
# A name of ours, and the files of the owner that may stand for it.
PAGES: Mapping[str, tuple[str, ...]] = {
    "terms": ("terms.html", "terms.txt"),
    "privacy": ("privacy.html", "privacy.txt"),
}
TOP = ("ads.txt", "robots.txt", "favicon.ico")
PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


class PublicFile(NamedTuple):
    content: bytes
    kind: str
    modified: float


def read(directory: str, *names: str) -> PublicFile | None:
    """Return the first of some files below the owner's directory, None where none can be served."""
    with suppress(OSError):
        if found := find(directory, *names):
            path, kind = found
            return PublicFile(path.read_bytes(), kind, path.stat().st_mtime)
    return None


def find(directory: str, *names: str) -> tuple[Path, str] | None:
    """Return the path and the type of the first of some files that can be served.

    What a link in the directory points at outside of it cannot, nor what is no plain file or too large.
    """
    root = Path(directory).resolve()
    for name in names if directory else ():
        path, kind = root / name, kind_of(name)
        with suppress(OSError):
            if kind and not _trouble(root, real := Path(os.path.realpath(path))):
                return real, kind
    return None


def kind_of(name: str) -> str:
    """Return the media type of a file by its path in the directory, empty where it is not served."""
    *folders, last = name.split("/")
    inside = folders[1:] if folders[:1] == [WELL_KNOWN] else folders
    if not all(PART.fullmatch(part) for part in (*inside, last)):
        return ""
    ending = last.rpartition(".")[2].lower() if "." in last else ""
    if folders[:1] == [WELL_KNOWN]:
        return TYPES.get(ending, "") if ending else WITHOUT_ENDING.get(last, TEXT)
    if folders[:1] == [IMAGES] or (not folders and ending in IMAGE_TYPES):
        return IMAGE_TYPES.get(ending, "")
    known = (*TOP, *(name for names in PAGES.values() for name in names))
    return TYPES[ending] if not folders and last in known else ""


def problems(directory: Path) -> Iterator[str]:
    """Say what would not be served of a directory, and why."""
    if not directory.is_dir():
        yield f"{directory} is no directory."
        return
    root = directory.resolve()
    found = sorted(path for path in root.rglob("*") if not path.is_dir() or path.is_symlink())
    if len(found) > MOST_FILES:
        yield f"{directory} has {len(found)} files (limit {MOST_FILES})."
    for path in found[:MOST_FILES]:
        name = path.relative_to(root).as_posix()
        if not kind_of(name):
            yield f"{name} is of no name or type that is served."
        elif trouble := _trouble(root, Path(os.path.realpath(path))):
            yield f"{name} {trouble}."


def _trouble(root: Path, path: Path) -> str:
    """Say why a file cannot be served; empty where it can."""
    if not path.is_relative_to(root):
        return "is a link to what lies outside"
    if not path.is_file():
        return "is no plain file"
    size = path.stat().st_size
    return f"has {size} bytes (limit {LARGEST_BYTES})" if size > LARGEST_BYTES else ""


def digest(directory: Path) -> str:
    """Name what a directory holds, by the names and the content of its files."""
    found = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{path.relative_to(directory).as_posix()} {content}\n".encode())
    return found.hexdigest()[:12]


def main(arguments: Sequence[str]) -> int:
    *asked, given = arguments
    directory = Path(given)
    found = list(problems(directory))
    if asked and not found:
        print(digest(directory))
    if not found:
        return 0
    hint = (
        "Served are terms and privacy (.html, .txt), ads.txt, robots.txt, favicon.ico, images, .well-known/"
    )
    print(json.dumps({"error": f"p12_public_files: {' '.join(found[:5])}", "hint": hint}))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
