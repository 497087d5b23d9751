"""HAProxy over its socket: who gets requests, what it saw of them, and what survives it."""

from collections.abc import Callable

import pytest

from rollout.errors import RolloutError, Unproven
from rollout.target.haproxy import Balancer
from rollout.target.target import Target
from tests.integration.rollout.steered import NEW, OLD, Steered, reply_on
from tests.running import wait_for


@pytest.fixture
def both(target: Steered) -> Steered:
    """Two releases, one in each slot, and no share for either."""
    target.install("blue", OLD)
    target.install("green", NEW)
    return target


def test_before_any_share_was_set_nobody_serves(both: Steered) -> None:
    assert both.steering.balancer.shares() == {"blue": 0, "green": 0}
    assert both.ask().status == 503


@pytest.mark.parametrize("share", [0, 5, 25, 50, 100])
def test_a_share_is_the_share_of_requests(both: Steered, share: int) -> None:
    both.steering.balancer.shift({"green": share, "blue": 100 - share})

    answered = both.ask_many(200)

    assert answered[NEW] == pytest.approx(2 * share, abs=3)
    assert answered[OLD] == pytest.approx(2 * (100 - share), abs=3)
    assert both.steering.balancer.shares() == {"green": share, "blue": 100 - share}


@pytest.mark.parametrize(("blue", "green"), [(1, 3), (3, 1)])
def test_a_share_does_not_depend_on_how_many_instances_a_slot_has(
    make_target: Callable[..., Steered], blue: int, green: int
) -> None:
    uneven = make_target(blue, green)
    uneven.install("blue", OLD)
    uneven.install("green", NEW)

    uneven.steering.balancer.shift({"green": 25, "blue": 75})

    assert uneven.ask_many(200)[NEW] == pytest.approx(50, abs=3)


def test_instances_of_a_slot_share_alike(both: Steered) -> None:
    both.steering.balancer.shift({"green": 100, "blue": 0})

    both.ask_many(100)

    assert [instance.seen["GET"] for instance in both.of("green")] == [50, 50]


def test_a_share_of_0_ends_no_request_that_is_running(both: Steered) -> None:
    both.steering.balancer.shift({"blue": 100, "green": 0})
    for instance in both.of("blue"):
        instance.hold()
    with both.in_flight(4) as running:
        wait_for(lambda: sum(instance.busy for instance in both.of("blue")) == 4, "4 requests running")
        both.steering.balancer.shift({"green": 100, "blue": 0})
        assert both.ask().release == NEW
        for instance in both.of("blue"):
            instance.let_go()

        replies = [reply_on(connection) for connection in running]

    assert [(reply.status, reply.release) for reply in replies] == [(200, OLD)] * 4


def test_turning_over_fails_no_visitor_in_either_direction(both: Steered) -> None:
    both.steering.balancer.shift({"blue": 100, "green": 0})
    with both.visitors() as visitors:
        for share in (5, 25, 100, 0, 100, 0):
            visitors.come()
            both.steering.balancer.shift({"green": share, "blue": 100 - share})
        visitors.come()

    assert visitors.failed == []
    assert set(visitors.releases) == {OLD, NEW}


def test_a_reload_keeps_the_shares_and_fails_no_visitor(both: Steered) -> None:
    both.steering.balancer.shift({"green": 25, "blue": 75})
    with both.visitors() as visitors:
        visitors.come()
        both.haproxy.reload()
        visitors.come()

    assert both.steering.balancer.shares() == {"green": 25, "blue": 75}
    assert both.ask_many(100)[NEW] == pytest.approx(25, abs=3)
    assert visitors.failed == []


def test_a_restart_keeps_the_shares(both: Steered) -> None:
    both.steering.balancer.shift({"green": 25, "blue": 75})

    both.haproxy.stop()
    both.haproxy.start()

    assert both.steering.balancer.shares() == {"green": 25, "blue": 75}


