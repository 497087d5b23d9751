"""Whose processes and files those of a target are."""

import os
import pwd
from pathlib import Path


def become_owner(directory: Path) -> None:
    """Go on as the owner of a directory, where root started us; nothing we write is to belong to root."""
    if os.geteuid() != 0 or not directory.exists():
        return
    owner = directory.stat()
    if owner.st_uid == 0:
        return
    os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    os.umask(0o077)
