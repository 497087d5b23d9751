"""What completes the words of p12: each shell reads it, and bash offers what the tables have."""

import shlex
import shutil
import subprocess

import pytest

from rollout.cli import completion
from rollout.cli.engineer_verbs import VERBS

SITES = ("example", "local")


def offered(*words: str) -> list[str]:
    """What bash offers in place of the last word."""
    line = [script := completion.script("bash", SITES), f"COMP_WORDS=({shlex.join(('./p12', *words))})"]
    line += [f"COMP_CWORD={len(words)}", "_p12", 'printf "%s\\n" "${COMPREPLY[@]}"']
    done = subprocess.run(
        ["bash", "--norc", "-eu"], input="\n".join(line), capture_output=True, text=True, check=True
    )
    assert script
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["roll"], ["rollback"]),
        (["flags", ""], ["list", "set", "on", "off"]),
        (["maintenance", "restart", ""], ["postgres", "pgbouncer"]),
        (["rollback", "--fl"], ["--flags-only"]),
        (["rollback", "--target", "s"], ["staging"]),
        (["rollback", "--target", "=", "s"], ["staging"]),
        (["rollback", "--target", "="], ["production", "staging"]),
        (["release", "-i", ""], ["example", "local"]),
        (["check", "bu"], ["budget", "burst"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
    ids=" ".join,
)
def test_bash_offers_what_may_stand_there(words: list[str], meant: list[str]) -> None:
    assert offered(*words) == meant


def test_bash_offers_every_verb() -> None:
    assert set(offered("")) == {name.split()[0] for name in VERBS}


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_the_shell_reads_its_script(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")

    done = subprocess.run(
        [program, "-n"], input=completion.script(shell, SITES), capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
