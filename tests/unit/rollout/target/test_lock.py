"""The lock: one engineer at a time, and a token that shows who was overtaken."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rollout.errors import Refused
from rollout.target.lock import Holder, Lock

# Hundreds of small files that are synced one by one would wait for a busy disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SECONDS = 60.0
TAKER = """
import sys
from pathlib import Path
from rollout.errors import Refused
from rollout.target.lock import Lock
sys.stdin.readline()
try:
    print(Lock(Path(sys.argv[1]), 60).take(sys.argv[2], sys.argv[2]).token)
except Refused:
    print("refused")
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lock(tmp_path: Path, clock: Clock) -> Lock:
    return Lock(tmp_path / "lock.json", SECONDS, clock)


def test_a_lock_that_was_never_taken_is_free(lock: Lock, clock: Clock) -> None:
    assert not lock.holder().holds(clock())


def test_a_second_engineer_is_told_who_since_when_and_what_to_type(lock: Lock) -> None:
    taken = lock.take("ann@desk", "desk:1:1.0")

    with pytest.raises(Refused) as raised:
        lock.take("bob@tower", "tower:2:2.0")

    assert "ann@desk" in str(raised.value)
    assert "desk:1:1.0" in str(raised.value)
    assert taken.describe() in str(raised.value)
    assert "./p12 lock break --why" in raised.value.hint


def test_being_refused_changes_nothing(lock: Lock) -> None:
    taken = lock.take("ann", "one")

    with pytest.raises(Refused):
        lock.take("bob", "two")

    assert lock.holder() == taken


def test_the_same_session_takes_it_again_with_the_same_token(lock: Lock, clock: Clock) -> None:
    first = lock.take("ann", "one")
    clock.now += 10

    again = lock.take("ann", "one")

    assert (again.token, again.since) == (first.token, first.since)
    assert again.expires == clock.now + SECONDS


def test_the_same_engineer_in_another_session_is_another_taker(lock: Lock) -> None:
    lock.take("ann", "one")

    with pytest.raises(Refused):
        lock.take("ann", "two")


def test_the_lock_of_a_session_seen_dead_passes_on_under_a_higher_token(lock: Lock) -> None:
    dead = lock.take("ann", "one")

    taken = lock.take("bob", "two", dead_session="one")

    assert taken.token > dead.token
    with pytest.raises(Refused, match="You lost the lock, by takeover: to bob "):
        lock.renew(dead.token)


def test_another_session_than_the_one_seen_dead_keeps_its_lock(lock: Lock) -> None:
    lock.take("ann", "one")

    with pytest.raises(Refused):
        lock.take("bob", "two", dead_session="three")


def test_an_expired_lock_passes_on_under_a_higher_token(lock: Lock, clock: Clock) -> None:
    late = lock.take("ann", "one")
    clock.now += SECONDS

    taken = lock.take("bob", "two")

    assert taken.token > late.token
    with pytest.raises(Refused, match="by takeover: to bob "):
        lock.renew(late.token)


def test_a_session_that_slept_past_its_expiry_gets_a_new_token(lock: Lock, clock: Clock) -> None:
    before = lock.take("ann", "one")
    clock.now += SECONDS

    assert lock.take("ann", "one").token > before.token


def test_renewing_pushes_the_expiry_on(lock: Lock, clock: Clock) -> None:
    taken = lock.take("ann", "one")
    clock.now += SECONDS - 1

    renewed = lock.renew(taken.token)

    assert (renewed.heartbeat, renewed.expires) == (clock.now, clock.now + SECONDS)
    assert (renewed.owner, renewed.since) == ("ann", taken.since)


def test_an_expired_lock_that_nobody_wanted_can_be_renewed(lock: Lock, clock: Clock) -> None:
    taken = lock.take("ann", "one")
    clock.now += 2 * SECONDS

    assert lock.renew(taken.token).holds(clock.now)


