"""Text that people type, from the command line through the real playbooks to a host: data all the way."""

import socket

from tests.integration.rollout.cli.recorded import Host

SHARP = """it's "slow" {{ $labels.instance }} {{ 7*7 }} {% if x %} {# y #} !unsafe @/etc/passwd --why=--help
$HOME `id` ; $(id) 😀 \\ # = \x1b[2J\x9b1A"""


def test_a_reason_and_a_name_reach_the_host_as_they_are_and_run_nothing(host: Host) -> None:
    probe = host.home / "probe"
    why = f"""{SHARP} {{{{ lookup("pipe", "id > {probe}") }}}}"""

    done = host.p12("rollback", given=["--why", why], USER="ann {{ 7*7 }}")

    assert done.returncode == 0, done.stderr
    assert host.called() == [
        "production",
        "rollback",
        f"--owner=ann {{{{ 7*7 }}}}@{socket.gethostname()}",
        f"--why={why}",
    ]
    assert not probe.exists()


def test_what_is_shown_of_it_steers_no_terminal(host: Host) -> None:
    done = host.p12("rollback", given=["--why", SHARP])

    assert "\\x1b[2J\\x9b1A" in done.stdout
    assert not {"\x1b", "\x9b"} & set(done.stdout + done.stderr)


def test_names_are_no_options_of_the_host(host: Host) -> None:
    names = ["--", "--owner=eve", "P12_{{ 7*7 }} $HOME B"]

    done = host.p12("flags", "off", "--slot=blue", given=names, USER="ann")

    assert done.returncode == 0, done.stderr
    assert host.called() == [
        "production",
        "flags",
        "off",
        f"--owner=ann@{socket.gethostname()}",
        "--slot=blue",
        *names,
    ]


def test_a_branch_is_looked_for_under_exactly_its_name(host: Host) -> None:
    done = host.p12("deploy", "--branch", "fix{{7*7}}$HOME")

    assert done.returncode != 0
    assert "fix{{7*7}}$HOME is not a branch, tag or commit here" in done.stderr
