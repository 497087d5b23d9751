"""The Paste12 that serves today beside the kit's slots: adopted, released beside, gone back to, left."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rollout.errors import Refused
from rollout.steps import adopt, rollback, rollout
from rollout.steps.status import report
from rollout.steps.window import allow
from rollout.target.target import TODAYS_SERVICE
from tests.certificates import certificate
from tests.integration.rollout.steered import LIMITS, NEW, NEXT, OLD, Steered, digest_of, document_of

WHY = "the first one beside today's service"


@pytest.fixture
def today(make_target: Callable[..., Steered]) -> Steered:
    """A target whose front door passes everything to two servers of today's service."""
    made = make_target(today=2)
    limits = LIMITS | {"by_request": True, "tolerable_errors": 0.3, "tolerable_slow": 0.9}
    made.settings["windows"] = dict.fromkeys(("step", "monitor"), limits | {"tolerable_missing": 0.9})
    made.settings |= {"holdback_percent": 20, "steps": [25, 50, 100]}
    adopt.adopt(made.steering, made.take())
    return made


def pass_window(today: Steered, kind: str = "step") -> None:
    window = today.open(kind)
    today.watch_visitors(150, 10, rounds=5)
    assert today.window(window).verdict == "passed", today.window(window)


def offer(today: Steered, release: str) -> str:
    today.take()
    today.admit(release)
    slot = str(rollout.claim(today.steering, release, digest_of(release), today.token, WHY)["slot"])
    today.install(slot, release)
    today.prove(release)
    rollout.begin(today.steering, release, today.token, WHY)
    return slot


def asked(today: Steered) -> dict[str, int]:
    """Whom forty requests went to, by slot."""
    found: dict[str, int] = {}
    for _ in range(40):
        slot = today.ask().instance.partition("-")[0]
        found[slot] = found.get(slot, 0) + 1
    return found


def test_every_request_goes_to_todays_service_and_saying_it_again_changes_nothing(today: Steered) -> None:
    again = adopt.adopt(today.steering, today.token)

    assert asked(today) == {"today": 40}
    assert today.steering.balancer.shares() == {"blue": 0, "green": 0, "today": 100}
    assert not again["changed"]
    assert again["say"] == "production: today's service has every request, at 2 servers"


def test_no_visitor_fails_beside_it_nor_on_the_way_back(make_target: Callable[..., Steered]) -> None:
    made = make_target(today=2)
    adopt.adopt(made.steering, made.take())

    with made.visitors() as visitors:
        visitors.come()
        offer(made, NEW)
        made.shift_unwatched(NEW, 50)
        visitors.come()
        made.roll_back("errors")
        visitors.come()

    assert not visitors.failed


def test_the_first_release_goes_up_beside_it_in_watched_steps_and_keeps_it_as_the_way_back(
    today: Steered,
) -> None:
    slot = offer(today, NEW)
    for share in today.settings["steps"][:-1]:
        today.shift(NEW, share)
        pass_window(today)
    today.shift_on(NEW)
    assert today.steering.balancer.shares()["today"] == 20
    pass_window(today, "monitor")
    rollout.finish(today.steering, NEW, today.token)

    assert asked(today) == {slot: 40}
    assert today.steering.state().good == (NEW,)

    answer = today.roll_back()

    assert answer["say"].startswith("production: back on today's service (today), proven at 2 instances")
    assert asked(today) == {"today": 40}


def test_a_bad_first_release_is_turned_back_to_it_by_the_guard(today: Steered) -> None:
    slot = offer(today, NEW)
    today.shift(NEW, 5)
    window = today.open()
    for instance in today.of(slot):
        instance.fault = 500

    today.watch_visitors(150, 10, rounds=4)

    assert today.window(window).verdict == "failed"
    assert asked(today) == {"today": 40}
    assert NEW in today.steering.state().quarantined


def test_nothing_of_the_kits_is_ever_asked_of_it(today: Steered) -> None:
    offer(today, NEW)
    today.shift_unwatched(NEW, 25)
    today.roll_back()
    today.heal()
    rollback.flags_off(today.steering, "ann@desk")
    report(today.steering)

    assert not [path for server in today.of("today") for path in server.paths if "internal" in path]


def test_the_second_release_goes_back_to_the_first(today: Steered) -> None:
    offer(today, NEW)
    today.shift_unwatched(NEW, 100)
    today.settings["admission"] = False
    rollout.finish(today.steering, NEW, today.token)
    today.settings["admission"] = True
    today.offer(NEXT)
    today.shift_unwatched(NEXT, 100)

    today.roll_back()

    assert today.ask_many(20) == {NEW: 20}


