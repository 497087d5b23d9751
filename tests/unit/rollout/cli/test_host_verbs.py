"""The table of host verbs: every entry can be called, and costs nothing that it does not use."""

import subprocess
import sys
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path

import pytest

from rollout.cli import host
from rollout.cli.host_verbs import EVERYWHERE, OF_ANYBODY, VERBS, Verb
from tests.running import CHECKOUT


def values_of(verb: Verb) -> set[str]:
    """The names of the values that a verb hands to its function."""
    options = {settings.get("dest", name.strip("-").replace("-", "_")) for name, settings in verb.options}
    read = {verb.reads} if isinstance(verb.reads, str) else set(verb.reads)
    return options | set(verb.fixed) | (read - {""})


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_verbs_function_takes_what_the_table_declares_and_wants_nothing_else(verb: Verb) -> None:
    module, _, name = verb.function.partition(":")
    first, *others = signature(getattr(import_module(module), name)).parameters.values()

    required = {each.name for each in others if each.default is Parameter.empty}

    assert first.name in ("target", "steering")
    assert values_of(verb) <= {each.name for each in others}
    assert required <= values_of(verb) | set(OF_ANYBODY)
    assert [name for name, _ in EVERYWHERE] == [f"--{name}" for name in OF_ANYBODY]


def test_help_lists_every_verb_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    status = host.main(["--help"])

    said = capsys.readouterr().out
    assert status == 0
    assert all(f"  {name} " in said and verb.help in said for name, verb in VERBS.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rolback"], "p12 host has no verb 'rolback'. Did you mean rollback? Accepted: status, "),
        (
            ["window", "opne"],
            "p12 host has no verb 'window opne'. Did you mean window open? Accepted: window open,",
        ),
        (
            ["decide"],
            "'decide' needs a word more. Accepted: decide pass, decide fail.",
        ),
    ],
)
def test_a_misspelt_verb_names_the_one_that_is_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = host.main(["production", *words])

    assert status == 2
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("words", [["rollback"], ["flags", "off"], ["status"], ["lock", "break"]])
def test_what_turns_back_imports_the_standard_library_and_nothing_slow(
    words: list[str], tmp_path: Path
) -> None:
    slow = ("psycopg2", "psutil", "checks", "rollout.database", "rollout.steps.window", "asyncio")
    program = (
        "import sys; from rollout.cli.host import EVERYWHERE, VERBS, find, parse\n"
        "verb, rest = find(VERBS, sys.argv[1:], 'p12 host')\n"
        "parse('p12', '', (*verb.options, *EVERYWHERE), rest)\n"
        "__import__(verb.function.partition(':')[0])\n"
        "print(*sorted(sys.modules))"
    )

    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n{program}",
            *words,
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )

    assert not [name for name in done.stdout.split() if name.startswith(slow)]
