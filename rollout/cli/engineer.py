"""The engineer's ``p12`` command: each verb prints the ``ansible-playbook`` line it is, and runs it."""

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rollout.cli import restore_options, session
from rollout.cli.controller_environment import for_ansible
from rollout.cli.engineer_verbs import VERBS, Verb
from rollout.cli.site import LOCAL, on_site
from rollout.cli.verb_table import (
    CRASH_STATUS,
    HELP,
    OUTAGE_STATUS,
    USAGE_STATUS,
    Misspelt,
    find,
    parse,
    usage,
)
from rollout.errors import RolloutError
from rollout.text import aimed, did_you_mean

CHECKOUT = Path(__file__).resolve().parents[2]
# These options are playbooks of their own.
PLAYBOOKS = {
    **{"room": "room", "prune": "prune", "give_up": "restore_give_up", "drop": "restore_drop"},
    **{"check": "adopt_check", "steers": "steer"},
}
# These take locks, which are given back when they stop, whatever stopped them.
LOCKING = (
    *("release", "deploy", "verify", "backup", "promote", "monitor"),
    *("adopt", "flags", "maintenance", "restore", "rehearse"),
)
# What these say to a release that is under way, which holds the lock, as a host's verb.
STEERING = {"pause": "steer pause", "resume": "steer resume", "abort": "steer abort"}
# What Ansible ends with after Ctrl-C, and what we do.
ANSIBLE_INTERRUPTED, INTERRUPTED = 99, 130
INTERRUPT_SECONDS = 5
# What else would end us ends what we run, which then has its end.
PASSED_ON = (signal.SIGTERM, signal.SIGHUP)
# They are no variables of a playbook, but the command's own.
OWN = (
    *("verb", "second", "inventory", "ansible", "json", "room", "prune", "give_up"),
    *("check", "database_url_file", "today_url", "now", "verdict", "steers"),
)
# YAML takes these in no text, or for the end of a line.
NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def main(arguments: list[str]) -> int:
    """Run one verb and return its exit status."""
    try:
        if not arguments or arguments[0] in HELP:
            print(usage("usage: p12 VERB …   (each has --help)", {n: verb.help for n, verb in VERBS.items()}))
            return 0 if arguments else USAGE_STATUS
        verb, words = find(VERBS, arguments, "./p12", first_is_meant=True)
        # A check is told where and with which secrets by its environment.
        checks = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        match verb.name:
            case "check":
                return _become([sys.executable, "-P", "-m", "checks", *words], checks)
            case "replay":
                return _become([sys.executable, "-P", "-m", "checks", *arguments], checks)
            case "test":
                from rollout.cli import run_tests

                return run_tests.main(words)
            case "completion":
                from rollout.cli import completion

                print(completion.script(" ".join(words), sites()), end="")
                return 0
        options = _options(verb, words)
        try:
            return _run(verb, options)
        except RolloutError as error:
            aim = aimed(error.hint, getattr(options, "target", "production"))
            error.hint = aim if isinstance(error, Misspelt) else on_site(aim, options.inventory)
            raise
    except RolloutError as error:
        return _stopped(error)
    except KeyboardInterrupt:
        return INTERRUPTED


def _stopped(error: RolloutError) -> int:
    sys.stderr.write(f"{error}\n" + (f"next     {error.hint}\n" if error.hint else ""))
    return error.status


def _options(verb: Verb, words: list[str]) -> argparse.Namespace:
    options = parse(f"p12 {verb.name}", verb.help, verb.options, words)
    options.verb, _, options.second = verb.name.partition(" ")
    if verb.name == "decide":
        if len(options.verdict or ()) != 1:
            raise Misspelt("A decision is one of --pass and --fail.", "./p12 decide --pass --why '…'")
        options.steers = f"decide {options.verdict[0]}"
        return options
    options.steers = STEERING.get(verb.name, "steer now" if getattr(options, "now", False) else "")
    return options


def _run(verb: Verb, options: argparse.Namespace) -> int:
    if verb.name in ("down", "release", "provision"):
        from rollout.cli import local_site

        if verb.name == "down":
            return local_site.down(_inventory(options), options.purge)
        status = local_site.provision(
            _inventory(options),
            options.ansible,
            lambda: _play("provision", options),
            verb.name == "provision",
        )
        if verb.name == "provision" and status is not None:
            return status
    if verb.name == "journal" and isinstance(options.verify, str):
        from rollout.steps.reports import verified_copy

        print(verified_copy(Path(options.verify)))
        return 0
    if verb.name == "adopt" and options.check:
        from rollout.cli import adopt

        return _become(*adopt.look(options, lambda: _aside("adopt", options)))
    if verb.name == "restore" and restore_options.is_over(options):
        return restore_options.restore_over(options, lambda: _play("restore", options))
    if options.verb in LOCKING and not options.steers:
        return _play(options.verb, options)
    if verb.name == "status":
        status, _ = _wait(*_playbook("status", options))
        return OUTAGE_STATUS if status == CRASH_STATUS else status  # production could not be asked
    return _wait(*_playbook(options.verb, options))[0]