def test_status_shows_it_as_a_slot_of_its_own(today: Steered) -> None:
    said = report(today.steering)["say"]

    assert f"{TODAYS_SERVICE} (today)" in said
    assert "today       100 %  today's service\n" in said
    assert "today-1                    up   today's service\n" in said


def test_it_can_be_left_once_a_release_is_good_and_not_before(today: Steered) -> None:
    with pytest.raises(Refused, match="no release is good yet"):
        adopt.leave(today.steering, today.token)
    offer(today, NEW)
    today.shift_unwatched(NEW, 100)
    with pytest.raises(Refused, match="no release is good yet"):
        adopt.leave(today.steering, today.token)
    today.settings["admission"] = False
    rollout.finish(today.steering, NEW, today.token)

    left = adopt.leave(today.steering, today.token)

    assert left["changed"]
    assert not adopt.leave(today.steering, today.token)["changed"]
    with pytest.raises(Refused):
        today.roll_back()
    assert today.ask_many(10) == {NEW: 10}


def test_without_a_reason_no_release_is_let_beside_what_nobody_could_try(today: Steered) -> None:
    with pytest.raises(Refused, match="not the kit's to start"):
        allow(today.steering, NEW, "", None)
    today.admit(NEW)
    with pytest.raises(Refused, match="not the kit's to start"):
        rollout.claim(today.steering, NEW, digest_of(NEW), today.token, "")
    assert rollout.serving(today.steering, document_of(NEW))["artifact"] == ""


def test_a_target_without_it_or_with_a_release_has_nothing_to_take_over(
    target: Steered, today: Steered
) -> None:
    with pytest.raises(Refused, match="knows no server of today"):
        adopt.adopt(target.steering, target.take())
    today.settings["admission"] = False
    offer(today, OLD)
    today.shift(OLD, 100)
    rollout.finish(today.steering, OLD, today.token)
    with pytest.raises(Refused, match="serves production already"):
        adopt.adopt(today.steering, today.token)


def test_it_is_asked_by_tls_as_whom_it_must_prove_itself(
    make_target: Callable[..., Steered], scratch: Path
) -> None:
    chain, key = certificate(days=60, name="today.example")
    (scratch / "ca.pem").write_bytes(chain)
    (scratch / "both.pem").write_bytes(chain + key)
    known, other = (
        make_target(today=1, p12_today_tls_name=name, p12_today_ca=str(scratch / "ca.pem"))
        for name in ("today.example", "somebody.example")
    )
    for made in (known, other):
        (server,) = made.of("today")
        server.speak_tls(scratch / "both.pem")

    known.await_up("today-1")
    adopt.adopt(known.steering, known.take())

    assert known.ask().status == 200
    other.await_up("today-1", up=False)


def test_one_that_does_not_answer_moves_nothing(
    make_target: Callable[..., Steered], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "UP_SECONDS", 0.3)
    made = make_target(today=2)
    made.of("today")[0].unready = True
    made.await_up("today-1", up=False)

    with pytest.raises(Refused, match="today-1 down"):
        adopt.adopt(made.steering, made.take())

    assert made.steering.state().serving is None
    assert set(made.steering.balancer.shares().values()) == {0}


def test_deadlocks_of_the_database_are_todays_own_while_it_has_requests(today: Steered) -> None:
    """It changes the schema in its requests, and did before there was a release."""
    offer(today, NEW)
    for share, kind in ((25, "step"), (80, "monitor")):
        today.shift_unwatched(NEW, share)
        assert "database_deadlocks" in today.open(kind).limits["observe"]
        today.roll_back("only asked") if kind == "monitor" else today.watch_visitors(150, 10, rounds=5)


def test_one_that_goes_down_in_the_middle_leaves_everybody_to_the_release_and_comes_back(
    today: Steered,
) -> None:
    """Or is deployed anew in the middle: its servers are away for a while, one after the other or both."""
    offer(today, NEW)
    today.shift_unwatched(NEW, 50)
    for server in today.of("today"):
        server.unready = True
    today.await_up("today-1", "today-2", up=False)

    assert asked(today) == {"blue": 40}
    with pytest.raises(
        Refused, match=r"No instance of today \(today's service\) is up, so nobody would serve"
    ):
        today.roll_back("while it is down")
    assert asked(today) == {"blue": 40}
    assert today.steering.balancer.shares()["blue"] == 50

    for server in today.of("today"):
        server.unready = False
    today.await_up("today-1", "today-2")
    today.roll_back("it is back")
    assert asked(today) == {"today": 40}
