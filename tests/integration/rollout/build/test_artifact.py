"""From a branch to the bytes that are shipped, with real git repositories."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rollout.build import artifact
from rollout.build.artifact import Artifact
from rollout.build.commit import Commit, resolve
from rollout.build.tarball import Platform
from rollout.errors import Refused, RolloutError

OURS = Platform(f"{sys.version_info.major}.{sys.version_info.minor}", "x86_64")
PROJECT = """[project]
name = "service"
version = "1"
requires-python = ">=3.11"
dependencies = []
[project.optional-dependencies]
service = []
"""
EXPANDS = ("0001", None, "CREATE TABLE notes (likes integer)")
DROPS = ("0002", "0001", "ALTER TABLE notes DROP COLUMN likes")
CONFUSING = {
    "PYTHONHASHSEED": "7",
    "PYTHONPATH": "/nonexistent",
    "PYTHONOPTIMIZE": "2",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": "C",
    "LANG": "tr_TR.ISO-8859-9",
    "TZ": "Asia/Kathmandu",
    "GIT_DIR": "/nonexistent",
    "GIT_WORK_TREE": "/nonexistent",
    "GIT_INDEX_FILE": "/nonexistent",
    "GIT_OBJECT_DIRECTORY": "/nonexistent",
    "GIT_REPLACE_REF_BASE": "refs/heads/",
    "SOURCE_DATE_EPOCH": "1",
}
NO_CONFIGURATION = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


class Checkout:
    """A git repository of a small service."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.write("pyproject.toml", PROJECT)
        self.write("requirements.lock", "")
        self.write("app/__init__.py", "WORDS = 'first'\n")
        self.migration(*EXPANDS)
        self.write("README.md", "Not shipped.\n")
        self.first = self.commit("first")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(self.path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, name: str, content: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(content)

    def migration(self, revision: str, before: str | None, sql: str) -> None:
        lines = ("from alembic import op", f"revision = {revision!r}", f"down_revision = {before!r}")
        self.write(
            f"app/store/migrations/versions/{revision}.py",
            "\n".join([*lines, "def upgrade():", f"    op.execute({sql!r})", ""]),
        )

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    for name, value in NO_CONFIGURATION.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UV_OFFLINE", "1")
    return Checkout(tmp_path / "checkout")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def built(checkout: Checkout, cache: Path, commit: str = "", platform: Platform = OURS) -> Artifact:
    named = Commit(commit or checkout.first, "main")
    return artifact.build(checkout.path, cache, named, platform)[0]


def shipped(made: Artifact) -> dict[str, bytes]:
    with tarfile.open(made.path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]


def test_nothing_named_means_what_is_checked_out(checkout: Checkout) -> None:
    found = resolve(checkout.path, "")

    assert (found.commit, found.named, found.release) == (checkout.first, "main", checkout.first[:12])


def test_a_branch_a_tag_and_a_commit_are_each_resolved_to_the_commit(checkout: Checkout) -> None:
    checkout.git("tag", "light")
    checkout.git("tag", "--annotate", "heavy", "--message", "x")
    checkout.git("branch", "topic/one")
    checkout.write("app/__init__.py", "WORDS = 'second'\n")
    checkout.commit("second")

    for name in ("light", "heavy", "topic/one", "HEAD~1", checkout.first, checkout.first[:8]):
        assert resolve(checkout.path, name).commit == checkout.first


def test_a_detached_head_means_its_commit(checkout: Checkout) -> None:
    checkout.git("checkout", "--quiet", "--detach")

    found = resolve(checkout.path, "")

    assert (found.commit, found.named) == (checkout.first, "a detached HEAD")


@pytest.mark.parametrize("name", ["nowhere", "--all", "-h", "main app", "main:README.md", "..", "0" * 40])
def test_what_is_no_commit_is_refused_with_the_branches_there_are(checkout: Checkout, name: str) -> None:
    checkout.git("branch", "topic")

    with pytest.raises(Refused, match=r"is not a branch, tag or commit here\. Branches: main, topic"):
        resolve(checkout.path, name)


def test_outside_of_a_repository_git_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    with pytest.raises(RolloutError, match="not a git repository"):
        resolve(tmp_path, "")


def test_uncommitted_changes_of_what_is_shipped_are_counted(checkout: Checkout) -> None:
    checkout.write("app/__init__.py", "WORDS = 'mine'\n")
    checkout.write("app/more.py", "")
    checkout.write("README.md", "Mine.\n")

    assert resolve(checkout.path, "").warning == "2 uncommitted changes are not in it"


def test_there_is_no_warning_where_a_branch_was_named_or_nothing_shipped_changed(checkout: Checkout) -> None:
    checkout.write("README.md", "Mine.\n")
    assert resolve(checkout.path, "").warning == ""

    checkout.write("app/__init__.py", "WORDS = 'mine'\n")
    assert resolve(checkout.path, "main").warning == ""


def test_an_artifact_holds_the_service_under_lib_and_names_its_commit(
    checkout: Checkout, cache: Path
) -> None:
    made = built(checkout, cache)

    files = shipped(made)
    assert files["lib/app/__init__.py"] == b"WORDS = 'first'\n"
    assert json.loads(files["lib/app/RELEASE.json"]) == {
        "commit": checkout.first,
        "release": checkout.first[:12],
        "python": OURS.python,
        "machine": OURS.machine,
    }
    assert not [name for name in files if name.endswith(".pyc")]
    assert {name.split("/")[0] for name in files} == {"lib"}
    assert "lib/README.md" not in files


def test_an_artifact_is_named_by_commit_and_sha256_of_its_content(checkout: Checkout, cache: Path) -> None:
    made = built(checkout, cache)

    content = Path(made.path).read_bytes()
    assert made.sha256 == hashlib.sha256(gzip.decompress(content)).hexdigest()
    assert Path(made.path).name == f"{checkout.first[:12]}-{made.sha256[:12]}.tar.gz"
    assert (made.size, made.head) == (len(content), "0001")


def test_a_kept_artifact_that_is_not_what_was_built_is_built_again(checkout: Checkout, cache: Path) -> None:
    first = built(checkout, cache)
    content = Path(first.path).read_bytes()
    for damaged in (content[:-20], b"", gzip.compress(b"another")):
        Path(first.path).write_bytes(damaged)

        assert built(checkout, cache) == first
        assert Path(first.path).read_bytes() == content


def test_what_the_engineer_has_set_changes_no_byte(
    checkout: Checkout, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = built(checkout, cache)
    for name, value in {**CONFUSING, "HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)

    assert built(checkout, tmp_path / "another-cache").sha256 == here.sha256


def test_line_endings_attributes_and_umask_of_a_checkout_change_no_byte(
    checkout: Checkout, cache: Path, tmp_path: Path
) -> None:
    here = built(checkout, cache)
    clone = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "--quiet", "-c", "core.autocrlf=true", str(checkout.path), str(clone)], check=True
    )
    (clone / ".git" / "info" / "attributes").write_text("app/store export-ignore\n* eol=crlf\n")
    before = os.umask(0o077)
    try:
        there, _ = artifact.build(clone, tmp_path / "another-cache", Commit(checkout.first, "main"), OURS)
    finally:
        os.umask(before)

    assert b"\r\n" in (clone / "app/__init__.py").read_bytes()
    assert there.sha256 == here.sha256


def test_a_commit_that_is_replaced_locally_is_shipped_as_everybody_else_has_it(
    checkout: Checkout, cache: Path
) -> None:
    checkout.write("app/__init__.py", "WORDS = 'another'\n")
    checkout.git("replace", checkout.first, checkout.commit("another"))

    assert shipped(built(checkout, cache))["lib/app/__init__.py"] == b"WORDS = 'first'\n"


def test_an_sbom_and_a_provenance_statement_stand_beside_the_artifact(
    checkout: Checkout, cache: Path
) -> None:
    made = built(checkout, cache)

    stem = made.path.removesuffix(".tar.gz")
    sbom = json.loads(Path(f"{stem}.cdx.json").read_text())
    statement = json.loads(Path(f"{stem}.intoto.json").read_text())
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert sbom["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": made.sha256}]
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": f"{made.release}.tar", "digest": {"sha256": made.sha256}}]
    source = statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert source["digest"] == {"gitCommit": made.commit}


