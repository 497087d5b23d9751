"""Finding servers, and keeping the machine as it is while apt installs the missing ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollout.errors import RolloutError
from rollout.host import apt, apt_as_root, installed_servers


def program(path: Path, says: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


def postgres(directory: Path) -> Path:
    for name in installed_servers.POSTGRES_PROGRAMS:
        program(directory / name)
    return directory


def find(tmp_path: Path, search_path: str = "") -> installed_servers.Servers:
    return installed_servers.find(search_path, tmp_path / "postgresql", [str(tmp_path / "sbin")])


def test_nothing_found_is_everything_missing(tmp_path: Path) -> None:
    assert find(tmp_path).missing() == installed_servers.PROGRAMS


def test_only_what_is_needed_counts_as_missing(tmp_path: Path) -> None:
    program(tmp_path / "sbin/haproxy")
    found = find(tmp_path)
    assert found.missing(["haproxy"]) == ()
    assert found.missing(["haproxy", "pgbouncer"]) == ("pgbouncer",)


def test_what_only_some_inventories_ask_for_is_missing_only_when_it_is_needed(tmp_path: Path) -> None:
    found = find(tmp_path)
    assert "age" not in found.missing()
    assert found.missing(["age", "haproxy"]) == ("haproxy", "age")
    program(tmp_path / "sbin/age")
    assert find(tmp_path).missing(["age"]) == ()


def test_the_newest_postgres_wins_by_number_not_by_letter(tmp_path: Path) -> None:
    for version in ("9.6", "15", "17"):
        postgres(tmp_path / "postgresql" / version / "bin")
    assert find(tmp_path).postgres_bin == tmp_path / "postgresql/17/bin"


def test_a_postgres_with_clients_only_is_passed_over(tmp_path: Path) -> None:
    postgres(tmp_path / "postgresql/15/bin")
    program(tmp_path / "postgresql/17/bin/psql")
    program(tmp_path / "usr/psql")
    assert find(tmp_path, str(tmp_path / "usr")).path("psql") == tmp_path / "postgresql/15/bin/psql"


def test_a_whole_postgres_on_path_comes_first(tmp_path: Path) -> None:
    postgres(tmp_path / "postgresql/17/bin")
    mine = postgres(tmp_path / "mine")
    assert find(tmp_path, f"{tmp_path}/none:{mine}").postgres_bin == mine


def test_asking_for_a_missing_program_names_it_and_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match="pgbouncer is not installed here") as caught:
        find(tmp_path).path("pgbouncer")
    assert "apt-get install --no-install-recommends pgbouncer" in caught.value.hint


class TestReplacingAFileForAWhile:
    def test_a_file_that_was_not_there_is_gone_again_with_its_directories(self, tmp_path: Path) -> None:
        path = tmp_path / "etc/a/policy"
        with apt_as_root.replaced(path, apt_as_root.POLICY, 0o755):
            assert (path.read_text(), path.stat().st_mode & 0o777) == (apt_as_root.POLICY, 0o755)
        assert list(tmp_path.iterdir()) == []

    def test_an_existing_file_comes_back_as_it_was_even_after_an_error(self, tmp_path: Path) -> None:
        path = program(tmp_path / "policy", "exit 104")
        before = (path.stat().st_ino, path.stat().st_mode, path.read_text())
        with pytest.raises(RuntimeError), apt_as_root.replaced(path, apt_as_root.POLICY, 0o755):
            raise RuntimeError
        assert (path.stat().st_ino, path.stat().st_mode, path.read_text()) == before
        assert list(tmp_path.iterdir()) == [path]

    def test_a_symlink_comes_back_as_a_symlink(self, tmp_path: Path) -> None:
        target = program(tmp_path / "zg-policy", "exit 104")
        path = tmp_path / "policy"
        path.symlink_to(target)
        with apt_as_root.replaced(path, apt_as_root.POLICY, 0o755):
            assert not path.is_symlink()
        assert path.readlink() == target

    @pytest.mark.parametrize("had_one", [True, False])
    def test_what_a_killed_run_left_is_mended_by_the_next(self, tmp_path: Path, had_one: bool) -> None:
        path = tmp_path / "policy"
        path.write_text(apt_as_root.POLICY)
        if had_one:
            program(tmp_path / "policy.kept-by-p12", "exit 104")
        with apt_as_root.replaced(path, apt_as_root.POLICY, 0o755):
            pass
        left = {p.name: p.read_text() for p in tmp_path.iterdir()}
        assert left == ({"policy": "#!/bin/sh\nexit 104\n"} if had_one else {})

    def test_a_run_killed_between_keeping_and_replacing_is_mended(self, tmp_path: Path) -> None:
        path = program(tmp_path / "policy", "exit 104")
        os.link(path, tmp_path / "policy.kept-by-p12")
        with apt_as_root.replaced(path, apt_as_root.POLICY, 0o755):
            pass
        assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"policy": "#!/bin/sh\nexit 104\n"}


class TestInstalling:
    """apt-get and systemctl are scripts that write down how they were called."""

    @pytest.fixture
    def calls(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        log = tmp_path / "calls"
        policy = f'[ ! -e "{tmp_path}/usr/sbin/policy-rc.d" ] || held=held'
        cluster = f'[ ! -e "{tmp_path}/etc/postgresql-common/createcluster.d/p12.conf" ] || none=none'
        last = 'for last do :; done; echo "apt $DEBIAN_FRONTEND $held $none $last"'
        program(tmp_path / "bin/apt-get", f"{policy}; {cluster}; {{ {last}; }} >>{log}; . {tmp_path}/answer")
        program(tmp_path / "bin/systemctl", f'echo "$*" >>{log}')
        program(
            tmp_path / "bin/dpkg-query", "echo logrotate installed; echo redis-server config-files; exit 1"
        )
        (tmp_path / "answer").write_text("")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
        return log

    def test_services_and_clusters_are_held_back_and_new_units_left_disabled(
        self, tmp_path: Path, calls: Path
    ) -> None:
        assert apt_as_root.install(["postgresql-15", "haproxy"], tmp_path) == ""
        assert calls.read_text().splitlines() == [
            "apt noninteractive held none haproxy",
            "--quiet disable haproxy.service",
        ]
        assert not (tmp_path / "usr").exists()
        assert not (tmp_path / "etc").exists()

    def test_sent_alone_to_a_host_without_the_kit_it_sees_what_is_missing_and_changes_nothing(
        self, tmp_path: Path, calls: Path
    ) -> None:
        sent = tmp_path / "sent.py"
        sent.write_text(Path(apt_as_root.__file__).read_text())
        words = ["--see", "haproxy", "redis-server", "logrotate"]
        done = subprocess.run([sys.executable, "-I", "-S", sent, *words], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "haproxy redis-server", "")
        assert not calls.exists()

    def test_where_nothing_is_missing_apt_is_not_asked(
        self, calls: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert apt_as_root.main(["logrotate"]) == 0
        assert capsys.readouterr().out == ""
        assert not calls.exists()

    def test_stale_lists_are_refreshed_once_and_apts_errors_come_back(
        self, tmp_path: Path, calls: Path
    ) -> None:
        (tmp_path / "answer").write_text("echo Reading; echo 'E: Unable to locate package haproxy'; exit 100")
        assert apt_as_root.install(["haproxy"], tmp_path) == "E: Unable to locate package haproxy"
        asked = [line.split()[-1] for line in calls.read_text().splitlines() if line.startswith("apt")]
        assert asked == ["haproxy", "update", "haproxy"]
        assert not (tmp_path / "usr").exists()

    def test_without_root_and_sudo_the_programs_and_the_one_command_are_named(
        self, calls: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("PATH", str(calls.parent / "bin"))
        with pytest.raises(
            RolloutError, match=r"Not installed here: haproxy, pgbouncer; .* is not root"
        ) as caught:
            apt.install(["haproxy", "pgbouncer"])
        assert caught.value.hint == "Type, as root: apt-get install --no-install-recommends haproxy pgbouncer"
        assert not calls.exists()

    def test_sudo_without_a_password_is_used(self, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        program(calls.parent / "bin/sudo", f'echo "sudo $*" >>{calls}')
        apt.install(["haproxy"])
        asked, worked = calls.read_text().splitlines()
        assert asked == "sudo -n true"
        assert worked.startswith("sudo -n env PYTHONPATH=")
        assert worked.endswith("-m rollout.host.apt_as_root haproxy")

    def test_sudo_that_would_ask_is_not_used_without_a_terminal(
        self, calls: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        program(calls.parent / "bin/sudo", "exit 1")
        with pytest.raises(RolloutError) as caught:
            apt.install(["haproxy"])
        assert caught.value.hint == "Type: sudo apt-get install --no-install-recommends haproxy"

    def test_where_there_is_no_apt_that_is_said(self, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (calls.parent / "bin/apt-get").unlink()
        monkeypatch.setenv("PATH", str(calls.parent / "bin"))
        with pytest.raises(RolloutError, match="Not installed here: haproxy") as caught:
            apt.install(["haproxy"])
        assert "There is no apt" in caught.value.hint

    def test_a_program_still_missing_after_the_install_is_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(apt, "install", lambda *_, **__: None)
        monkeypatch.setattr(installed_servers, "find", lambda: installed_servers.Servers({}))
        with pytest.raises(RolloutError, match="haproxy cannot be found"):
            installed_servers.install(["haproxy"])
