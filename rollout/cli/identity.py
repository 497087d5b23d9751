"""The private key of an encrypted backup: read on the controller, and on standard input everywhere else."""

from pathlib import Path

from checks.backup.age import PRIVATE
from rollout.errors import Refused


def file(path: str) -> str:
    """Return the absolute path of a file with a private key; nothing of the key itself.

    :raises Refused: it cannot be read, or holds none.
    """
    accepted = "Accepted: what age-keygen wrote, or an ssh-ed25519 or ssh-rsa private key without passphrase"
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"--identity {path} cannot be read: {error}.", accepted) from None
    if not PRIVATE.search(text):
        raise Refused(f"--identity {path} holds no private key.", accepted)
    return str(Path(path).expanduser().resolve())