def test_a_branch_and_a_tag_of_one_name_are_both_named_where_they_differ(checkout: Checkout) -> None:
    checkout.git("tag", "v1")
    checkout.git("checkout", "--quiet", "-b", "v1")
    checkout.write("app/__init__.py", "WORDS = 'second'\n")
    second = checkout.commit("second")

    with pytest.raises(
        Refused, match=f"the branch is {second[:12]}, the tag is {checkout.first[:12]}"
    ) as raised:
        resolve(checkout.path, "v1")

    assert raised.value.hint == "Say which: --branch heads/v1 or --branch tags/v1"
    assert resolve(checkout.path, "heads/v1").commit == second
    assert resolve(checkout.path, "tags/v1").commit == checkout.first


def test_a_branch_that_only_the_remote_has_is_named_and_fetched_when_asked_for(
    checkout: Checkout, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    checkout.git("branch", "topic")
    subprocess.run(["git", "clone", "--quiet", str(checkout.path), str(clone)], check=True)
    checkout.git("checkout", "--quiet", "topic")
    checkout.write("app/__init__.py", "WORDS = 'second'\n")
    second = checkout.commit("second")

    with pytest.raises(Refused, match=f"origin/topic was {checkout.first[:12]} when it was last") as raised:
        resolve(clone, "topic")
    found = resolve(clone, "topic", fetch=True)

    assert raised.value.hint == "Fetch it and release that: ./p12 release --fetch --branch topic"
    assert (found.commit, found.named) == (second, "origin/topic")


def test_what_the_remote_has_not_got_cannot_be_fetched(checkout: Checkout, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(checkout.path), str(clone)], check=True)

    with pytest.raises(Refused, match=r"origin/nowhere cannot be fetched: .*nowhere"):
        resolve(clone, "nowhere", fetch=True)


