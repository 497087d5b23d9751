"""Say what an engineer wants to read: what was proven, or what stopped and what to type next."""

from __future__ import annotations

DOCUMENTATION = """
name: p12
type: stdout
short_description: one line for what was proven, the reason and the next command when something stopped
description:
  - Prints the C(say) of every answer of the kit, and C(error) and C(hint) of the one that stopped.
  - With -v, --check or --diff it is Ansible's default output.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
options:
  p12_output:
    description: json prints every target's last answer as one JSON object at the end, and nothing else.
    env: [{name: P12_OUTPUT}]
    default: text
    choices: [text, json]
  p12_status_file:
    description: where the exit status goes that says what stopped; Ansible has one for all that fails.
    env: [{name: P12_STATUS_FILE}]
    default: ""
"""

import json
import os
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.plugins.callback.default import CallbackModule as Default

# A playbook that is started by hand has no path to the kit.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rollout.cli.site import on_site, site_name

# What a terminal obeys instead of showing it; text that people and tools gave us has no say there.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# What stopped first says least: that something was turned back, or is for a person, is said before all else.
STATUSES = (3, 4, 1, 2, 5)
UNREACHABLE_STATUS, CRASH_STATUS, REFUSED_STATUS = 4, 1, 5
QUIET = (
    "v2_playbook_on_task_start",
    "v2_playbook_on_handler_task_start",
    "v2_playbook_on_play_start",
    "v2_playbook_on_include",
    "v2_playbook_on_no_hosts_matched",
    "v2_runner_on_start",
    "v2_runner_on_skipped",
    "v2_runner_item_on_ok",
    "v2_runner_item_on_skipped",
)


class CallbackModule(Default):  # type: ignore[misc]
    """Ansible's entry point; method names are Ansible's."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "p12"

    def __init__(self) -> None:
        super().__init__()
        self.started = time.monotonic()
        self.said: set[str] = set()
        self.stopped: set[str] = set()
        self.statuses: set[int] = set()
        self.answers: dict[str, Any] = {}

    @property
    def plain(self) -> bool:
        """Whether Ansible's own output was asked for."""
        asked = context.CLIARGS
        return bool(self._display.verbosity or asked.get("check") or asked.get("diff"))

    @property
    def site(self) -> str:
        """What commands that are named have to say of the site, if anything."""
        inventories = context.CLIARGS.get("inventory") or ()
        return site_name(Path(inventories[0])) if len(inventories) == 1 else ""

    def v2_runner_on_ok(self, result: Any) -> None:
        if self.plain:
            super().v2_runner_on_ok(result)
        else:
            self._show(result.result)

    def v2_runner_retry(self, result: Any) -> None:
        if self.plain:
            super().v2_runner_retry(result)
        else:
            self._show(result.result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        if self.plain:
            super().v2_runner_item_on_failed(result)
        else:
            self._show_failure(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            self.statuses.add(_status(result))
        if self.plain:
            super().v2_runner_on_failed(result, ignore_errors)
        elif not ignore_errors and "results" not in result.result:
            self._show_failure(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.statuses.add(UNREACHABLE_STATUS)
        if self.plain:
            super().v2_runner_on_unreachable(result)
        else:
            reason = result.result.get("msg", "no reason given")
            self._stop(f"{result.host.get_name()} cannot be reached: {reason}", C.COLOR_UNREACHABLE)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self.statuses and (path := self.get_option("p12_status_file")):
            with suppress(OSError):
                Path(path).write_text(str(min(self.statuses, key=STATUSES.index)))
        if self.plain:
            super().v2_playbook_on_stats(stats)
        elif self.get_option("p12_output") == "json":
            self._say(json.dumps(self.answers, indent=2))

    def _show(self, outcome: Mapping[str, Any]) -> None:
        answer = _answer(outcome)
        if "target" in answer:
            self.answers[answer["target"]] = answer
        said = answer.get("say") or ()
        for line in [said] if isinstance(said, str) else said:
            if line in self.said or self.get_option("p12_output") != "text":
                continue
            self.said.add(line)
            elapsed = int(time.monotonic() - self.started)
            stamp = "" if "\n" in line else f"{elapsed // 60:2d}:{elapsed % 60:02d}  "
            self._say(f"{stamp}{line}")

    def _show_failure(self, result: Any) -> None:
        self._show(result.result)
        answer = _answer(result.result) or _no_kit(result)
        reason = answer.get("error") or _own_words(result.result)
        if reason in self.stopped:
            return
        self.stopped.add(reason)
        where = "" if answer.get("error") else f"{result.host.get_name()}: {result.task.get_name()}: "
        self._stop(f"{where}{reason}", C.COLOR_ERROR)
        if answer.get("hint"):
            self._say(f"next     {answer['hint']}", stderr=True)

    def _stop(self, reason: str, color: str) -> None:
        # Ansible asks NO_COLOR and whether standard output is a terminal; this goes elsewhere.
        shown = color if sys.stderr.isatty() else None
        self._say(f"\nstopped  {reason}", color=shown, stderr=True)

    def _named(self, text: str) -> str:
        return text if self.get_option("p12_output") == "json" else on_site(text, self.site)

    def _say(self, text: str, color: str | None = None, stderr: bool = False) -> None:
        """Show it; where nobody listens any more, what is under way goes on all the same."""
        stream = sys.stderr if stderr else sys.stdout
        try:
            shown = OBEYED.sub(lambda found: ascii(found[0])[1:-1], self._named(text))
            self._display.display(shown, color=color, stderr=stderr)
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _only_when_plain(name: str) -> Any:
    inherited = getattr(Default, name)

    def method(self: CallbackModule, *arguments: Any, **options: Any) -> None:
        if self.plain:
            inherited(self, *arguments, **options)

    return method


for _name in QUIET:
    setattr(CallbackModule, _name, _only_when_plain(_name))


def _own_words(outcome: Mapping[str, Any]) -> str:
    parts = [str(outcome.get(name, "")).strip() for name in ("msg", "stderr", "stdout")]
    return "\n".join(part for part in parts if part)[-1500:] or "no reason given"


def _status(result: Any) -> int:
    """What a failed task says to a shell: its answer's own word, else whether a rule said no."""
    told = [_answer(each).get("status") for each in (result.result, *result.result.get("results", ()))]
    known = [status for status in told if status in STATUSES]
    is_rule = str(result.task.action).rpartition(".")[2] == "assert"
    return min(known, key=STATUSES.index, default=REFUSED_STATUS if is_rule else CRASH_STATUS)


def _no_kit(result: Any) -> Mapping[str, Any]:
    """Say what it is that cannot be executed where nothing was provisioned."""
    asked = result.result.get("cmd") or ""
    program = asked if isinstance(asked, str) else " ".join(asked)
    if result.result.get("rc") != 2 or "Error executing command" not in str(result.result.get("msg")):
        return {}
    if not program.partition(" ")[0].endswith("/bin/p12"):
        return {}
    return {"error": f"{result.host.get_name()} has no kit yet.", "hint": "./p12 provision"}


def _answer(outcome: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        answer = json.loads(outcome.get("stdout") or "")
    except (TypeError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}
