"""Hold the migrations of a release against the one that serves: may they run while it does?"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks.base.errors import CannotMeasure, Misused
from checks.base.report import Finding, compare
from checks.migrations import rules, squawk
from checks.migrations.rules import Refusal, Schema

RENDER = Path(__file__).with_name("render.py")
SECONDS = 60


@dataclass(frozen=True)
class Judged:
    """One migration with what is wrong with it; ``file`` is its path in the release."""

    revision: str
    file: str
    refusals: tuple[Refusal, ...]

    @property
    def finding(self) -> Finding:
        hint = " ".join(f"{self.file}: {refusal}" for refusal in self.refusals)
        return compare(f"statements_to_refuse_in_{self.revision}", len(self.refusals), "==", 0, hint)


def judge(tree: Path, live: str = "") -> tuple[str, list[Judged]]:
    """Return a release's head and a judgement of each migration after ``live``, the schema in service.

    Without ``live`` each migration is judged as if a release of the one before it served.

    :raises CannotMeasure: the migrations cannot be read, or a judge is missing.
    :raises Misused: ``live`` is not among them.
    """
    rendered = _rendered(tree)
    known = [revision["revision"] for revision in rendered["revisions"]]
    if live and live not in known:
        raise Misused(f"{live} is not a migration of this release. Accepted: {', '.join(known)}.")
    return str(rendered["head"]), list(_judged(rendered["revisions"], live))


def _judged(revisions: list[Mapping[str, str]], live: str) -> Iterator[Judged]:
    schema = Schema()
    is_applied = bool(live)
    for revision in revisions:
        sql, file = revision["sql"], revision["file"]
        found = rules.refusals(sql, schema)
        if not is_applied:
            found += [] if found else squawk.refusals(sql, file)
            yield Judged(revision["revision"], file, tuple(found))
        is_applied = is_applied and revision["revision"] != live
        if not live or revision["revision"] == live:
            schema.settle()


def _rendered(tree: Path) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-B", str(RENDER), str(tree)],
            cwd=tree,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        rendered: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise CannotMeasure(f"The migrations cannot be read: {error}.") from None
    if "error" in rendered:
        raise CannotMeasure(f"The migrations cannot be read: {rendered['error']}.")
    return rendered
