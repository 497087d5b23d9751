"""Where a local site lives: reachable for the user its servers run as, and short enough for sockets."""

import importlib.util
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.running import CHECKOUT

SCRIPT = CHECKOUT / "inventories" / "local" / "place.py"
LONGEST_SOCKET_PATH = 107


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("local_place", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


place = loaded().place


@pytest.fixture
def open_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that anybody can reach, as /srv/paste12 is; pytest's own directories are private."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    really = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        found = really(path, **options)
        return os.stat_result((found.st_mode | 0o001, *found[1:]))

    monkeypatch.setattr(Path, "stat", stat)
    return checkout


@pytest.fixture
def private_checkout(tmp_path: Path) -> Path:
    """A checkout below a directory that only its owner can enter, as a home may be."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "checkout").mkdir()
    return home / "checkout"


def as_user(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_an_ordinary_user_has_everything_in_the_checkout(
    private_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = pwd.getpwnam("nobody")
    as_user(monkeypatch, user.pw_uid)

    found = place(private_checkout)

    assert (found["p12_user"], found["p12_as_root"]) == ("nobody", False)
    assert found["p12_root"] == f"{private_checkout}/.p12"


def test_started_by_root_the_servers_run_as_a_user_of_their_own(
    open_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, 0)

    found = place(open_checkout)

    assert (found["p12_user"], found["p12_as_root"]) == ("p12", True)
    assert found["p12_root"] == f"{open_checkout}/.p12"


def test_behind_a_private_directory_root_puts_the_targets_where_their_user_can_reach_them(
    private_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, 0)

    assert str(place(private_checkout)["p12_root"]).startswith("/var/lib/p12/")


def test_secrets_stay_with_the_engineer(private_checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 0)

    assert place(private_checkout)["p12_secrets_directory"] == f"{private_checkout}/.p12/secrets"


def test_two_checkouts_never_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkouts = [tmp_path / "one", tmp_path / "two"]
    for checkout in checkouts:
        checkout.mkdir()
    for uid in (0, pwd.getpwnam("nobody").pw_uid):
        as_user(monkeypatch, uid)
        found = [place(checkout) for checkout in checkouts]
        for name in ("p12_root", "p12_run", "p12_secrets_directory"):
            assert found[0][name] != found[1][name]


def test_two_users_of_one_checkout_have_run_directories_of_their_own(
    open_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = set()
    for user in ("nobody", "daemon", "root"):
        as_user(monkeypatch, pwd.getpwnam(user).pw_uid)
        runs.add(place(open_checkout)["p12_run"])

    assert len(runs) == 3


@pytest.mark.parametrize("uid", [0, pwd.getpwnam("nobody").pw_uid])
def test_a_socket_fits_however_deep_the_checkout_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    deep = tmp_path.joinpath(*["deep"] * 40)
    deep.mkdir(parents=True)
    as_user(monkeypatch, uid)

    longest = f"{place(deep)['p12_run']}/production-haproxy.sock.12345678.tmp"

    assert len(longest) <= LONGEST_SOCKET_PATH


def test_the_same_checkout_is_always_at_the_same_place(private_checkout: Path) -> None:
    assert place(private_checkout) == place(private_checkout)


def test_the_servers_python_is_not_one_of_the_checkout(private_checkout: Path) -> None:
    assert Path(place(private_checkout)["p12_python"]).exists()
    assert not str(place(private_checkout)["p12_python"]).startswith(str(CHECKOUT))


def asked(*arguments: str, **environment: str) -> Any:
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **environment}
    )
    return json.loads(done.stdout)


def test_as_an_inventory_script_it_answers_for_all_hosts_at_once(private_checkout: Path) -> None:
    answer = asked("--list", P12_CHECKOUT=str(private_checkout))

    assert answer["_meta"] == {"hostvars": {}}
    assert answer["all"]["vars"] == place(private_checkout)


def test_without_being_told_the_checkout_is_the_one_it_lies_in() -> None:
    assert asked("--list")["all"]["vars"] == place(CHECKOUT)


def test_of_one_host_it_has_nothing_to_say() -> None:
    assert asked("--host", "production-local") == {}


@pytest.mark.parametrize("name", ["paste 12", 'quo"ted', "semi;colon", "per%cent", "dollar$", "{brace}", "é"])
@pytest.mark.parametrize("uid", [0, pwd.getpwnam("nobody").pw_uid])
def test_no_character_that_configuration_files_give_a_meaning_reaches_the_targets(
    open_checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str, uid: int
) -> None:
    checkout = open_checkout / name
    checkout.mkdir()
    as_user(monkeypatch, uid)

    found = place(checkout)

    assert name not in f"{found['p12_root']}{found['p12_run']}"
    assert found["p12_root"] != place(open_checkout)["p12_root"]
