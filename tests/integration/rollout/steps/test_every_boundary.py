"""Stopped between any two tasks of release.yml and typed again, a release ends as if it was not."""

import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rollout.files import content_sha256
from rollout.host import slot
from rollout.host.installed_servers import Servers
from rollout.steps import reports
from rollout.target.target import artifact_name
from tests.integration.rollout.played import FLAGS, KEPT, Play, Stopped, end_state
from tests.integration.rollout.steered import LIMITS, NEW, OLD, Steered, commit_of, steered

QUICK = {**LIMITS, "seconds": 10, "min_requests": 2}


@pytest.fixture(scope="module")
def targets(servers: Servers, scratch: Path) -> Iterator[Mapping[str, Steered]]:
    with ExitStack() as stack:
        instances = {"blue": 2, "green": 2}
        yield {
            name: stack.enter_context(
                steered(servers, scratch / f"every-{name}", instances, name=name, host=name)
            )
            for name in ("staging", "production")
        }


@pytest.fixture(autouse=True)
def who_listens_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to look through every socket of the machine, for each of some hundred waits."""
    monkeypatch.setattr(slot, "listening_pid", lambda *_: os.getpid())


@pytest.fixture(scope="module")
def document(scratch: Path) -> dict[str, Any]:
    """The new release, with an artifact that can be unpacked."""
    source, built = scratch / "wsgi.py", scratch / "built.tar.gz"
    source.write_text("app = None\n")
    with tarfile.open(built, "w:gz") as archive:
        archive.add(source, "lib/app/wsgi.py")
    sha256 = content_sha256(built)
    artifact = built.rename(scratch / artifact_name(NEW, sha256))
    return {"release": NEW, "commit": commit_of(NEW), "sha256": sha256, "artifact": str(artifact)}


def make_ready(targets: Mapping[str, Steered]) -> None:
    """Have an old release serve on both targets, and nothing of the new one anywhere."""
    for name, target in targets.items():
        target.reset()
        for kind in (*KEPT, "slots", "supervisor", "schema"):
            place = (target.home if kind == "supervisor" else target.directory) / kind
            shutil.rmtree(place, ignore_errors=True)
            place.unlink(missing_ok=True)
        for kind in (*KEPT, "slots/blue", "slots/green"):
            (target.directory / kind).mkdir(parents=True)
        windows = {"step": QUICK, "monitor": QUICK}
        # Byte code is no part of what is walked.
        more = {"steps": [50, 100], "windows": windows, "python": "true", "rehearsal_valid_days": 30}
        target.settings.update(more)
        target.serve(OLD)
        target.settings["admission"] = name == "production"
    key = reports.certificate_key(targets["staging"].steering)
    reports.trust(targets["production"].steering, {"public": key["public"]})


def test_stopped_between_any_two_tasks_and_typed_again_it_ends_the_same(
    targets: Mapping[str, Steered], document: Mapping[str, Any]
) -> None:
    make_ready(targets)
    whole = Play(targets, document, 0).run()
    expected = {name: end_state(target) for name, target in targets.items()}
    for name, end in expected.items():
        assert (end["serving"], end["flags"]["green"]) == (("green", NEW), FLAGS), name
        assert (end["end"][-1], end["schema"]) == ("finished", NEW) or name == "staging"
    assert len(whole) >= 60, whole

    different = {}
    for number, name in enumerate(whole):
        make_ready(targets)
        with pytest.raises(Stopped):
            Play(targets, document, 1).run(stop_at=number)
        assert not any(target.steering.lock.holder().owner for target in targets.values())
        Play(targets, document, 2).run()
        for target, found in ((target, end_state(targets[target])) for target in targets):
            unlike = {k: v for k, v in found.items() if v != expected[target][k]}
            if unlike:
                different[f"{number}: {name}: {target}"] = unlike

    assert different == {}
