"""A commit made into an artifact: built once, the same content for every target, whoever builds it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from rollout.build import git
from rollout.build.attestation import attest
from rollout.build.cache import RECORD, scratch
from rollout.build.commit import SHIPPED, Commit
from rollout.build.tarball import Platform, compose, dependencies, files_below
from rollout.errors import Refused, RolloutError
from rollout.files import content_sha256, read_json, write_json


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


def build(
    checkout: Path, cache: Path, commit: Commit, platform: Platform, live: str = ""
) -> tuple[Artifact, bool]:
    """Return the artifact of a commit and whether it had to be built.

    ``live`` is the schema in service: only migrations after it are judged. Empty, all are.

    :raises Refused: its migrations do more than expand.
    :raises RolloutError: its dependencies or its disk space are missing.
    """
    directory = cache / "artifacts"
    record = directory / f"{commit.release}-{platform.python}-{platform.machine}{RECORD}"
    kept = _kept(record)
    if kept and kept.judged_after == live:
        record.touch()  # the newest are kept
        return kept, False
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with scratch(cache) as tree:
            _export(checkout, commit.commit, tree)
            head = _require_expanding(tree, live)
            packed = dependencies(cache, tree, "service", platform)
            identity = {"commit": commit.commit, "release": commit.release, **asdict(platform)}
            (tree / "app" / "RELEASE.json").write_text(json.dumps(identity, sort_keys=True) + "\n")
            files = {f"lib/{name}": content for name, content in files_below(tree, "app").items()}
            draft = directory / f".{commit.release}.{os.getpid()}"
            digest = compose(draft, packed, files)
            path = directory / f"{commit.release}-{digest[:12]}.tar.gz"
            draft.replace(path)
    except OSError as error:
        raise RolloutError(
            f"The artifact cannot be written below {cache}: {error}.", f"df -h {cache}"
        ) from error
    artifact = Artifact(commit.release, commit.commit, str(path), digest, path.stat().st_size, head, live)
    attest(path, commit, digest, platform, packed)
    write_json(record, asdict(artifact), 0o644)
    return artifact, True


def _kept(record: Path) -> Artifact | None:
    """Return an artifact that was built before, if it is still what was built."""
    try:
        kept = Artifact(**read_json(record))
        return kept if content_sha256(Path(kept.path)) == kept.sha256 else None
    except (OSError, TypeError, ValueError):
        return None


def _export(checkout: Path, commit: str, tree: Path) -> None:
    """Write the commit's files as they are in it, whatever attributes or line endings somebody has set."""
    listed = git.run(checkout, "ls-tree", "-r", "-z", commit, "--", *SHIPPED, check=False)
    entries = [line.split("\t", 1) for line in listed.stdout.split("\0") if line]
    missing = set(SHIPPED) - {name.split("/")[0] for _, name in entries}
    if listed.returncode or missing:
        raise Refused(
            f"{commit[:12]} is not a commit of the service: it has no {', '.join(sorted(missing))}.",
            f"It needs {', '.join(SHIPPED)}.",
        )
    links = [name for described, name in entries if not described.startswith("100")]
    if links:
        raise Refused(
            f"{commit[:12]} cannot be shipped: {links[0]} is no file.", "Ship plain files, no links."
        )
    contents = git.blobs(checkout, [described.split()[2] for described, _ in entries])
    for (_, name), content in zip(entries, contents, strict=True):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


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
