"""The way back, proven while a backup is: the old release is run on a migrated copy of what was dumped."""

import hashlib
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rollout.errors import RolloutError
from rollout.files import unpack
from rollout.host.slot import artifact_path, artifact_sha256
from rollout.target.target import Target


@dataclass
class Proof:
    """To be called with the DSN of a restored copy; then ``outcome`` says what came of it.

    ``releases`` holds ``new`` and, where something serves, ``old``, each with ``release`` and ``sha256``;
    their artifacts are on this host. Without an old one the migration alone is proven. A proof that could
    not be made is ``unknown`` and says why: it never spoils the backup beside it.
    """

    target: Target
    releases: Mapping[str, Mapping[str, str]]
    outcome: dict[str, Any] = field(default_factory=dict)

    def __call__(self, dsn: str) -> None:
        from checks.base.errors import CannotMeasure
        from checks.way_back.prove import prove

        self.outcome = {which: dict(self.releases.get(which) or {}) for which in ("old", "new")}
        try:
            with ExitStack() as stack:
                place = Path(
                    stack.enter_context(TemporaryDirectory(prefix=".way-back-", dir=self.target.directory))
                )
                old = self._unpacked(place, "old") if self.outcome["old"] else None
                found = prove(old, self._unpacked(place, "new"), dsn, place)
        except (CannotMeasure, RolloutError, OSError, tarfile.TarError) as error:
            self.outcome |= {"verdict": "unknown", "summary": f"way back not proven: {error}"}
            return
        self.outcome |= {
            "verdict": str(found.verdict),
            "schema": found.schema,
            "seconds": found.seconds,
            "summary": _words(found),
            "findings": [str(finding) for finding in found.findings],
        }

    def _unpacked(self, place: Path, which: str) -> Any:
        from checks.way_back.instance import Release

        release, digest = self.releases[which]["release"], self.releases[which]["sha256"]
        path = artifact_path(self.target, release, digest)
        # An older kit named an artifact by its file's digest.
        if digest not in (artifact_sha256(path), hashlib.sha256(path.read_bytes()).hexdigest()):
            raise RolloutError(f"{path} is not what was built: its sha256 is not {digest[:12]}….")
        with tarfile.open(path) as archive:
            unpack(archive, place / which)
        return Release(release, place / which, self.target.settings["python"])


def _words(found: Any) -> str:
    if found.verdict == "passed" and not found.old:
        return f"{found.new} migrated a copy to schema {found.schema} and serves it, in {found.seconds:.0f} s"
    if found.verdict == "passed":
        return (
            f"way back proven on a copy in {found.seconds:.0f} s: {found.old} runs on schema {found.schema}, "
            f"also beside {found.new}"
        )
    broken = [finding for finding in found.findings if finding.verdict != "passed"]
    step, said = broken[0].name.replace("_", " "), broken[0].hint
    way = (
        f"no way back from {found.new} to {found.old}" if found.old else f"{found.new} does not run on a copy"
    )
    return f"{way}: {step}: {said}"
