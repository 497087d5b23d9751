"""Unpack tarballs without trusting them: only regular files and directories, only below the destination."""

import tarfile
from pathlib import Path, PurePosixPath


def unpack(archive: tarfile.TarFile, directory: Path) -> None:
    """Extract everything below ``directory``; Python before 3.11.4 has no extraction filters.

    :raises tarfile.TarError: a member is a link, a device, or would land elsewhere; nothing was extracted.
    """
    members = archive.getmembers()
    for member in members:
        path = PurePosixPath(member.name)
        if not (member.isreg() or member.isdir()) or path.is_absolute() or ".." in path.parts:
            raise tarfile.TarError(f"{member.name} is not a plain file below the destination")
        member.mode = 0o755 if member.isdir() else 0o644
        member.uid = member.gid = 0
        member.uname = member.gname = ""
    directory.mkdir(parents=True, exist_ok=True)
    archive.extractall(directory, members)  # noqa: S202