def test_the_commit_is_shipped_never_the_working_tree(checkout: Checkout, cache: Path) -> None:
    checkout.write("app/__init__.py", "WORDS = 'mine'\n")
    checkout.write("app/.env", "DATABASE_URL=postgresql://ann:secret@db/p12\n")

    files = shipped(built(checkout, cache))

    assert files["lib/app/__init__.py"] == b"WORDS = 'first'\n"
    assert "lib/app/.env" not in files


def test_a_branch_that_moves_on_changes_nothing_of_what_was_resolved(checkout: Checkout, cache: Path) -> None:
    found = resolve(checkout.path, "main")
    checkout.write("app/__init__.py", "WORDS = 'second'\n")
    checkout.commit("second")

    made, _ = artifact.build(checkout.path, cache, found, OURS)

    assert shipped(made)["lib/app/__init__.py"] == b"WORDS = 'first'\n"


def test_a_commit_is_built_once(checkout: Checkout, cache: Path) -> None:
    commit = Commit(checkout.first, "main")

    first, was_built = artifact.build(checkout.path, cache, commit, OURS)
    second, was_built_again = artifact.build(checkout.path, cache, commit, OURS)

    assert (was_built, was_built_again) == (True, False)
    assert first == second


def test_an_artifact_that_is_gone_is_built_again_with_the_same_bytes(checkout: Checkout, cache: Path) -> None:
    first = built(checkout, cache)
    Path(first.path).unlink()

    assert built(checkout, cache) == first
    assert Path(first.path).exists()


def test_the_same_commit_is_the_same_bytes_wherever_it_is_built(
    checkout: Checkout, cache: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(checkout.path), str(clone)], check=True)
    here = built(checkout, cache)

    there, _ = artifact.build(clone, tmp_path / "another-cache", Commit(checkout.first, "main"), OURS)

    assert here.sha256 == there.sha256


def test_another_commit_is_another_artifact_beside_the_first(checkout: Checkout, cache: Path) -> None:
    first = built(checkout, cache)
    checkout.write("app/__init__.py", "WORDS = 'second'\n")

    second = built(checkout, cache, checkout.commit("second"))

    assert first.sha256 != second.sha256
    assert Path(first.path).exists()


def test_another_python_is_another_artifact(checkout: Checkout, cache: Path) -> None:
    assert built(checkout, cache).sha256 != built(checkout, cache, platform=Platform("3.12", "x86_64")).sha256


