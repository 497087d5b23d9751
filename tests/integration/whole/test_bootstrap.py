"""The first ./p12 and every later one, run for real from copies of the checkout in temporary directories.

The copies carry a lock of two packages, taken from the real one with their hashes, so a first run is quick.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.running import CHECKOUT

KIT = """
import json, os, sys, certifi
print(json.dumps({"arguments": sys.argv[1:], "cwd": os.getcwd(), "python": sys.executable,
                  "package": __file__, "pythonpath": os.environ["PYTHONPATH"],
                  "lent": [n for n in ("UV_CACHE_DIR", "UV_DEFAULT_INDEX") if n in os.environ]}))
"""

# Makes an environment whose pip has settings and whose uv only tells its own.
PYTHON_BEHIND_A_MIRROR = """
bin=${0%/*}
case "$2 $3" in
    *realpath*) echo "$0" ;;
    'venv '*) /bin/mkdir -p "$3/bin" && /bin/cp "$0" "$3/bin/python" ;;
    'pip install')
        echo '#!/bin/sh' >"$bin/uv"
        echo 'echo "asked $UV_DEFAULT_INDEX, trusting $SSL_CERT_FILE"; exit 1' >>"$bin/uv"
        /bin/chmod +x "$bin/uv" ;;
    'pip config')
        echo "global.index-url='https://mirror.example/simple'"
        echo ":env:.cert='/mine.pem'" ;;
esac
"""


def locked(*names: str) -> str:
    """Return the real lock's lines for these packages."""
    entries = re.split(r"(?m)^(?=\S)", (CHECKOUT / "requirements.lock").read_text())
    return "".join(entry for entry in entries if entry.split("==")[0] in names)


def copy_checkout(directory: Path, lock: str = locked("uv", "certifi")) -> Path:
    (directory / "rollout").mkdir(parents=True)
    shutil.copy(CHECKOUT / "p12", directory)
    (directory / "requirements.lock").write_text(lock)
    (directory / "rollout" / "__main__.py").write_text(KIT)
    return directory


def environment(**changes: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "P12_PYTHON"}} | changes


def run(
    program: Path,
    *arguments: str,
    cwd: Path = Path("/"),
    env: Mapping[str, str] | None = None,
    umask: int = -1,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *(arguments or ("status",))],
        cwd=cwd,
        env=env or environment(),
        umask=umask,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, "the first run ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def leftovers(checkout: Path) -> list[Path]:
    return sorted(checkout.glob(".venv*"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A checkout in a path with spaces after its first run, and that run."""
    checkout = copy_checkout(tmp_path_factory.mktemp("boot") / "a path with 'spaces'")
    return checkout, run(checkout / "p12", "status", "-v", "two words", "", "*", umask=0o077)


@pytest.fixture
def ready(made: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> Path:
    """A copy of that checkout, to be spoiled."""
    return Path(shutil.copytree(made[0], tmp_path / "checkout", symlinks=True))


def test_a_first_run_says_so_on_stderr_and_then_runs_the_kit(
    made: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    checkout, first = made
    assert first.returncode == 0, first.stderr
    assert first.stderr == "p12: first run: installing 2 locked packages into .venv …\n"
    answer = json.loads(first.stdout)
    assert answer["python"] == f"{checkout}/.venv/bin/python"
    assert answer["package"] == f"{checkout}/rollout/__main__.py"
    assert answer["pythonpath"] == str(checkout)
    assert answer["lent"] == []


@pytest.mark.parametrize(("asked", "status"), [([], 2), (["-h"], 0), (["--help"], 0)])
def test_help_before_there_is_an_environment_installs_nothing(
    tmp_path: Path, asked: list[str], status: int
) -> None:
    checkout = copy_checkout(tmp_path / "checkout")

    done = subprocess.run(
        [checkout / "p12", *asked], env=environment(PIP_NO_INDEX="1"), capture_output=True, text=True
    )

    assert (done.returncode, done.stderr, leftovers(checkout)) == (status, "", [])
    assert "./p12 release " in done.stdout
    assert f"installs 2 locked packages into {checkout}/.venv, once" in done.stdout


def test_arguments_arrive_untouched(made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    assert json.loads(made[1].stdout)["arguments"] == ["status", "-v", "two words", "", "*"]


def test_a_first_run_leaves_only_the_environment_behind(
    made: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    assert leftovers(made[0]) == [made[0] / ".venv"]


def test_the_environment_holds_the_lock_and_nothing_else(
    made: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    installed = {p.name.split("-")[0] for p in made[0].glob(".venv/lib/*/site-packages/*.dist-info")}
    assert installed == {"uv", "certifi"}


def test_a_private_umask_still_makes_an_environment_that_server_users_can_read(
    made: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    modes = {p: p.stat().st_mode for p in (made[0] / ".venv").rglob("*") if p.is_dir()}
    assert [p for p, mode in modes.items() if mode & 0o755 != 0o755 or mode & 0o022] == []


def test_a_later_run_is_quiet_and_needs_no_network(
    made: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    offline = environment(
        PIP_NO_INDEX="1", UV_OFFLINE="1", UV_CACHE_DIR="/dev/null/none", P12_PYTHON="/dev/null/none"
    )
    later = run(made[0] / "p12", env=offline)
    assert (later.returncode, later.stderr) == (0, "")


def test_it_runs_through_a_symlink_and_keeps_the_callers_directory(
    made: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "rollout").mkdir()
    (tmp_path / "rollout" / "__main__.py").write_text("raise SystemExit('the wrong kit ran')")
    (tmp_path / "first").symlink_to(made[0] / "p12")
    (tmp_path / "second").symlink_to("first")
    answer = json.loads(run(tmp_path / "second", cwd=tmp_path).stdout)
    assert (answer["cwd"], answer["package"]) == (str(tmp_path), f"{made[0]}/rollout/__main__.py")


def test_it_runs_by_a_relative_name_and_under_sh(made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    for program in (["./p12"], ["sh", "p12"]):
        done = subprocess.run(program, cwd=made[0], capture_output=True, text=True, env=environment())
        assert json.loads(done.stdout)["python"] == f"{made[0]}/.venv/bin/python"


def test_a_moved_checkout_keeps_its_environment(ready: Path, tmp_path: Path) -> None:
    moved = ready.rename(tmp_path / "moved away")
    done = run(moved / "p12", env=environment(UV_OFFLINE="1", PIP_NO_INDEX="1"))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["python"] == f"{moved}/.venv/bin/python"


def test_a_changed_lock_rebuilds_once(ready: Path) -> None:
    (ready / "requirements.lock").write_text(locked("uv", "certifi", "idna"))
    rebuilt, later = run(ready / "p12"), run(ready / "p12")
    assert rebuilt.stderr == "p12: requirements.lock changed: installing 3 locked packages into .venv …\n"
    assert (later.returncode, later.stderr) == (0, "")
    assert list(ready.glob(".venv/lib/*/site-packages/idna"))


def test_a_system_python_that_went_away_is_replaced(ready: Path) -> None:
    (ready / ".venv/bin/python").unlink()
    (ready / ".venv/bin/python").symlink_to("/usr/bin/python3.0")
    done = run(ready / "p12")
    assert done.returncode == 0, done.stderr


def test_two_first_runs_at_once_install_once_and_both_run(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    runs = [
        subprocess.Popen(
            [checkout / "p12", str(n)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], ended
    assert sorted(stderr for _, stderr in ended) == [
        "p12: another p12 is making .venv; waiting for it …\n",
        "p12: first run: installing 2 locked packages into .venv …\n",
    ]
    assert leftovers(checkout) == [checkout / ".venv"]


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)]
)
def test_an_interrupted_first_run_leaves_nothing(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    # A shell cannot trap what was ignored when it was started, as it is below nohup.
    heeding = ["env", "--default-signal=INT,HUP", checkout / "p12", "status"]
    first = subprocess.Popen(heeding, env=environment(), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(checkout.glob(".venv.build.*/boot/bin")), first)
    first.send_signal(sent)
    first.communicate(timeout=30)
    assert (first.returncode, leftovers(checkout)) == (status, [])


def test_a_killed_rebuild_is_repaired_by_the_next_run(ready: Path) -> None:
    lock = locked("uv", "certifi", "idna")
    (ready / "requirements.lock").write_text(lock)
    first = subprocess.Popen([ready / "p12", "status"], env=environment(), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: leftovers(ready) != [ready / ".venv"], first)
    first.kill()
    first.communicate(timeout=30)
    done = run(ready / "p12")
    assert done.returncode == 0, done.stderr
    assert leftovers(ready) == [ready / ".venv"]
    assert (ready / ".venv/requirements.lock").read_text() == lock


def test_a_build_in_progress_is_ignored_by_git(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    shutil.copy(CHECKOUT / ".gitignore", checkout)
    subprocess.run(["git", "init", "-q", checkout], check=True)
    first = subprocess.Popen(
        [checkout / "p12", "status"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: list(checkout.glob(".venv.build.*/boot/bin")), first)
    seen = subprocess.run(["git", "status", "--short"], cwd=checkout, capture_output=True, text=True)
    first.terminate()
    first.communicate(timeout=30)
    assert ".venv" not in seen.stdout


class TestWithoutAUsablePython:
    """``/usr/bin`` is another directory for these copies, so the machine's own Python is out of sight."""

    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        checkout = copy_checkout(tmp_path / "checkout")
        program = checkout / "p12"
        program.write_text(program.read_text().replace("/usr/bin/", f"{tmp_path}/bin/"))
        tools = tmp_path / "bin"
        tools.mkdir()
        for name in (
            "sh",
            "cmp",
            "flock",
            "id",
            "sed",
            "awk",
            "tail",
            "mktemp",
            "rm",
            "env",
            "cat",
            "grep",
            "df",
        ):
            found = shutil.which(name)
            assert found, name
            (tools / name).symlink_to(found)
        return checkout

    def answer(self, checkout: Path, **settings: str) -> str:
        done = run(checkout / "p12", env=environment(PATH=str(checkout.parent / "bin"), **settings))
        assert done.returncode == 1
        assert done.stdout == ""
        assert leftovers(checkout) == []
        return done.stderr

    def fake(self, checkout: Path, name: str, script: str) -> Path:
        path = checkout.parent / "bin" / name
        path.unlink(missing_ok=True)  # It may be a link to the machine's own program.
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def test_none_at_all_is_said(self, checkout: Path) -> None:
        assert self.answer(checkout).startswith(
            "p12: no python3 found. Python 3.11 or newer is accepted: install it"
        )

    def test_one_that_is_too_old_is_named_with_what_is_accepted(self, checkout: Path) -> None:
        old = self.fake(checkout, "python3", "echo Python 3.9")
        assert f"{old} is Python 3.9; 3.11 or newer is accepted" in self.answer(checkout)

    def test_a_broken_shim_is_named(self, checkout: Path) -> None:
        shim = self.fake(checkout, "python3", "echo 'command not found' >&2; exit 127")
        assert f"{shim} does not run; 3.11 or newer is accepted" in self.answer(checkout)

    def test_the_named_one_is_not_silently_replaced_by_another(self, checkout: Path) -> None:
        self.fake(checkout, "python3", 'exec /usr/bin/python3 "$@"')
        old = self.fake(checkout, "old", "echo Python 3.8")
        assert f"{old} is Python 3.8" in self.answer(checkout, P12_PYTHON=str(old))
        none = checkout / "none"
        assert f"P12_PYTHON={none} is not a program" in self.answer(checkout, P12_PYTHON=str(none))

    def incomplete(self, checkout: Path) -> Path:
        """A Debian Python without venv, which ``bin/installed`` completes."""
        return self.fake(
            checkout,
            "python3",
            'case $2 in *realpath*) echo "$0" ;; *ensurepip*) [ -e "${0%/*}/installed" ] ;;'
            " venv) echo reached the build >&2; exit 1 ;; esac",
        )

    def test_debians_missing_venv_package_is_installed_by_root(self, checkout: Path) -> None:
        self.incomplete(checkout)
        self.fake(checkout, "id", "echo 0")
        self.fake(checkout, "apt-get", 'echo "$DEBIAN_FRONTEND $*"; : >"${0%/*}/installed"')
        said = self.answer(checkout)
        assert "noninteractive -q -y --no-install-recommends install python3-venv" in said
        assert said.endswith("making .venv failed: reached the build\n")

    def test_debians_missing_venv_package_is_installed_through_sudo(self, checkout: Path) -> None:
        self.incomplete(checkout)
        self.fake(checkout, "id", "echo 1000")
        self.fake(checkout, "sudo", 'shift; echo "sudo: $*"; exec "$@"')
        self.fake(checkout, "true", "exit 0")
        self.fake(checkout, "apt-get", ': >"${0%/*}/installed"')
        assert "sudo: env DEBIAN_FRONTEND=noninteractive apt-get" in self.answer(checkout)

    def test_stale_package_lists_are_refreshed_once(self, checkout: Path) -> None:
        self.incomplete(checkout)
        self.fake(checkout, "id", "echo 0")
        log = checkout.parent / "calls"
        self.fake(
            checkout,
            "apt-get",
            f'echo "$*" >>{log}; case $* in *update) : >"${{0%/*}}/fresh" ;; '
            '*) [ -e "${0%/*}/fresh" ] && : >"${0%/*}/installed" ;; esac',
        )
        self.answer(checkout)
        assert [line.split()[-1] for line in log.read_text().splitlines()] == [
            "python3-venv",
            "update",
            "python3-venv",
        ]

    def test_a_mirror_and_a_certificate_that_pip_knows_reach_uv(self, checkout: Path) -> None:
        self.fake(checkout, "python3", PYTHON_BEHIND_A_MIRROR)
        settings = {"UV_DEFAULT_INDEX": "", "SSL_CERT_FILE": ""}
        expected = "asked https://mirror.example/simple, trusting /mine.pem\n"
        assert self.answer(checkout, **settings).endswith(expected)
        settings["UV_DEFAULT_INDEX"] = "https://own.example"
        assert "asked https://own.example," in self.answer(checkout, **settings)

    def test_without_root_or_sudo_the_one_command_to_type_is_said(self, checkout: Path) -> None:
        self.incomplete(checkout)
        self.fake(checkout, "id", "echo 1000")
        self.fake(checkout, "apt-get", "exit 100")
        assert self.answer(checkout).endswith("Type: sudo apt-get install python3-venv\n")


class TestWhenItCannotInstall:
    """Each failure is one message, leaves nothing behind, and keeps the environment there was."""

    def refused(self, checkout: Path, env: Mapping[str, str] | None = None) -> str:
        before = leftovers(checkout)
        done = run(checkout / "p12", env=env)
        assert (done.returncode, done.stdout) == (1, "")
        assert leftovers(checkout) == before
        return done.stderr.split("\n", 1)[1]

    def test_no_registry_at_the_very_first_step(self, tmp_path: Path) -> None:
        said = self.refused(copy_checkout(tmp_path / "new"), environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=""))
        assert said.startswith("p12: no package registry can be reached, and the first run needs one: ")
        assert "PIP_INDEX_URL" in said

    @pytest.mark.parametrize(
        "settings",
        [
            {"UV_OFFLINE": "1"},
            {"UV_DEFAULT_INDEX": "http://name:secret@127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"},
        ],
    )
    def test_no_registry_when_the_lock_changed(
        self, ready: Path, tmp_path: Path, settings: dict[str, str]
    ) -> None:
        (ready / "requirements.lock").write_text(locked("uv", "idna"))
        said = self.refused(ready, environment(UV_CACHE_DIR=str(tmp_path / "cache"), **settings))
        assert said.startswith("p12: no package registry can be reached")
        assert "secret" not in said

    def test_a_package_that_is_not_the_locked_one(self, ready: Path) -> None:
        forged = locked("uv") + re.sub("sha256:[0-9a-f]{4}", "sha256:0000", locked("certifi"))
        (ready / "requirements.lock").write_text(forged)
        assert "does not match its hash in requirements.lock; nothing was installed" in self.refused(ready)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
    def test_no_right_to_write(self, tmp_path: Path) -> None:
        checkout = copy_checkout(tmp_path / "checkout")
        for directory in [checkout, *list(tmp_path.parents)[:3], tmp_path]:
            directory.chmod(0o755)
        as_nobody: list[str | Path] = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            checkout / "p12",
            "status",
        ]
        done = subprocess.run(as_nobody, capture_output=True, text=True, env=environment(HOME="/nonexistent"))
        assert done.returncode == 1
        assert f"cannot write to {checkout}, where .venv is made" in done.stderr

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
    def test_a_full_disk(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        source = copy_checkout(tmp_path / "source")
        script = 'mount -t tmpfs -o size=8m none "$1" && cp -R "$2/." "$1" && exec "$1/p12" status'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", disk, source],
            capture_output=True,
            text=True,
            env=environment(),
        )
        if "mount:" in done.stderr or "unshare:" in done.stderr:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")
        assert done.returncode == 1
        assert f"the disk that holds {disk} is full" in done.stderr

    def test_a_path_that_no_python_search_path_can_hold(self, tmp_path: Path) -> None:
        done = run(copy_checkout(tmp_path / "a:b") / "p12")
        assert (done.returncode, "has a ':' in its path" in done.stderr) == (1, True)


def test_the_script_is_clean_for_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, "--shell=sh", CHECKOUT / "p12"], capture_output=True, text=True)
    assert done.stdout == ""
