"""What somebody calls a release, resolved to its commit once."""

from dataclasses import dataclass
from pathlib import Path

from rollout.build import git
from rollout.errors import Refused

SHIPPED = ("app", "pyproject.toml", "requirements.lock")
# How to reach the remote is the engineer's to know.
FOR_FETCHING = ("HOME", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_ASKPASS")


@dataclass(frozen=True)
class Commit:
    """A commit and how the engineer named it; ``warning`` says what is not in it."""

    commit: str
    named: str
    warning: str = ""

    @property
    def release(self) -> str:
        return self.commit[:12]


def resolve(checkout: Path, branch: str, fetch: bool = False) -> Commit:
    """Resolve a branch, a tag or a commit to its commit; nothing means what is checked out.

    With ``fetch`` a branch is asked of ``origin`` and taken from there.

    :raises Refused: there is no such name, or it is a branch and a tag that differ; says which there are.
    """
    if fetch:
        return _fetched(checkout, branch)
    named = branch or "HEAD"
    commits = {
        kind: found
        for kind, name in (("branch", f"refs/heads/{branch}"), ("tag", f"refs/tags/{branch}"))
        if branch and (found := _commit(checkout, name))
    }
    if len(set(commits.values())) > 1:
        both = ", ".join(f"the {kind} is {commit[:12]}" for kind, commit in commits.items())
        raise Refused(
            f"{branch} is a branch and a tag, and they differ: {both}.",
            f"Say which: --branch heads/{branch} or --branch tags/{branch}",
        )
    commit = next(iter(commits.values()), "") or _commit(checkout, named)
    if not commit:
        raise _unknown(checkout, named)
    head = git.run(checkout, "rev-parse", "--abbrev-ref", "HEAD", check=False).stdout.strip()
    shown = branch or (head if head != "HEAD" else "a detached HEAD")
    return Commit(commit, shown, "" if branch else _dirty(checkout))


def names_of(checkout: Path, commit: str) -> list[str]:
    """Return every branch and tag that a commit is on, as ``main``, ``origin/main`` or ``v1``."""
    names = ("refs/heads", "refs/remotes", "refs/tags")
    words = ("for-each-ref", "--format=%(refname:lstrip=2)", f"--contains={commit}", *names)
    return git.run(checkout, *words).stdout.split()


def committed_at(checkout: Path, commit: str) -> int:
    """When a commit was made, in Unix seconds."""
    return int(git.run(checkout, "show", "-s", "--format=%ct", commit).stdout)


def _fetched(checkout: Path, branch: str) -> Commit:
    if not branch:
        raise Refused("--fetch needs a branch to fetch.", "./p12 release --fetch --branch NAME")
    spec = f"+refs/heads/{branch}:refs/remotes/origin/{branch}"
    done = git.run(
        checkout, "fetch", "--quiet", "--no-tags", "--", "origin", spec, check=False, keep=FOR_FETCHING
    )
    commit = _commit(checkout, f"refs/remotes/origin/{branch}")
    if done.returncode or not commit:
        said = (done.stderr.strip().splitlines() or ["nothing came"])[-1]
        raise Refused(f"origin/{branch} cannot be fetched: {said}", "See what there is: git ls-remote origin")
    return Commit(commit, f"origin/{branch}")


def _unknown(checkout: Path, named: str) -> Refused:
    remote = _commit(checkout, f"refs/remotes/origin/{named}")
    if remote:
        return Refused(
            f"{named} is no branch here, but origin/{named} was {remote[:12]} when it was last fetched.",
            f"Fetch it and release that: ./p12 release --fetch --branch {named}",
        )
    known = git.run(checkout, "branch", "--format=%(refname:short)").stdout.split("\n")
    branches = ", ".join(filter(None, known)) or "none"
    return Refused(
        f"{named} is not a branch, tag or commit here. Branches: {branches}.",
        "./p12 release --branch NAME; what only origin has: ./p12 release --fetch --branch NAME",
    )


def _commit(checkout: Path, name: str) -> str:
    """The commit that a name stands for, empty where there is none."""
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return git.run(checkout, *words, check=False).stdout.strip()


def _dirty(checkout: Path) -> str:
    changed = git.run(checkout, "status", "--porcelain", "--", *SHIPPED).stdout.splitlines()
    return (
        f"{len(changed)} uncommitted change{'s are' if len(changed) > 1 else ' is'} not in it"
        if changed
        else ""
    )
