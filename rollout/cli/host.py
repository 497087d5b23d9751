"""``p12 host TARGET VERB``: what a playbook does on a host, as a program with JSON answers.

Standard library only and imported lazily: a rollback must not wait for what it does not use. Started by root
it becomes the owner of the target's directory first, so nothing it writes belongs to root.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rollout.cli.host_verbs import EVERYWHERE, VERBS
from rollout.cli.verb_table import HELP, OUTAGE_STATUS, USAGE_STATUS, find, parse, usage
from rollout.errors import RolloutError
from rollout.host.owner import become_owner
from rollout.target.target import Target, root_directory
from rollout.text import aimed


def main(arguments: Sequence[str]) -> int:
    """Run one verb and print its JSON answer; 1 with ``error`` and ``hint`` when it was refused or failed.

    ``status`` beside them is what the engineer's command ends with.
    A verb that runs until it is stopped has an exit status instead of an answer.
    """
    target, *words = arguments or HELP
    if target in HELP or words[:1] in (["-h"], ["--help"]):
        print(
            usage("usage: p12 host TARGET VERB …   (each has --help)", {n: v.help for n, v in VERBS.items()})
        )
        return 0 if arguments else USAGE_STATUS
    try:
        verb, rest = find(VERBS, words, "p12 host")
    except RolloutError as error:
        return _print({"error": str(error), "hint": error.hint, "status": error.status}, USAGE_STATUS)
    options = vars(parse(f"p12 host {target} {verb.name}", verb.help, (*verb.options, *EVERYWHERE), rest))
    try:
        root = root_directory()
        if not verb.starts_as_root:
            become_owner(root / target)
        answer = verb.run(Target.load(target, root), options)
    except RolloutError as error:
        return _print({"error": str(error), "hint": aimed(error.hint, target), "status": error.status}, 1)
    except Exception as error:  # whatever it is, the playbook gets an answer and no stack trace
        reason = f"{type(error).__name__}: {error}"
        return _print({"error": f"{target}: {verb.name}: {reason}", "hint": "", "status": 1}, 1)
    if isinstance(answer, int):
        return answer
    shown = dict(answer or {})
    for name in ("hint", "say"):
        if said := shown.get(name):
            is_text = isinstance(said, str)
            shown[name] = aimed(said, target) if is_text else [aimed(line, target) for line in said]
    return _print(shown | {"status": OUTAGE_STATUS}, OUTAGE_STATUS) if "error" in shown else _print(shown, 0)


def _print(answer: Mapping[str, Any], code: int) -> int:
    answer = {"changed": False, "at": round(time.time(), 3), **answer}
    print(json.dumps(answer, indent=2 if sys.stdout.isatty() else None, default=str))
    return code
