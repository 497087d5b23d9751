"""A slot's settings arrive as they were given, whoever reads the file: a shell, or systemd."""

import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import jinja2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.running import CHECKOUT

TEMPLATE = CHECKOUT / "playbooks" / "roles" / "slot" / "templates" / "slot.env.j2"
READ = 'set -a; . "$1"; set +a; shift; exec "$@"'
ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def rendered(value: str, purge_after_days: object = "") -> str:
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    environment.filters["quote"] = lambda given: shlex.quote(str(given))  # what Ansible's filter does
    return environment.from_string(TEMPLATE.read_text()).render(
        p12_secrets={},
        p12_balancer_addresses=[],
        p12_app_address="127.0.0.1",
        p12_public_base_url=value,
        p12_purge_after_days=purge_after_days,
        p12_service_environment={"P12_PUBLIC_FILES": value},
    )


def by_systemd(text: str) -> dict[str, str]:
    """Read assignments as systemd's parse_env_file_internal does (src/basic/env-file.c)."""
    read, name, value, state = {}, "", "", "name"
    for char in text:
        if state == "name":
            name, state = (name, "before") if char == "=" else (name + char, state)
        elif state == "single":
            state, value = ("before", value) if char == "'" else (state, value + char)
        elif state == "double":
            if char == "\\":
                state = "escape"
            else:
                state, value = ("before", value) if char == '"' else (state, value + char)
        elif state == "escape":
            state, value = "double", value + (char if char in '"\\`$' else "\\" + char)
        elif char == "\n":
            read[name], name, value, state = value, "", "", "name"
        elif state == "before" and char in "'\"":
            state = "single" if char == "'" else "double"
        else:
            state, value = "value", value + char
    return read


@example('it\'s "$HOME" `id` \\ # {{ 7 }} 100 %\n\té 🙂')
@given(ANY_TEXT)
@settings(max_examples=40, deadline=None)
def test_a_setting_arrives_as_it_was_given(value: str) -> None:
    text = rendered(value)

    with TemporaryDirectory() as home:
        path = Path(home, "env")
        path.write_text(text, newline="")
        command = ["/bin/sh", "-c", READ, "sh", str(path), "printenv", "P12_PUBLIC_FILES", "PUBLIC_BASE_URL"]
        seen = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert seen == f"{value}\n{value}\n"
    assert [by_systemd(text)[name] for name in ("P12_PUBLIC_FILES", "PUBLIC_BASE_URL")] == [value, value]


def test_nothing_is_purged_where_the_site_does_not_say_after_how_many_days() -> None:
    assert "P12_PURGE_AFTER_DAYS" not in by_systemd(rendered(""))


def test_the_worker_is_told_after_how_many_days_the_site_purges() -> None:
    assert by_systemd(rendered("", purge_after_days=30))["P12_PURGE_AFTER_DAYS"] == "30"
