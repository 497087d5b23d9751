"""What is true of a target right now; what does not answer is named, never left out."""

import json
import subprocess
import sys

from rollout.steps.status import status
from tests.integration.rollout.steered import NEW, OLD, Steered


def test_before_the_first_release_nothing_is_made_up(target: Steered) -> None:
    answer = status(target.steering)

    assert answer["live"] == {"slot": None, "release": None}
    assert answer["slots"] == {"blue": None, "green": None}
    assert (answer["rollout"], answer["window"], answer["lock"], answer["guard"]) == (None, None, None, None)


def test_a_rollout_at_a_step_is_shown_whole(live: Steered) -> None:
    live.offer(NEW, {"P12_READ_ONLY": "1"})
    live.shift(NEW, 5)
    window = live.open()
    live.guard.look()

    answer = status(live.steering)

    assert answer["live"] == {"slot": "blue", "release": OLD}
    assert answer["shares"] == {"blue": 95, "green": 5}
    assert answer["slots"]["green"]["raised"] == ["P12_READ_ONLY"]
    assert (answer["rollout"]["release"], answer["rollout"]["share"]) == (NEW, 5)
    assert answer["window"]["id"] == window.id
    assert answer["lock"]["owner"] == "ann@desk"
    assert answer["backup"]["id"] == f"before-{NEW}"
    assert answer["guard"]["window"] == window.id
    assert [instance["release"] for instance in answer["instances"]] == [OLD, OLD, NEW, NEW]


def test_what_is_live_is_read_from_haproxy_not_from_memory(live: Steered) -> None:
    live.offer(NEW)
    live.steering.balancer.shift({"green": 100, "blue": 0})

    assert status(live.steering)["live"] == {"slot": "green", "release": NEW}


def test_each_slot_tells_after_how_many_days_its_worker_purges(live: Steered) -> None:
    live.offer(NEW)
    live.instances["green-1.local"].purge_after_days = 30

    answer = status(live.steering)

    assert answer["purge_after_days"] == {"blue": [None], "green": [None, 30]}


def test_a_dead_instance_is_named_with_the_reason(live: Steered) -> None:
    live.instances["blue-2.local"].die()
    live.await_up("blue-2.local", up=False)

    (dead,) = [i for i in status(live.steering)["instances"] if i["name"] == "blue-2.local"]

    assert (dead["up"], dead["release"]) == (False, None)
    assert "refused" in dead["error"]


def test_an_instance_that_runs_something_else_is_shown_with_what_it_runs(live: Steered) -> None:
    live.instances["blue-2.local"].commit = "d" * 40

    (other,) = [i for i in status(live.steering)["instances"] if i["name"] == "blue-2.local"]

    assert other["release"] == "d" * 12


def test_with_haproxy_away_the_rest_is_still_told(live: Steered) -> None:
    live.haproxy.stop()

    answer = status(live.steering)

    assert answer["shares"] is None
    assert "HAProxy does not answer" in answer["balancer_error"]
    assert [instance["up"] for instance in answer["instances"]] == [None] * 4
    assert answer["slots"]["blue"]["release"] == OLD


def test_after_a_rollback_the_reason_is_on_the_screen(live: Steered) -> None:
    live.offer(NEW)
    live.shift(NEW, 5)
    live.roll_back("notes vanish")

    code, answer = live.host("status")

    assert code == 0
    assert answer["quarantined"] == {NEW: "notes vanish"}
    assert f"quarantine  {NEW}: notes vanish" in answer["say"]
    assert f"rollout     {NEW} rolled back" in answer["say"]


def test_where_nothing_serves_the_exit_status_says_so(target: Steered) -> None:
    target.save_settings()
    empty = target.host("status")
    target.serve(OLD)
    serving = target.host("status")
    for instance in target.of("blue"):
        instance.die()
    target.await_up(*(instance.name for instance in target.of("blue")), up=False)
    down = target.host("status")

    assert [status for status, _ in (empty, serving, down)] == [3, 0, 3]
    assert empty[1]["error"] == "production serves nothing."
    assert empty[1]["hint"] == "./p12 release"
    assert down[1]["error"] == "production serves nothing: blue is down."
    assert all("say" in answer for _, answer in (empty, serving, down))


def test_status_holds_no_secret_and_changes_nothing(live: Steered) -> None:
    events = live.events()

    said = json.dumps(live.host("status"))

    assert live.events() == events
    assert not [secret for secret in live.target.secrets.values() if secret in said]


def test_a_host_that_was_not_provisioned_for_a_target_says_which_it_has(live: Steered) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rollout", "host", "staging", "status"],
        env=live.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert answer["error"] == "staging is not a target of this host. Accepted: production."
