"""A real release, killed between two tasks of release.yml and typed again, ends as one that nobody stopped.

Each boundary costs a release, so a run walks a sample, another one each day; all of them are walked, with
small instances, by tests/integration/rollout/steps/test_every_boundary.py.
"""

import json
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest

from tests.whole_site import QUICK, Site, whole_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

SAMPLE = 10
DAY_SECONDS = 86400
# It is not about the burst's measure, and a busy machine must not decide it.
SETTINGS = f"""{QUICK}p12_steps: [50, 100]
p12_burst:
  {{levels: [20], rounds: 1, shapes: [hot, spread], visitors: [both], p50_ms: 9000, p99_ms: 9000,
    busy_ratio: 0.5, wanted_ratio: 0.01}}
"""
# Ansible loads what lies beside the playbooks. It ends release.yml as a power cut would, before task STOP_AT.
CALLBACK = """
import json, os, signal
from pathlib import Path
from ansible.plugins.callback import CallbackBase

PLACE = Path(__file__).resolve().parents[2] / ".p12"

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "boundaries"

    def v2_playbook_on_start(self, playbook):
        self.tasks = [] if playbook._file_name.endswith("/release.yml") else None
        self.stop_at = int((PLACE / "stop-at").read_text())

    def v2_playbook_on_task_start(self, task, is_conditional):
        if self.tasks is not None:
            self.tasks.append([task.get_name(), False])
            if len(self.tasks) - 1 == self.stop_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def v2_runner_on_ok(self, result):
        if self.tasks is not None:
            self.tasks[-1][1] = True

    def v2_playbook_on_stats(self, stats):
        if self.tasks is not None:
            (PLACE / "tasks.json").write_text(json.dumps(self.tasks))
"""


@pytest.fixture(scope="module")
def stoppable(servers: object) -> Iterator[Site]:  # noqa: ARG001 - the servers must be found or installed
    """A site with a release and one after it, whose release.yml can be stopped at any boundary."""
    with whole_site(SETTINGS) as site:
        (site.checkout / "playbooks" / "callback_plugins" / "boundaries.py").write_text(CALLBACK)
        stop_at(site, -1)
        for number in (-2, -1):
            done = site.p12("release", "--branch", next_release(site, number))
            assert done.returncode == 0, done.stdout + done.stderr
        yield site


def stop_at(site: Site, number: int) -> None:
    (site.checkout / ".p12" / "stop-at").write_text(str(number))


def next_release(site: Site, number: int) -> str:
    """Commit a change that changes nothing; return the release that it becomes."""
    return site.commit("next", "app/web/health.py", lambda text: f"{text}# {number}\n")


def release(site: Site, number: int, *stops: int) -> dict[str, Any]:
    """Release the next commit, stopped at these boundaries before it is let through; say how it ended."""
    old, new = site.live(), next_release(site, number)
    for stop in (*stops, -1):
        stop_at(site, stop)
        done = site.p12("release", "--branch", new)
        assert (done.returncode == 0) is (stop < 0), f"{number}: {done.stdout}{done.stderr}"
    return {target: end_state(site, target, {old: "old", new: "new"}) for target in ("staging", "production")}


def end_state(site: Site, target: str, names: dict[str, str]) -> dict[str, Any]:
    """What is true of a target when all is over, without times, numbers, ids and the colour of slots."""
    status = site.status(target)
    live = status["live"]["slot"]
    role = {slot: "live" if slot == live else "idle" for slot in status["slots"]}
    rollout = status["rollout"]
    paper = json.loads((site.root / target / "steer" / "certificate.json").read_text())
    told = [e["event"] for e in site.host(target, "journal")["entries"]]
    # A burst that was not certified is fired, and journaled, once more.
    entries = [event for event, _ in groupby(e for e in told if not e.startswith(("lock.", "window.")))]
    begun = len(entries) - entries[::-1].index("rollout.begun") - 1
    return {
        "live": names.get(status["live"]["release"]),
        "shares": {role[slot]: share for slot, share in status["shares"].items()},
        "slots": {
            role[slot]: {
                **{name: held[name] for name in ("proven", "flags", "raised")},
                "release": names.get(held["release"]),
            }
            for slot, held in status["slots"].items()
            if held
        },
        "instances": sorted(
            str([role[i["slot"]], i["up"], names.get(i["release"]), i["error"]]) for i in status["instances"]
        ),
        "rollout": [names.get(rollout["release"]), names.get(rollout["from_release"]), rollout["share"]],
        "ended": rollout["ended"],
        "events": entries[begun:],
        "certificate": [names.get(paper["release"]), paper["flags"], paper["schema"]],
        "backup": names.get((status["backup"] or {}).get("release")),
        "journal": site.host(target, "journal", "--verify")["status"],
        "unfinished": [path.name for path in (site.root / target / "releases").glob(".*")],
        **{name: status[name] for name in ("lock", "window", "quarantined", "restoration", "orphans")},
        **{name: status[name] for name in ("rollback", "withdrawal", "journal_error", "balancer_error")},
    }


def test_killed_between_two_tasks_and_typed_again_a_real_release_ends_the_same(stoppable: Site) -> None:
    expected = release(stoppable, 0)
    tasks = json.loads((stoppable.checkout / ".p12" / "tasks.json").read_text())
    boundaries = [number for number, (_, was_run) in enumerate(tasks) if was_run]
    assert len(boundaries) > 60, tasks
    stride = len(boundaries) // SAMPLE
    walked = boundaries[int(time.time() / DAY_SECONDS) % stride :: stride]

    different = {}
    for number in walked:
        if (found := release(stoppable, number, number)) != expected:
            different[f"{number}: {tasks[number][0]}"] = {
                target: {
                    name: value for name, value in found[target].items() if value != expected[target][name]
                }
                for target in found
            }

    assert different == {}
    assert stoppable.failed_requests() == []
