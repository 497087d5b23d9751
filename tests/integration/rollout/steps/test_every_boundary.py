"""Stopped between any two tasks on the way to production and typed again, a release ends as if it was not."""

import time
from typing import Any

import pytest

from rollout.steps import reports
from rollout.target import certificate
from tests.integration.rollout.played import Play, Stopped, end_state
from tests.integration.rollout.steered import LIMITS, NEW, OLD, STAGING_KEY, Steered, document_of

FLAGS = {"P12_ENABLE_ADVISORY_LOCKS": "1"}
STEPS = [50, 100]
QUICK = {**LIMITS, "seconds": 10, "min_requests": 2}


def ready(steered: Steered) -> dict[str, Any]:
    """Have an old release serve and a backup made; returns what staging shows of the new one."""
    steered.reset()
    steered.settings["steps"] = STEPS
    steered.settings["windows"] = {"step": QUICK, "monitor": QUICK}
    steered.serve(OLD)
    steered.take()
    reports.trust(steered.steering, {"public": certificate.public_key(STAGING_KEY)})
    steered.back_up(NEW)
    steered.steering.lock.drop(steered.token)
    now = time.time()
    verdicts = [{"check": "burst", "verdict": "passed", "summary": "no deadlock"}]
    paper = certificate.issue(
        STAGING_KEY,
        **document_of(NEW),
        flags=FLAGS,
        schema="0002",
        verdicts=verdicts,
        issued_at=now,
        expires_at=now + 600,
    )
    return {**document_of(NEW), "valid": True, "certificate": paper}


def test_stopped_between_any_two_tasks_and_typed_again_it_ends_the_same(shared: Steered) -> None:
    whole = Play(shared, NEW, ready(shared), 0).run()
    expected = end_state(shared)
    assert expected["serving"] == ("green", NEW)
    assert expected["flags"]["green"] == FLAGS
    assert expected["end"][-1] == "finished"
    assert len(whole) >= 25, whole

    different = {}
    for number, name in enumerate(whole):
        paper = ready(shared)
        with pytest.raises(Stopped):
            Play(shared, NEW, paper, 1).run(stop_at=number)
        assert not shared.steering.lock.holder().owner
        Play(shared, NEW, paper, 2).run()
        if (found := end_state(shared)) != expected:
            different[f"{number}: {name}"] = {k: v for k, v in found.items() if v != expected[k]}

    assert different == {}
