"""What a host must have before a release: each part passing, failing, and not to be had."""

import time
from pathlib import Path
from typing import Any

import pytest

from rollout.errors import Refused
from rollout.files import write_json
from rollout.host import preflight
from rollout.target.target import Target
from tests.integration.rollout.steered import Steered
from tests.running import free_port


def changed(target: Target, **settings: Any) -> Target:
    return Target(target.name, target.directory, {**target.settings, **settings})


def refusal(target: Target, kit: str = "") -> str:
    with pytest.raises(Refused) as raised:
        preflight.preflight(target, kit)
    assert raised.value.hint == "./p12 provision, then the same command again"
    return str(raised.value)


@pytest.fixture
def balancer(live: Steered) -> Target:
    """The balancer of a target whose guard has just looked."""
    for name in ("artifacts", "backups"):
        (live.directory / name).mkdir(exist_ok=True)
    write_json(live.target.steering / "guard.json", {"at": time.time()})
    return changed(live.target, roles=["balancer"])


def test_a_host_that_has_everything_is_ready(provisioned: Target) -> None:
    answer = preflight.preflight(provisioned, "")

    assert answer["say"] == "staging: cache, database ready"


def test_the_kit_of_another_checkout_is_named_with_the_one_that_is_wanted(provisioned: Target) -> None:
    said = refusal(provisioned, "0123456789ab")

    assert "The kit here is" in said
    assert "the checkout's is 0123456789ab." in said


def test_a_full_disk_is_named_with_what_is_free_and_what_is_needed(
    provisioned: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "FREE_BYTES", 10**18)

    said = refusal(provisioned)

    assert f"{provisioned.directory / 'artifacts'} has " in said
    assert "MB free (limit >= 1000000000000 MB)" in said


def test_connections_over_the_budget_are_named_with_their_limit(provisioned: Target) -> None:
    budget = {**provisioned.settings["budget"], "hosts": 50}

    said = refusal(changed(provisioned, budget=budget))

    assert "staging is not ready: " in said
    assert "client_connections" in said


@pytest.mark.parametrize("away", ["postgres", "pgbouncer"])
def test_a_database_that_cannot_be_asked_is_not_ready(provisioned: Target, away: str) -> None:
    port, ports = free_port(), provisioned.settings["ports"]
    settings = {"postgres": {"postgres_port": port}, "pgbouncer": {"ports": {**ports, "pgbouncer": port}}}

    said = refusal(changed(provisioned, **settings[away]))

    assert "The database cannot be reached: " in said
    assert str(port) in said
    assert said.endswith("Connection refused.")
    assert "m" * 16 not in said


def test_a_redis_that_takes_another_password_is_told_in_its_words(
    provisioned: Target, tmp_path: Path
) -> None:
    write_json(tmp_path / "secrets.json", {"redis": "x" * 16})
    for name in ("artifacts", "backups"):
        (tmp_path / name).mkdir()

    said = refusal(Target("staging", tmp_path, {**provisioned.settings, "roles": ["cache"]}))

    assert "answers '-WRONGPASS" in said
    assert "x" * 16 not in said


def test_a_redis_that_is_away_is_named_with_what_it_is_for(provisioned: Target) -> None:
    port = free_port()
    ports = {**provisioned.settings["ports"], "redis": port}

    said = refusal(changed(provisioned, ports=ports, roles=["cache"]))

    assert f"Redis does not answer on 127.0.0.1:{port}" in said
    assert "rate limits would not be shared" in said


def test_a_balancer_with_haproxy_and_a_guard_that_looks_is_ready(balancer: Target) -> None:
    assert preflight.preflight(balancer, "")["say"] == "production: balancer ready"


@pytest.mark.parametrize("beat", [None, {"at": 0.0}], ids=["never ran", "is silent"])
def test_a_guard_that_does_not_look_is_missed(balancer: Target, beat: dict[str, float] | None) -> None:
    (balancer.steering / "guard.json").unlink()
    if beat:
        write_json(balancer.steering / "guard.json", beat)

    assert "The guard is not running, so nobody would judge a window." in refusal(balancer)


def test_a_haproxy_that_does_not_answer_is_named_with_its_socket(balancer: Target, tmp_path: Path) -> None:
    said = refusal(changed(balancer, haproxy_socket=str(tmp_path / "none.sock")))

    assert f"HAProxy does not answer on {tmp_path / 'none.sock'}" in said


def test_everything_that_is_wrong_is_said_at_once(provisioned: Target) -> None:
    ports = {**provisioned.settings["ports"], "redis": free_port()}

    said = refusal(changed(provisioned, ports=ports, postgres_port=free_port()), "0123456789ab")

    for words in ("The kit here is", "The database cannot be reached", "Redis does not answer"):
        assert words in said