def test_a_dropped_lock_is_free_and_its_token_is_worthless(lock: Lock, clock: Clock) -> None:
    taken = lock.take("ann", "one")

    assert lock.drop(taken.token)

    assert not lock.holder().holds(clock.now)
    with pytest.raises(Refused, match="by giving it back"):
        lock.renew(taken.token)
    assert lock.take("bob", "two").token > taken.token


def test_dropping_with_an_old_token_leaves_the_new_holder_alone(lock: Lock) -> None:
    old = lock.take("ann", "one")
    new = lock.take("bob", "two", dead_session="one")

    assert not lock.drop(old.token)

    assert lock.holder() == new


def test_fencing_frees_the_lock_and_every_token_so_far_is_worthless(lock: Lock, clock: Clock) -> None:
    taken = lock.take("ann", "one")

    fenced = lock.fence("rollback: to guard")

    assert fenced > taken.token
    assert not lock.holder().holds(clock.now)
    for token in range(fenced + 1):
        with pytest.raises(Refused, match=r"You lost the lock, by rollback: to guard, 20\d\d-"):
            lock.renew(token)


def test_the_lock_is_for_its_owner_alone(lock: Lock) -> None:
    lock.take("ann", "one")

    assert lock.path.stat().st_mode & 0o777 == 0o600


def test_of_several_processes_one_takes_it(lock: Lock) -> None:
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(lock.path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("ann", "bob", "eve", "joe")
    ]
    said = [taker.communicate("go\n")[0].strip() for taker in takers]

    assert sorted(said) == ["1", "refused", "refused", "refused"]


class Takers(RuleBasedStateMachine):
    """Several sessions, a clock and an engineer who breaks in, in any order."""

    sessions = st.sampled_from(("one", "two", "three"))

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir=MEMORY)
        self.clock = Clock()
        self.lock = Lock(Path(self.directory.name) / "lock.json", SECONDS, self.clock)
        self.holders: dict[str, Holder] = {}
        self.highest = 0

    def teardown(self) -> None:
        self.directory.cleanup()

    @rule(session=sessions)
    def take(self, session: str) -> None:
        before = self.lock.holder()
        try:
            holder = self.lock.take(f"owner of {session}", session)
        except Refused:
            assert before.holds(self.clock.now)
            assert before.session != session
            return
        assert not before.holds(self.clock.now) or before.session == session
        self.holders[session] = holder

    @rule(session=sessions)
    def renew(self, session: str) -> None:
        mine = self.holders.get(session, Holder())
        current = self.lock.holder()
        try:
            self.lock.renew(mine.token)
        except Refused:
            assert mine.token != current.token or not current.owner
            return
        assert (mine.token, mine.session) == (current.token, current.session)

    @rule(session=sessions)
    def drop(self, session: str) -> None:
        mine = self.holders.get(session, Holder())
        is_mine = mine.token == self.lock.holder().token
        assert self.lock.drop(mine.token) == is_mine

    @rule()
    def fence(self) -> None:
        assert self.lock.fence("somebody") > self.highest

    @rule(seconds=st.sampled_from((1.0, SECONDS / 2, SECONDS)))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def tokens_only_rise(self) -> None:
        token = self.lock.holder().token
        assert token >= self.highest
        self.highest = token

    @invariant()
    def at_most_one_session_can_act(self) -> None:
        current = self.lock.holder()
        able = [s for s, held in self.holders.items() if held.token == current.token and current.owner]
        assert len(able) <= 1


TestTakers = Takers.TestCase
TestTakers.settings = settings(max_examples=30, stateful_step_count=30)


@pytest.mark.parametrize("content", [b"", b'{"token": ', b"[1]", b'{"tokem": 1}', b"\xff"])
def test_a_damaged_file_keeps_nobody_from_taking_it_and_lets_no_old_token_through(
    lock: Lock, content: bytes
) -> None:
    before = lock.take("ann", "one")
    lock.path.write_bytes(content)

    assert lock.take("bob", "two").token > before.token
    with pytest.raises(Refused, match="You lost the lock"):
        lock.renew(before.token)
