"""The engineer's command: each verb is one ansible-playbook line, printed and run."""

import itertools
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible import context
from ansible.cli.arguments import option_helpers
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible.utils.vars import load_extra_vars
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollout.cli import engineer as command
from rollout.cli import local_site
from rollout.cli.engineer_verbs import ANSIBLE, VERBS
from tests.running import CHECKOUT

PLAYBOOKS = command.CHECKOUT / "playbooks"
# What a template, a shell, YAML or Ansible would make something else of.
SHARP = (
    *(
        "{{ 7*7 }}",
        "{% if x %}",
        "{# x #}",
        "#jinja2: variable_start_string: '['\n",
        "!unsafe ",
        "@/etc/passwd",
    ),
    *("--help", "$(id)", "`id`", ";", "$HOME", "'", '"', "\\", "=", ",", ": ", "yes", "null", "~", "<<", "*"),
    *(
        "0x10",
        "1:30",
        "2001-12-14 21:59:43",
        "\n",
        "\x1b[2J",
        "\x7f",
        "\x85",
        "\u2028",
        "\ufeff",
        "\uffff",
        "😀",
    ),
)
TYPED = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=30)
TEXTS = st.lists(TYPED | st.sampled_from(SHARP), min_size=1, max_size=4).map("".join)
# The options of a verb that take any text, and those that are text to it and checked when it is used.
FREE = [
    (verb.name, option[0])
    for verb in VERBS.values()
    if ANSIBLE in verb.options
    for option in verb.options
    if not {"type", "action", "const"} & set(option[1])
    and option[0] != "-i|--inventory"
    and option[0].removeprefix("--").replace("-", "_") not in command.OWN
]
# Playbooks that are options of a verb.
OF_VERB = {"backup": ["prune"], "restore": ["restore_give_up", "restore_drop"]}
ECHO = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.copy: {content: "{{ why }}", dest: "{{ playbook_dir }}/said"}
"""


class Ran:
    """What the command would have run instead of running it."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.status = 0

    def __call__(self, command: list[str], environment: dict[str, str]) -> int:
        self.commands.append(list(command))
        self.environments.append(environment)
        return self.status

    @property
    def variables(self) -> dict[str, Any]:
        (line,) = self.commands
        return as_ansible_reads(*(word for flag, word in itertools.pairwise(line) if flag == "-e"))


def as_ansible_reads(*words: str) -> dict[str, Any]:
    """What the playbook's tasks are given for these ``-e``, templated as often as it takes."""
    parser = option_helpers.create_base_parser("ansible-playbook")
    option_helpers.add_runtask_options(parser)
    context.CLIARGS = vars(parser.parse_args([part for word in words for part in ("-e", word)]))
    load_extra_vars.extra_vars = None
    read = load_extra_vars(DataLoader())
    templar = Templar(DataLoader(), variables=read)
    return {name: templar.template(trust_as_template(f"{{{{ {name} }}}}")) for name in read}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    instead = Ran()
    monkeypatch.setattr(command, "_become", instead)
    monkeypatch.setattr(command, "_wait", lambda *given: (instead(*given), "tower:1:1.00"))
    monkeypatch.setattr(local_site, "provision", lambda *_: None)
    return instead


