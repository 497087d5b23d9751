"""Branch to commit to artifact: resolved once, built once, the same bytes for every target."""

import io
import json
import os
import subprocess
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path

from rollout.build.tarball import Platform, compiled, compose, dependencies, scratch
from rollout.errors import Refused, RolloutError
from rollout.files import read_json, unpack, write_json

ARTIFACTS_KEPT = 10
SHIPPED = ("app", "pyproject.toml", "requirements.lock")


@dataclass(frozen=True)
class Commit:
    """A commit and how the engineer named it; ``warning`` says what is not in it."""

    commit: str
    named: str
    warning: str = ""

    @property
    def release(self) -> str:
        return self.commit[:12]


@dataclass(frozen=True)
class Artifact:
    """What a release is shipped as. ``size`` in bytes; migrations after ``judged_after`` only expand."""

    release: str
    commit: str
    path: str
    sha256: str
    size: int
    head: str
    judged_after: str = ""


def resolve(checkout: Path, branch: str) -> Commit:
    """Resolve a branch, a tag or a commit to its commit; nothing means what is checked out.

    :raises Refused: there is no such name; says which there are.
    """
    named = branch or "HEAD"
    done = _git(checkout, "rev-parse", "--verify", "--quiet", f"{named}^{{commit}}", check=False)
    if done.returncode:
        known = _git(checkout, "branch", "--format=%(refname:short)").stdout.split("\n")
        branches = ", ".join(filter(None, known)) or "none"
        raise Refused(
            f"{named} is not a branch, tag or commit here. Branches: {branches}.",
            "./p12 release --branch NAME",
        )
    head = _git(checkout, "rev-parse", "--abbrev-ref", "HEAD", check=False).stdout.strip()
    shown = branch or (head if head != "HEAD" else "a detached HEAD")
    return Commit(done.stdout.strip(), shown, "" if branch else _dirty(checkout))


def build(
    checkout: Path, cache: Path, commit: Commit, platform: Platform, live: str = ""
) -> tuple[Artifact, bool]:
    """Return the artifact of a commit and whether it had to be built.

    ``live`` is the schema in service: only migrations after it are judged. Empty, all are.

    :raises Refused: its migrations do more than expand.
    :raises RolloutError: its dependencies or its disk space are missing.
    """
    directory = cache / "artifacts"
    record = directory / f"{commit.release}-{platform.python}-{platform.machine}.json"
    kept = read_json(record)
    if kept and Path(kept["path"]).exists() and kept.get("judged_after") == live:
        return Artifact(**kept), False
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with scratch(cache) as tree:
            _export(checkout, commit.commit, tree)
            head = _require_expanding(tree, live)
            packed = dependencies(cache, tree, "service", platform)
            identity = {"commit": commit.commit, "release": commit.release}
            (tree / "app" / "RELEASE.json").write_text(json.dumps(identity, sort_keys=True) + "\n")
            (tree / "lib").mkdir()
            (tree / "app").rename(tree / "lib" / "app")
            files = compiled(tree, "lib", platform)
            draft = directory / f".{commit.release}.{os.getpid()}"
            digest = compose(draft, packed, files)
            path = directory / f"{commit.release}-{digest[:12]}.tar.gz"
            draft.replace(path)
    except OSError as error:
        raise RolloutError(
            f"The artifact cannot be written below {cache}: {error}.", f"df -h {cache}"
        ) from error
    artifact = Artifact(commit.release, commit.commit, str(path), digest, path.stat().st_size, head, live)
    write_json(record, asdict(artifact), 0o644)
    _forget_old(directory)
    return artifact, True


def _forget_old(directory: Path) -> None:
    """Keep the newest artifacts; an older one can be built again from its commit."""
    newest_first = sorted(directory.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for record in newest_first[ARTIFACTS_KEPT:]:
        Path(read_json(record)["path"]).unlink(missing_ok=True)
        record.unlink()


def _export(checkout: Path, commit: str, tree: Path) -> None:
    """Unpack the commit, never the working tree."""
    done = subprocess.run(
        ["git", "-C", str(checkout), "archive", "--format=tar", commit, *SHIPPED],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise Refused(
            f"{commit[:12]} is not a commit of the service: {done.stderr.decode().strip()}.",
            f"It needs {', '.join(SHIPPED)}.",
        )
    try:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            unpack(archive, tree)
    except tarfile.TarError as error:
        raise Refused(f"{commit[:12]} cannot be shipped: {error}.", "Ship plain files, no links.") from error


def _require_expanding(tree: Path, live: str) -> str:
    """Return the head of the migrations; what is newer than ``live`` must leave the old release running."""
    # Only who builds needs the parsers that judge.
    from checks.base.errors import CannotMeasure, Misused
    from checks.migrations.judge import judge

    try:
        head, judged = judge(tree, live)
    except (CannotMeasure, Misused) as error:
        raise RolloutError(str(error)) from error
    said = [f"{m.file}: {refusal}" for m in judged for refusal in m.refusals]
    if said:
        raise Refused(
            "The release before might not survive these migrations:" + "".join(f"\n  {s}" for s in said),
            "Expand only, then release: ./p12 check migrations",
        )
    return head


def _dirty(checkout: Path) -> str:
    changed = _git(checkout, "status", "--porcelain", "--", *SHIPPED).stdout.splitlines()
    return f"{len(changed)} uncommitted changes are not in it" if changed else ""


def _git(checkout: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise RolloutError("git is not installed.", "apt-get install git") from None
    if check and done.returncode:
        raise RolloutError(f"git {arguments[0]} failed in {checkout}: {done.stderr.strip()}")
    return done
