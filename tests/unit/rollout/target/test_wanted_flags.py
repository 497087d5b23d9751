"""The wanted flags of each slot, and the document that carries them."""

import hashlib
import hmac
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.errors import Refused
from rollout.target.target import SLOTS, Target
from rollout.target.wanted_flags import Wanted, WantedFlags, lowered, raised, signature

# Hundreds of small files that are synced one by one would wait for a busy disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
DEFAULTS = {"P12_ENABLE_ADVISORY_LOCKS": "0", "P12_ENABLE_LEGACY_VIEW": "1", "P12_READ_ONLY": "0"}
NAMES = st.sampled_from([*DEFAULTS, "P12_NEWER"])
VALUES = st.sampled_from(("0", "1", "25%"))
FLAGS = st.dictionaries(NAMES, VALUES)
MOVES = st.lists(
    st.tuples(st.sampled_from(SLOTS), FLAGS) | st.integers(0, 40), min_size=1, max_size=12
)  # put in a slot, or a generation that an instance was seen with


def wanted_in(directory: str | Path) -> WantedFlags:
    target = Target("production", Path(directory), {})
    target.steering.mkdir(exist_ok=True)
    return WantedFlags(target)


@pytest.fixture
def wanted(tmp_path: Path) -> WantedFlags:
    return wanted_in(tmp_path)


def test_a_slot_for_which_nothing_was_wanted_is_at_generation_0(wanted: WantedFlags) -> None:
    assert wanted.of("blue") == Wanted("blue", 0, {})


@given(MOVES)
def test_a_generation_is_never_handed_out_twice_and_only_rises(
    moves: list[tuple[str, dict[str, str]] | int],
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        highest = 0
        for move in moves:
            wanted = wanted_in(directory)
            if isinstance(move, int):
                wanted.raise_counter(move)
                highest = max(highest, move)
            else:
                generation = wanted.put(*move).generation
                assert generation > highest
                highest = generation


@given(MOVES)
def test_each_slot_keeps_its_own_newest_flags(moves: list[tuple[str, dict[str, str]] | int]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        wanted = wanted_in(directory)
        newest: dict[str, dict[str, str]] = {}
        for move in moves:
            if isinstance(move, int):
                wanted.raise_counter(move)
            else:
                wanted.put(*move)
                newest[move[0]] = move[1]

        assert {slot: dict(wanted_in(directory).of(slot).flags) for slot in newest} == newest


@given(MOVES)
def test_what_a_generation_held_can_be_read_again(moves: list[tuple[str, dict[str, str]] | int]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        wanted = wanted_in(directory)
        put = [wanted.put(*move) for move in moves if not isinstance(move, int)]

        assert [wanted.at_generation(kept.generation) for kept in put] == put


def test_a_generation_that_is_not_kept_is_refused_with_those_that_are(wanted: WantedFlags) -> None:
    wanted.put("blue", {})
    wanted.put("green", {})

    with pytest.raises(Refused, match=r"Flag generation 9 is not kept\. Accepted: 1, 2"):
        wanted.at_generation(9)


def test_seeing_an_older_generation_does_not_turn_the_counter_back(wanted: WantedFlags) -> None:
    wanted.put("blue", {})
    wanted.put("blue", {})

    wanted.raise_counter(1)

    assert wanted.put("blue", {}).generation == 3


def test_the_document_is_canonical_json(wanted: WantedFlags) -> None:
    document = wanted.put("green", {"P12_READ_ONLY": "1", "P12_ENABLE_LEGACY_VIEW": "0"}).document("staging")

    assert document == (
        b'{"flags":{"P12_ENABLE_LEGACY_VIEW":"0","P12_READ_ONLY":"1"},'
        b'"generation":1,"slot":"green","target":"staging"}'
    )


@given(FLAGS, st.integers(1, 99))
def test_the_order_of_flags_does_not_change_the_document(flags: dict[str, str], generation: int) -> None:
    backwards = dict(reversed([*flags.items()]))

    assert Wanted("blue", generation, flags).document("staging") == Wanted(
        "blue", generation, backwards
    ).document("staging")


def test_the_signature_covers_target_slot_generation_and_content() -> None:
    signed = {
        signature("secret", Wanted(slot, generation, flags).document(target))
        for target in ("staging", "production")
        for slot in SLOTS
        for generation in (1, 2)
        for flags in ({}, {"P12_READ_ONLY": "0"}, {"P12_READ_ONLY": "1"})
    }

    assert len(signed) == 24


def test_the_signature_is_an_hmac_of_the_bytes_with_the_secret() -> None:
    assert signature("secret", b"{}") == "sha256=" + hmac.new(b"secret", b"{}", hashlib.sha256).hexdigest()


@given(FLAGS)
def test_lowering_everything_leaves_nothing_raised_and_names_every_flag(flags: dict[str, str]) -> None:
    low = lowered(flags, DEFAULTS)

    assert raised(low, DEFAULTS) == []
    assert low.keys() == flags.keys()


@given(FLAGS, st.sets(NAMES, min_size=1))
def test_lowering_some_leaves_the_others_as_they_are(flags: dict[str, str], only: set[str]) -> None:
    low = lowered(flags, DEFAULTS, only)

    assert {n: v for n, v in low.items() if n not in only} == {
        n: v for n, v in flags.items() if n not in only
    }
    assert not only & set(raised(low, DEFAULTS))


def test_a_flag_that_is_on_by_default_is_lowered_to_on() -> None:
    assert lowered({"P12_ENABLE_LEGACY_VIEW": "0"}, DEFAULTS) == {"P12_ENABLE_LEGACY_VIEW": "1"}


def test_a_flag_without_a_known_default_is_lowered_to_off() -> None:
    assert lowered({"P12_NEWER": "25%"}, DEFAULTS) == {"P12_NEWER": "0"}


def test_the_kept_flags_are_private_and_hold_no_secret(wanted: WantedFlags) -> None:
    wanted.put("blue", {"P12_READ_ONLY": "1"})

    assert wanted.path.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(wanted.path.read_text())) == {"generation", "slots", "history"}
