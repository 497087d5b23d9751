"""Archives encrypted with age: to the inventory's keys, and to one that lives as long as the proof.

A host has public keys only, so it could not read what it stored. Each backup is therefore encrypted to one
more key, made for it and held in memory alone: what is stored is decrypted with that and proven, then the key
is gone. That somebody still has the private key of the inventory, no host can prove: a restore shows it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from checks.base.errors import CannotMeasure, Misused
from checks.base.pipeline import Program, run
from checks.base.postgres_tools import environment

SUFFIX = ".age"
RECIPIENT = re.compile(r"age1[0-9a-z]{58}|ssh-(?:ed25519|rsa) [A-Za-z0-9+/=]+(?: .*)?")
PRIVATE = re.compile(r"AGE-SECRET-KEY|PRIVATE KEY", re.IGNORECASE)
ACCEPTED = "Accepted: what age-keygen prints as public key, age1…, or an ssh-ed25519 or ssh-rsa public key."
SECONDS = 10.0
# The longest head of a file with many recipients.
HEAD_BYTES = 65536


@dataclass(frozen=True)
class Key:
    """A key of our own: ``recipient`` is public, ``identity`` opens what was encrypted to it."""

    recipient: str
    identity: str = field(repr=False)


def check_recipients(recipients: Sequence[str]) -> None:
    """Raise Misused, showing no private key, unless each is a public key."""
    for recipient in recipients:
        if PRIVATE.search(recipient):
            raise Misused(
                f"A private key was given to encrypt to; it is known now, so make a new one. {ACCEPTED}"
            )
        if not RECIPIENT.fullmatch(recipient):
            raise Misused(f"{recipient!r} is not a key to encrypt to. {ACCEPTED}")


def new_key() -> Key:
    """Make a key that is written nowhere; raises Misused where age is not installed."""
    try:
        said = run([Program(["age-keygen"], environment())], SECONDS)
    except CannotMeasure as error:
        raise Misused(f"{error} Install age: ./p12 provision") from None
    public = re.search(r"public key: (age1\w+)", said)
    identity = re.search(r"^AGE-SECRET-KEY-\w+$", said, re.MULTILINE)
    if not public or not identity:
        raise CannotMeasure("age-keygen did not print a key. Install Debian's age.")
    return Key(public[1], identity[0])


def encrypting(recipients: Sequence[str], to: Path) -> Program:
    """The program that writes what it is fed to a file that these recipients can open."""
    named = [word for recipient in recipients for word in ("-r", recipient)]
    return Program(["age", "--encrypt", *named, "-o", str(to)], environment())


def decrypting(stored: Path, identity: str) -> Program:
    """The program that writes a stored file as it was; it fails if one byte of it was changed."""
    return Program(["age", "--decrypt", "-i", "-", str(stored)], environment(), identity)


def recipients_in(stored: Path) -> int:
    """Count whom a stored file can be opened by, from its head."""
    with stored.open("rb") as file:
        head = file.read(HEAD_BYTES).split(b"\n---", 1)[0]
    return sum(line.startswith(b"-> ") and b"-grease" not in line for line in head.split(b"\n"))
