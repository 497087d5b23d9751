"""``p12 host TARGET VERB``: what a playbook does on a host, as a program with JSON answers.

Standard library only and imported lazily: a rollback must not wait for what it does not use. Started by root
it becomes the owner of the target's directory first, so nothing it writes belongs to root.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rollout.cli.host_verbs import VERBS, Verb
from rollout.errors import RolloutError
from rollout.host.owner import become_owner
from rollout.target.target import Target, root_directory

HELP = ("-h", "--help")
USAGE_STATUS = 2


def main(arguments: Sequence[str]) -> int:
    """Run one verb and print its JSON answer; 1 with ``error`` and ``hint`` when it was refused or failed.

    A verb that runs until it is stopped has an exit status instead of an answer.
    """
    target, *words = arguments or HELP
    if target in HELP or words[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0 if arguments else USAGE_STATUS
    try:
        verb, rest = find_verb(words)
    except RolloutError as error:
        return _print({"error": str(error), "hint": error.hint}, USAGE_STATUS)
    options = verb.parse(target, rest)
    try:
        root = root_directory()
        if not verb.starts_as_root:
            become_owner(root / target)
        answer = verb.run(Target.load(target, root), options)
    except RolloutError as error:
        return _print({"error": str(error), "hint": error.hint}, 1)
    except Exception as error:  # whatever it is, the playbook gets an answer and no stack trace
        reason = f"{type(error).__name__}: {error}"
        return _print({"error": f"{target}: {verb.name}: {reason}", "hint": ""}, 1)
    return answer if isinstance(answer, int) else _print(answer or {}, 0)


def usage() -> str:
    """Every verb with its help."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items()]
    return "\n".join(["usage: p12 host TARGET VERB …   (each has --help)", *lines])


def find_verb(words: Sequence[str]) -> tuple[Verb, list[str]]:
    """Return the verb that the first words name, and the words after it.

    :raises RolloutError: they name none; says what is meant or accepted.
    """
    for count in (2, 1):
        if verb := VERBS.get(" ".join(words[:count])):
            return verb, list(words[count:])
    from rollout.text import did_you_mean

    siblings = [name for name in VERBS if words and name.split()[0] == words[0]]
    if siblings and len(words) == 1:
        raise RolloutError(
            f"{words[0]!r} is half a verb. Accepted: {', '.join(siblings)}.", "p12 host --help"
        )
    typed = " ".join(words[: 2 if siblings else 1])
    said = did_you_mean(typed, siblings or VERBS)
    raise RolloutError(f"{typed!r} is not a verb of p12 host.{said}", "p12 host --help")


def _print(answer: Mapping[str, Any], code: int) -> int:
    answer = {"changed": False, "at": round(time.time(), 3), **answer}
    print(json.dumps(answer, indent=2 if sys.stdout.isatty() else None, default=str))
    return code
