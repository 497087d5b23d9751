"""The rules of the house, asked before production changes and never of a rollback."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rollout.errors import Refused
from rollout.steps import rollout
from rollout.steps.in_flight import abort, pause, resume
from rollout.target import approval
from rollout.target.state import state_of
from tests.integration.rollout.steered import NEW, Steered, digest_of, document_of
from tests.running import CHECKOUT


def freeze(at: Steered) -> None:
    """Freeze the site from yesterday until tomorrow."""
    now = datetime.now(UTC).replace(tzinfo=None)
    edges = {name: (now + timedelta(days=days)).isoformat() for name, days in (("from", -1), ("until", 1))}
    at.settings["freezes"] = [{"name": "the sale", **edges}]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A key of each person's, made as they make one."""
    home = tmp_path_factory.mktemp("keys")
    for name in ("ann", "bob", "eve"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(home / name)]
        subprocess.run(words, check=True, capture_output=True)
    return {name: home / name for name in ("ann", "bob", "eve")}


@pytest.fixture
def consenting(live: Steered, keys: dict[str, Path]) -> Steered:
    """A site where one of two must approve, nobody their own, and a release that ann is about to promote."""
    public = {name: keys[name].with_suffix(".pub").read_text().strip() for name in ("ann", "bob")}
    live.settings["approvals"] = {"needed": 1, "keys": public, "own": False}
    live.take()
    live.admit(NEW)
    return live


def shown(at: Steered) -> dict[str, Any]:
    paper = at.steering.state().certificate or {}
    return {"release": NEW, "certificate": {k: v for k, v in paper.items() if k != "at"}}


def approved(at: Steered, key: Path) -> tuple[int, dict[str, Any]]:
    """Approve as the playbook does: sign on the controller, check on the balancer."""
    done = subprocess.run(
        [sys.executable, "-m", "rollout.cli.controller", "approve", f"--key={key}"],
        cwd=CHECKOUT,
        input=json.dumps(shown(at)),
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert "signature" in answer, answer
    told = {"shown": shown(at), "signature": answer["signature"]}
    return at.host("approve", "--owner=somebody@laptop", told=told)


def claim(at: Steered, why: str = "") -> dict[str, Any]:
    return rollout.claim(at.steering, NEW, digest_of(NEW), at.token, why)


def test_in_a_freeze_nothing_is_released_without_a_reason_which_is_journaled(live: Steered) -> None:
    freeze(live)
    events, told = live.events(), document_of(NEW)

    status, answer = live.host("allow", told=told)

    assert (status, answer["status"]) == (1, 5)
    assert "frozen: the sale until" in answer["error"]
    assert live.events() == events
    assert live.host("allow", "--why=the site is down", told=told)[0] == 0
    live.offer(NEW, why="the site is down")
    begun = live.steering.journal.entries()[-1]
    assert (begun.event, begun.data["why"]) == ("rollout.begun", "the site is down")
    assert begun.data["breaks"].startswith("freeze: the sale")


def test_a_freeze_that_began_meanwhile_holds_the_claim_and_what_is_resumed(live: Steered) -> None:
    live.take()
    live.admit(NEW)
    pause(live.steering, "ann@laptop", "lunch")
    freeze(live)

    with pytest.raises(Refused, match="frozen: the sale"):
        claim(live)
    with pytest.raises(Refused, match="frozen: the sale"):
        resume(live.steering, "ann@laptop", "")

    resume(live.steering, "ann@laptop", "the site is down")
    assert live.steering.journal.entries()[-1].data["breaks"].startswith("freeze: the sale")


def test_no_rule_is_asked_for_a_way_back(live: Steered) -> None:
    live.offer(NEW)
    live.shift_unwatched(NEW, 25)
    freeze(live)
    live.settings |= {"branches": ["nowhere"], "approvals": {"needed": 9, "keys": {}}}

    abort(live.steering, "ann@laptop", "wrong release")

    assert live.steering.balancer.shares() == {"blue": 100, "green": 0}


def test_a_commit_that_is_on_no_branch_of_the_inventory_is_refused(live: Steered) -> None:
    live.settings["branches"] = ["main", "release/*"]
    events = live.events()

    status, answer = live.host("allow", "--why=now", told={**document_of(NEW), "branches": ["try"]})

    assert (status, answer["status"]) == (1, 5)
    assert answer["error"] == (
        f"{NEW} is on try; production takes what is on main, release/* (p12_branches)."
    )
    assert live.host("allow", told={**document_of(NEW), "branches": ["try", "release/7"]})[0] == 0
    assert live.events() == events


def test_a_release_goes_on_once_another_person_has_signed_its_certificate(
    consenting: Steered, keys: dict[str, Path]
) -> None:
    with pytest.raises(Refused, match=r"has the consent of nobody, and needs 1 of ann, bob") as raised:
        claim(consenting, why="urgent")
    assert f"./p12 approve --branch {NEW}" in raised.value.hint

    approved(consenting, keys["ann"])
    with pytest.raises(Refused, match="consent of nobody"):  # her own
        claim(consenting)

    status, answer = approved(consenting, keys["bob"])
    assert (status, answer["changed"]) == (0, True)
    assert not approved(consenting, keys["bob"])[1]["changed"]
    assert claim(consenting)["changed"]
    state = consenting.steering.state()
    assert [each["by"] for each in state.approvals] == ["ann", "bob"]
    assert state_of({"approvals": [dict(each) for each in state.approvals]}).approvals == state.approvals


def test_who_is_not_on_the_list_or_signed_something_else_approves_nothing(
    consenting: Steered, keys: dict[str, Path]
) -> None:
    status, answer = approved(consenting, keys["eve"])
    assert (status, answer["status"]) == (1, 5)
    assert "nobody who may approve" in answer["error"]

    forged = approval.sign({**shown(consenting)["certificate"], "sha256": "0" * 64}, keys["bob"])
    told = {"shown": shown(consenting), "signature": forged}
    assert "nobody who may approve" in consenting.host("approve", told=told)[1]["error"]


def test_consent_is_to_one_certificate_and_ends_with_the_key(
    consenting: Steered, keys: dict[str, Path]
) -> None:
    approved(consenting, keys["bob"])
    consenting.settings["approvals"]["keys"].pop("bob")
    with pytest.raises(Refused, match="consent of nobody"):
        claim(consenting)


def test_another_certificate_needs_another_consent(consenting: Steered, keys: dict[str, Path]) -> None:
    approved(consenting, keys["bob"])
    consenting.certify(NEW, {"P12_ENABLE_VIEW_QUEUE": "1"})
    with pytest.raises(Refused, match="consent of nobody"):
        claim(consenting)


def test_a_key_that_is_not_there_is_refused_with_what_to_type(consenting: Steered, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="signs nothing") as raised:
        approval.sign(shown(consenting)["certificate"], tmp_path / "none")
    assert "ssh-add" in raised.value.hint