@pytest.mark.parametrize("left", ["no state file", "an old state file"])
def test_a_start_after_a_kill_serves_what_served(both: Steered, left: str) -> None:
    balancer, haproxy = both.steering.balancer, both.haproxy
    haproxy.stop()
    haproxy.start()
    balancer.shift({"green": 100, "blue": 0})
    old = haproxy.state.read_bytes()
    balancer.shift({"green": 25, "blue": 75})
    with both.visitors() as visitors:
        visitors.come()
        haproxy.process.kill()
        haproxy.process.wait()
        if left == "an old state file":
            haproxy.state.write_bytes(old)
        else:
            haproxy.state.unlink()
        haproxy.start()
        visitors.come()

    assert balancer.shares() == {"green": 25, "blue": 75}
    # While nothing listens a visitor gets no answer at all; "nobody serves" would be a 503.
    assert {status for _, status in visitors.failed} <= {0}


def test_the_kept_state_is_the_newest_share_not_the_first(both: Steered) -> None:
    both.steering.balancer.shift({"green": 25, "blue": 75})
    both.steering.balancer.shift({"green": 0, "blue": 100})

    both.haproxy.reload()

    assert both.steering.balancer.shares() == {"green": 0, "blue": 100}


def test_what_is_held_is_told_by_weights(both: Steered) -> None:
    both.steering.balancer.shift({"green": 5, "blue": 95})

    assert both.steering.balancer.holds({"green": 5, "blue": 95})
    assert not both.steering.balancer.holds({"green": 6, "blue": 94})

    both.steering.balancer.command("set server paste12/green-1.local weight 200")

    assert not both.steering.balancer.holds({"green": 5, "blue": 95})


def test_requests_are_counted_where_they_were_answered(both: Steered) -> None:
    both.steering.balancer.shift({"green": 50, "blue": 50})
    both.ask_many(20)

    servers = both.steering.balancer.servers()

    assert {name: server.requests for name, server in servers.items()} == dict.fromkeys(both.instances, 5)
    assert {server.errors for server in servers.values()} == {0}


def test_a_500_is_one_request_and_one_error(both: Steered) -> None:
    both.steering.balancer.shift({"green": 100, "blue": 0})
    both.instances["green-1.local"].fault = 500
    both.ask_many(4)

    server = both.steering.balancer.servers()["green-1.local"]

    assert (server.requests, server.errors) == (2, 2)


def test_a_404_is_no_error(both: Steered) -> None:
    both.steering.balancer.shift({"green": 100, "blue": 0})
    both.instances["green-1.local"].fault = 404
    both.ask_many(4)

    assert both.steering.balancer.servers()["green-1.local"].errors == 0


def test_a_connection_that_an_instance_drops_is_one_request_and_one_error(both: Steered) -> None:
    both.steering.balancer.shift({"green": 100, "blue": 0})
    both.instances["green-1.local"].cut = True
    both.ask_many(4, keep_alive=False)

    server = both.steering.balancer.servers()["green-1.local"]

    assert (server.requests, server.errors) == (2, 2)


def test_health_checks_and_internal_questions_are_no_requests(both: Steered) -> None:
    both.steering.balancer.shift({"green": 100, "blue": 0})
    checked = both.steering.balancer.command("show stat")
    wait_for(lambda: both.steering.balancer.command("show stat") != checked, "another health check")

    assert {server.requests for server in both.steering.balancer.servers().values()} == {0}


def test_an_instance_that_died_goes_down_and_comes_back_by_itself(both: Steered) -> None:
    both.steering.balancer.shift({"green": 100, "blue": 0})
    dying = both.instances["green-1.local"]
    dying.die()
    both.await_up(dying.name, up=False)
    assert both.ask_many(10) == {NEW: 10}

    dying.start()

    both.await_up(dying.name)


def test_a_balancer_that_is_away_is_named_with_what_to_type(both: Steered) -> None:
    both.haproxy.stop()

    with pytest.raises(RolloutError, match="HAProxy does not answer on") as raised:
        both.steering.balancer.servers()

    assert raised.value.hint == "Start it again: ./p12 provision"


def test_a_configuration_of_another_inventory_is_named(both: Steered) -> None:
    stranger = {"name": "blue-3.local", "slot": "blue", "address": "127.0.0.1", "port": 1}
    settings = both.settings | {"instances": [*both.settings["instances"], stranger]}
    balancer = Balancer(Target("production", both.directory, settings))

    with pytest.raises(RolloutError, match=r"HAProxy does not know blue-3\.local"):
        balancer.servers()
    with pytest.raises(Unproven, match="HAProxy was told"):
        balancer.shift({"blue": 100, "green": 0})