def test_migrations_that_destroy_are_refused_and_named(checkout: Checkout, cache: Path) -> None:
    checkout.migration(*DROPS)

    with pytest.raises(
        Refused,
        match=r"/0002\.py: ALTER TABLE notes DROP COLUMN likes: the release before",
    ):
        built(checkout, cache, checkout.commit("drops"))

    assert not [*(cache / "artifacts").iterdir()]


def test_what_is_in_service_already_is_not_judged_again(checkout: Checkout, cache: Path) -> None:
    checkout.migration(*DROPS)
    commit = checkout.commit("drops")

    made, _ = artifact.build(checkout.path, cache, Commit(commit, "main"), OURS, live="0002")

    assert made.head == "0002"


def test_what_was_accepted_for_one_schema_in_service_is_judged_again_for_another(
    checkout: Checkout, cache: Path
) -> None:
    checkout.migration(*DROPS)
    commit = Commit(checkout.commit("drops"), "main")
    artifact.build(checkout.path, cache, commit, OURS, live="0002")

    with pytest.raises(Refused, match="the release before still uses it"):
        artifact.build(checkout.path, cache, commit, OURS, live="0001")


@pytest.mark.parametrize(
    "migration", ["raise SystemExit('no alembic here')", "def upgrade(:", "import nothing_of_the_sort"]
)
def test_migrations_that_cannot_be_read_are_never_taken_for_harmless(
    checkout: Checkout, cache: Path, migration: str
) -> None:
    checkout.write("app/store/migrations/versions/0002.py", migration)

    with pytest.raises(RolloutError, match="migrations cannot be read"):
        built(checkout, cache, checkout.commit("broken"))


def test_a_release_that_brings_a_judge_of_its_own_is_not_asked(checkout: Checkout, cache: Path) -> None:
    checkout.migration(*DROPS)
    checkout.write("app/migrate.py", 'print(\'{"ok": true, "head": "0002", "destructive": []}\')\n')
    checkout.write("app/store/migrations/env.py", "# Renders nothing.\n")

    with pytest.raises(Refused, match="DROP COLUMN likes"):
        built(checkout, cache, checkout.commit("judges itself"))


def test_migrations_see_nothing_of_the_engineers_environment(
    checkout: Checkout, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://production/p12")
    checkout.write(
        "app/store/migrations/versions/0002.py",
        "import os\nfrom alembic import op\nrevision, down_revision = '0002', '0001'\n"
        "def upgrade():\n    op.execute('SELECT ' + ', '.join(sorted(os.environ)))\n",
    )

    with pytest.raises(Refused, match=r"SELECT lc_all, path: Select is not known"):
        built(checkout, cache, checkout.commit("curious"))


def test_a_commit_without_a_service_is_refused(checkout: Checkout, cache: Path) -> None:
    checkout.git("rm", "-r", "--quiet", "app")

    with pytest.raises(Refused, match="is not a commit of the service"):
        built(checkout, cache, checkout.commit("empty"))


def test_a_link_in_the_service_is_an_error_that_names_it(checkout: Checkout, cache: Path) -> None:
    (checkout.path / "app" / "link.py").symlink_to("/etc/hostname")

    with pytest.raises(RolloutError, match=r"app/link\.py"):
        built(checkout, cache, checkout.commit("link"))


def test_a_place_that_cannot_be_written_is_named(checkout: Checkout) -> None:
    with pytest.raises(RolloutError, match="The artifact cannot be written below /proc/p12") as raised:
        built(checkout, Path("/proc/p12"))

    assert raised.value.hint == "df -h /proc/p12"


def test_nothing_half_built_is_left_behind(checkout: Checkout, cache: Path) -> None:
    checkout.migration(*DROPS)
    with pytest.raises(Refused):
        built(checkout, cache, checkout.commit("drops"))
    built(checkout, cache)

    assert not [*cache.glob(".building-*"), *(cache / "artifacts").glob(".*")]


def test_a_tarball_of_a_commit_is_one_archive_for_any_tar(checkout: Checkout, cache: Path) -> None:
    listed = subprocess.run(
        ["tar", "-tzf", built(checkout, cache).path], check=True, capture_output=True, text=True
    )

    assert "lib/app/RELEASE.json" in listed.stdout
    assert listed.stderr == ""