def _play(verb: str, options: argparse.Namespace) -> int:
    """Run a playbook to its end; if it stopped, give back the locks that it had and say what is true.

    Killed with ``kill -9`` it keeps them, until they expire or the next run on this machine takes them over.
    """
    status, ended = _wait(*_playbook(verb, options))
    if not status or verb not in LOCKING:
        return status
    book = CHECKOUT / "playbooks" / "unlock.yml"
    command = [sys.executable, "-P", "-m", "ansible.cli.playbook", "-i", str(_inventory(options)), str(book)]
    for number in (signal.SIGINT, *PASSED_ON):
        signal.signal(number, signal.SIG_IGN)  # inherited: this is the end of what they would end
    subprocess.run([*command, "-e", f"session={ended}", *options.ansible], env=for_ansible(), check=False)
    if status == INTERRUPTED:
        sys.stderr.write(f"next     the same command goes on: {shlex.join(['./p12', *sys.argv[1:]])}\n")
    return status


def _aside(verb: str, options: argparse.Namespace) -> int:
    """Run a playbook on the way to an answer: what it says is not the answer, and goes to stderr."""
    command, environment = _playbook(verb, argparse.Namespace(**{**vars(options), "json": False}))
    return subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode


def _playbook(verb: str, options: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """Print the line an engineer could type, and return the command and its environment."""
    inventory = _inventory(options)
    variables = _variables(options) if verb == options.verb else []
    verb = next((book for name, book in PLAYBOOKS.items() if getattr(options, name, False)), verb)
    if verb == "backup" and options.dry_run:
        raise RolloutError("--dry-run shows what --prune would remove.", "./p12 backup --prune --dry-run")
    extra = [word for variable in variables for word in ("-e", variable)]
    environment = for_ansible()
    if getattr(options, "json", False):
        environment["P12_OUTPUT"] = "json"
    else:
        shown = os.path.relpath(inventory) if Path.cwd() == CHECKOUT else str(inventory)
        line = ["ansible-playbook", "-i", shown, f"playbooks/{verb}.yml", *extra, *options.ansible]
        try:
            sys.stderr.write(f"$ {shlex.join(line)}\n")
            sys.stderr.flush()
        except OSError:  # nobody may read it, and what was asked for is done all the same
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    playbook = str(CHECKOUT / "playbooks" / f"{verb}.yml")
    command = [sys.executable, "-P", "-m", "ansible.cli.playbook", "-i", str(inventory), playbook]
    return [*command, *extra, *options.ansible], environment


def _become(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Go on as another program: its exit status is ours, and Ctrl-C reaches it directly."""
    os.execve(command[0], list(command), dict(environment))


def _wait(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a program to its end; return its status, and which session it was.

    Ctrl-C reaches it directly, and where it did not it is ended; other signals to end are passed on. The
    status is the one that what stopped has said, see ``rollout.errors``.
    """
    with contextlib.ExitStack() as stack:
        told: Path | None = None
        with contextlib.suppress(OSError):  # a full disk keeps nobody from rolling back
            told = Path(stack.enter_context(tempfile.TemporaryDirectory()), "status")
        running = subprocess.Popen(command, env={**environment, "P12_STATUS_FILE": str(told or "")})
        ended, named = _ended(running)
        return _status(ended, told), named


def _status(ended: int, told: Path | None) -> int:
    """What we end with where Ansible has ended so; it has one status for whatever stopped."""
    if ended < 0:
        return 128 - ended
    if ended in (0, INTERRUPTED, ANSIBLE_INTERRUPTED):
        return INTERRUPTED if ended else 0
    try:
        return int(told.read_text()) if told else CRASH_STATUS
    except (OSError, ValueError):
        return CRASH_STATUS


def _ended(running: subprocess.Popen[bytes]) -> tuple[int, str]:
    for number in PASSED_ON:
        signal.signal(number, lambda *_: running.terminate())
    named = session.name_of(running.pid)
    is_interrupted = False
    while True:
        try:
            status = running.wait(INTERRUPT_SECONDS if is_interrupted else None)
            break
        except KeyboardInterrupt:
            is_interrupted = True
        except subprocess.TimeoutExpired:
            running.terminate()  # it was not told, or Ansible has lost it
    return INTERRUPTED if is_interrupted and status else status, named


def _variables(options: argparse.Namespace) -> list[str]:
    """Return the verb's options as the playbook's extra variables; its second word is ``words``."""
    given = {name: value for name, value in vars(options).items() if name not in OWN}
    if options.steers or options.second:
        given["words"] = options.steers or options.second
    return [
        _variable(name, "true" if value is True else value)
        for name, value in given.items()
        if value is not False and value not in ("", None, [])
    ]


def _variable(name: str, value: Any) -> str:
    """One extra variable, to be read back as it was typed.

    Ansible would run a text as a template, and so it is marked. Where nothing in it can be one it is not: a
    marked text that looks like a date would become one. JSON, since Ansible's quotes are not the shell's.
    """
    if not isinstance(value, list):
        value = os.fsencode(str(value)).decode(errors="replace")
        if re.fullmatch(r"[\w./:@%+,=-]+", value):
            return f"{name}={value}"
    mark = "!unsafe " if isinstance(value, list) or set("{#") & set(value) else ""
    text = NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
    return f'{{"{name}": {mark}{text}}}'


def _inventory(options: argparse.Namespace) -> Path:
    named = Path(options.inventory) if options.inventory else LOCAL
    for candidate in (named, CHECKOUT / named, CHECKOUT / "inventories" / named):
        if candidate.exists():
            return candidate.resolve()
    meant = did_you_mean(options.inventory, sites())
    raise Misspelt(
        f"{options.inventory} is not an inventory: neither a path nor a site.{meant} Nothing was done.",
        f"./p12 {options.verb} {options.second}".strip() + " --help",
    )


def sites() -> list[str]:
    """Return the names of the inventories of this checkout."""
    return sorted(path.name for path in (CHECKOUT / "inventories").iterdir() if path.is_dir())
