"""What is asked before a restore: that its options agree, and the target's name if it replaces a database."""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from checks.backup.age import PRIVATE
from rollout.cli.site import on_site
from rollout.errors import Refused

# What each kind of restore takes; without any of the first three it is one beside the live database.
TAKES = {
    "over": ("backup", "confirm", "skip_backup", "identity"),
    "drop": (),
    "give_up": (),
    "backup": ("into", "identity"),
}
OPTIONS = ("over", "drop", "give_up", "backup", "into", "confirm", "skip_backup", "identity")


def private_key(path: str) -> str:
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


def is_over(options: argparse.Namespace) -> bool:
    """Say whether a restore replaces the live database.

    :raises Refused: of its options one would be ignored.
    """
    refuse_mixed(options)
    return bool(options.over)


def refuse_mixed(options: argparse.Namespace) -> None:
    """Refuse options of which one would be ignored.

    :raises Refused: says which, and what is accepted.
    """
    given = [name for name in OPTIONS if getattr(options, name)]
    if not given:
        return
    kind = given[0] if given[0] in TAKES else "backup"
    if kind == "backup" and kind not in given:
        also = " and --over" if given[0] in ("confirm", "skip_backup") else ""
        words = f"{_option(given[0])} needs --backup ID{also}."
        raise Refused(f"{words} Nothing was changed.", "See the backups: ./p12 restore")
    if ignored := [name for name in given if name not in (kind, *TAKES[kind])]:
        accepted = ", ".join(map(_option, TAKES[kind])) or "nothing else"
        words = (
            f"{_option(kind)} does not go with {' and '.join(map(_option, ignored))}. Nothing was changed."
        )
        raise Refused(words, f"Accepted with {_option(kind)}: {accepted}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def restore_over(
    options: argparse.Namespace,
    play: Callable[[], int],
    typed: Callable[[str], str] = input,
    is_terminal: Callable[[], bool] = lambda: sys.stdin.isatty(),
) -> int:
    """Say what a restore over the live database would lose, have it confirmed, and do it.

    ``play`` runs the playbook with the options as they are then.

    :raises Refused: no backup was named, nobody is there to ask, or what was typed is not the target's name;
        nothing was changed.
    """
    from rollout.steps.restore import require_typed

    words = ["--target", options.target, "--backup", options.backup or "ID", "--over"]
    words += ["--identity", options.identity] if options.identity else []
    again = f"./p12 restore {shlex.join(words)}"
    if not options.backup:
        raise Refused(
            "--over needs --backup ID. Nothing was changed.", f"See the backups: ./p12 restore; then: {again}"
        )
    if not options.confirm:
        if not is_terminal():
            raise Refused(
                f"This replaces the database of {options.target}, and nobody is there to confirm it. "
                "Nothing was changed.",
                f"{again} --confirm {options.target}",
            )
        options.ask = True
        if status := play():
            return status
        options.ask = False
        try:
            options.confirm = typed(f"Type {options.target} to replace its database: ").strip()
        except EOFError:
            raise Refused("\nNothing was typed, so nothing was changed.", again) from None
    require_typed(options.target, options.confirm, again)
    status = play()
    if status:
        there = on_site("./p12 status", options.inventory)
        sys.stderr.write(f"         Where it stands, and how to go on: {there}\n")
    return status