@pytest.fixture
def playbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of our own, with an empty ansible.cfg and one inventory."""
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    (tmp_path / "hosts").write_text(f"localhost ansible_python_interpreter={sys.executable}\n")
    monkeypatch.setattr(command, "CHECKOUT", tmp_path)
    monkeypatch.setattr(command, "_become", lambda *given: command._wait(*given)[0])
    return tmp_path / "playbooks"


def test_every_verb_that_runs_a_playbook_has_one() -> None:
    books = {verb.name.split()[0] for verb in VERBS.values() if ANSIBLE in verb.options}
    books -= {*command.STEERING, "decide"}  # what they say is one playbook's

    missing = [
        book for book in books | set(command.PLAYBOOKS.values()) if not (PLAYBOOKS / f"{book}.yml").exists()
    ]

    assert len(books) > 10
    assert missing == []


def test_every_verb_whose_playbook_takes_a_lock_is_ended_by_who_started_it() -> None:
    texts = {path.stem: path.read_text() for path in PLAYBOOKS.glob("*.yml")}
    taking = {book for book, text in texts.items() if "tasks_from: lock" in text}
    taking |= {b for b, text in texts.items() if any(f"import_playbook: {t}.yml" in text for t in taking)}
    option_of = {book: verb for verb, books in OF_VERB.items() for book in books}

    verbs = {option_of.get(book, book) for book in taking if not book.startswith("stage_")}

    assert verbs - {"preflight", "restore_over"} == set(command.LOCKING)


@pytest.mark.usefixtures("ran")
def test_the_line_is_printed_so_that_it_can_be_run_by_hand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(command.CHECKOUT)

    command.main(["rollback", "--why", "it's slow", "--ansible=-v"])

    printed = capsys.readouterr().err
    assert shlex.split(printed.removeprefix("$ ")) == [
        "ansible-playbook", "-i", "inventories/local", "playbooks/rollback.yml",
        "-e", "target=production", "-e", '{"why": "it\'s slow"}', "-v",
    ]  # fmt: skip
    assert printed.startswith("$ ansible-playbook ")


def test_its_status_is_what_the_playbook_says(ran: Ran) -> None:
    ran.status = 5

    assert command.main(["rollback"]) == 5


@pytest.mark.parametrize(("stopped", "status"), [(0, 0), (1, 3), (3, 3), (4, 4)])
def test_a_script_can_tell_whether_production_serves(ran: Ran, stopped: int, status: int) -> None:
    ran.status = stopped

    assert command.main(["status"]) == status


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@pytest.mark.parametrize(("verb", "name"), FREE, ids=map(" ".join, FREE))
@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_what_is_typed_reaches_the_playbook_as_it_was_typed(
    ran: Ran, verb: str, name: str, texts: list[str]
) -> None:
    ran.commands.clear()
    option = name.removeprefix("--").replace("-", "_")
    needs = {"into": ["--backup=b"], "confirm": ["--backup=b", "--over"], "decide": ["--pass"]}
    given = ["--", *texts] if name == "names" else [f"{name}={texts[0]}"]

    command._become(*command._playbook(
        verb.split()[0],
        command._options(VERBS[verb], [*needs.get(option, needs.get(verb, [])), *given]),
    ))  # fmt: skip

    assert ran.variables[option] == (texts if name == "names" else texts[0])


def test_bytes_that_are_no_text_do_not_keep_anyone_from_rolling_back(ran: Ran) -> None:
    assert command.main(["rollback", "--why=alert \udcff fired"]) == 0

    assert ran.variables["why"] == "alert \ufffd fired"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(why=TEXTS)
def test_the_printed_line_is_the_one_that_is_run(
    ran: Ran, capsys: pytest.CaptureFixture[str], why: str
) -> None:
    ran.commands.clear()

    command.main(["rollback", f"--why={why}"])

    _, *printed = shlex.split(capsys.readouterr().err.removeprefix("$ "))
    assert [word for word in printed if "why" in word] == [w for w in ran.commands[0] if "why" in w]


def test_a_reason_reaches_the_task_as_it_was_typed(playbooks: Path) -> None:
    (playbooks / "rollback.yml").write_text(ECHO)
    probe = playbooks.parent / "probe"
    why = f"""it's "slow": 50 % errors, a=b \\ #5 é {{{{ $labels.instance }}}} {{% x %}} {{# y #}} !unsafe
    @x --help $HOME; `id` 😀 {{{{ lookup("pipe", "id > {probe}") }}}}"""

    assert command.main(["rollback", "-i", str(playbooks.parent / "hosts"), "--why", why]) == 0

    assert (playbooks / "said").read_text() == why
    assert not probe.exists()


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["release", "--branch", "topic/one"], {"branch": "topic/one"}),
        (["rollback"], {"target": "production"}),
        (["rollback", "--target=staging"], {"target": "staging"}),
        (["rollback", "--flags-only"], {"target": "production", "flags_only": "true"}),
        (["monitor", "--minutes=90"], {"minutes": "90.0"}),
        (["flags"], {"target": "production", "words": "list"}),
        (
            ["flags", "set", "P12_READ_ONLY=1", "--slot=blue"],
            {"target": "production", "words": "set", "names": ["P12_READ_ONLY=1"], "slot": "blue"},
        ),
        (["flags", "off", "--generation=7"], {"target": "production", "words": "off", "generation": "7"}),
        (
            ["lock", "break", "--why=gone home"],
            {"target": "production", "why": "gone home", "words": "break"},
        ),
        (["backup", "--prune"], {"target": "production"}),
        (["backup", "--prune", "--dry-run"], {"target": "production", "dry_run": "true"}),
        (["maintenance", "apply"], {"target": "production", "words": "apply"}),
        (["maintenance", "restart", "postgres"], {"target": "production", "words": "restart postgres"}),
        (["maintenance", "restart", "pgbouncer"], {"target": "production", "words": "restart pgbouncer"}),
        (["maintenance", "off"], {"target": "production", "words": "off"}),
        (["maintenance", "on", "--target=staging"], {"target": "staging", "words": "on"}),
        (["rehearse"], {}),
        (["restore", "--drop=old"], {"target": "production", "drop": "old"}),
        (["restore", "--give-up"], {"target": "production"}),
        (["decide", "--pass", "--why=quiet"], {"words": "decide pass", "why": "quiet"}),
        (["pause", "--why=lunch"], {"words": "steer pause", "why": "lunch"}),
        (["resume"], {"words": "steer resume"}),
        (["promote", "--now", "--why=urgent"], {"words": "steer now", "why": "urgent"}),
        (["promote", "--why=again"], {"why": "again"}),
        (["abort", "--why=wrong"], {"words": "steer abort", "why": "wrong"}),
        (["restore", "--backup=b1", "--into=copy"], {"target": "production", "backup": "b1", "into": "copy"}),
    ],
    ids=" ".join,
)
def test_options_become_the_playbooks_variables(
    ran: Ran, arguments: list[str], variables: dict[str, str]
) -> None:
    command.main(arguments)

    assert ran.variables == variables


def test_a_dry_run_is_of_pruning_only(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["backup", "--prune", "--dry-run"]) == 0
    assert command.main(["backup", "--dry-run"]) == 1

    (line,) = ran.commands
    assert str(command.CHECKOUT / "playbooks" / "prune.yml") in line
    assert "./p12 backup --prune --dry-run" in capsys.readouterr().err


def test_status_as_json_prints_nothing_else(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["status", "--json"])

    assert capsys.readouterr().err == ""
    assert ran.environments[0]["P12_OUTPUT"] == "json"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["check", "budget", "--help"], 0, "usage: p12 check budget"),
        (["check", "bugdet"], 2, "bugdet is not a check. Did you mean budget?"),
        (["replay", "--limits=x", "nowhere"], 2, "nowhere"),
    ],
)
def test_what_is_passed_on_keeps_its_own_options(words: list[str], status: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rollout", *words], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )

    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr


def test_a_site_is_a_name_or_a_path(ran: Ran, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name, meant in (
        ("local", command.LOCAL),
        ("inventories/local", command.LOCAL),
        (str(tmp_path / "mine"), tmp_path / "mine"),
    ):
        ran.commands.clear()
        command.main(["status", "-i", name])
        assert ran.commands[0][ran.commands[0].index("-i") + 1] == str(meant.resolve())


@pytest.mark.usefixtures("ran")
@pytest.mark.parametrize(
    ("words", "next_line"),
    [
        ("restore -i lab --over", "./p12 restore -i lab; then: ./p12 restore -i lab --target production"),
        ("restore -i lab --into x --target staging", "./p12 restore -i lab --target staging"),
        ("backup -i lab --dry-run", "./p12 backup -i lab --prune --dry-run"),
        ("maintenance on -i laab", "./p12 maintenance on --help"),
    ],
)
def test_what_to_type_next_is_for_the_same_site_and_target(
    capsys: pytest.CaptureFixture[str], words: str, next_line: str
) -> None:
    assert command.main(words.split()) in (1, 2, 5)

    assert f": {next_line}" in capsys.readouterr().err.replace("next     ", ": ")


@pytest.mark.parametrize("words", [["maintenance"], ["maintenance", "--target=staging"]])
def test_a_verb_that_acts_is_not_meant_by_its_first_word_alone(
    ran: Ran, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert command.main(words) == 2

    assert "maintenance apply, maintenance restart postgres" in capsys.readouterr().err
    assert ran.commands == []


def test_a_site_that_is_not_there_is_refused_with_those_that_are(
    ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["status", "-i", "nowhere"]) == 2

    said = capsys.readouterr().err
    assert "nowhere is not an inventory" in said
    assert "Accepted: example, lab, local." in said
    assert "next     ./p12 status --help" in said
    assert ran.commands == []


def test_help_says_what_each_verb_is_for_as_it_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0

    said = capsys.readouterr().out
    assert all(f"  {name} " in said and verb.help in said for name, verb in VERBS.items())


def test_ctrl_c_is_130_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_wait", interrupted)

    assert command.main(["rollback"]) == 130


def status_of(arguments: list[str]) -> int:
    """What the command ends with, whichever of its two ways it takes."""
    try:
        return command.main(arguments)
    except SystemExit as stopped:
        return int(stopped.code or 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: p12 VERB"),
        (["releese"], "p12 has no verb 'releese'. Did you mean release? Accepted: release, rollback, "),
        (
            ["flags", "up"],
            "p12 has no verb 'flags up'. Did you mean flags on? Accepted: flags list, flags set, flags on, ",
        ),
        (["maintenance", "of"], "p12 has no verb 'maintenance of'. Did you mean maintenance off? Accepted: "),
        (["maintenance", "on", "staging"], "p12 maintenance on does not take staging. Nothing was done."),
        (["maintenance", "restart", "redis"], "p12 has no verb 'maintenance restart redis'. Did you mean"),
        (["rollback", "--target=prod"], "argument --target: 'prod' is none. Did you mean production?"),
        (
            ["rollback", "--traget=staging"],
            "p12 rollback does not take --traget=staging. Did you mean --target?",
        ),
        (["monitor", "--minutes=x"], "argument --minutes: invalid float value: 'x'. Nothing was done."),
        (["decide", "--why=x"], "A decision is one of --pass and --fail."),
        (["decide", "--pass", "--fail", "--why=x"], "A decision is one of --pass and --fail."),
        (["completion", "bsh"], "'bsh' is no shell. Did you mean bash? Accepted: bash, zsh, fish."),
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_a_matter_of_usage_and_the_right_one_is_named(
    ran: Ran, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert status_of(arguments) == 2

    output = capsys.readouterr()
    assert said in output.out + output.err
    assert not arguments or "\nnext     " in output.err
    assert ran.commands == []


def test_no_secret_is_among_the_words_of_any_line(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:hidden@db/p12")

    command.main(["rollback"])

    assert "hidden" not in json.dumps(ran.commands) + capsys.readouterr().err


def test_a_private_key_is_named_to_the_playbook_and_never_shown(
    ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key.txt"
    key.write_text("AGE-SECRET-KEY-1ABC\n")

    for words in (["restore", "--backup=b1"], ["rehearse"]):
        assert command.main([*words, "--identity", str(key)]) == 0

    assert all(f"identity={key}" in line for line in ran.commands)
    assert "SECRET" not in str(ran.commands) + capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"), [("age1public", "holds no private key"), (None, "cannot be read")]
)
def test_a_file_without_a_private_key_is_refused_with_what_is_accepted(
    ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, words: str
) -> None:
    if content:
        (tmp_path / "key").write_text(content)

    assert command.main(["restore", "--backup=b1", "--identity", str(tmp_path / "key")]) == 5

    assert words in capsys.readouterr().err
    assert ran.commands == []
