"""What to type where another rollout is under way: something that works there."""

import shlex

import pytest

from rollout.cli.engineer_verbs import VERBS
from rollout.cli.verb_table import find, parse
from rollout.errors import Refused
from rollout.steps.rollback import rollback_route
from rollout.steps.rollout import slot_for
from rollout.target.state import Rollout, Slot, State

OLD, NEW, NEXT = "a" * 12, "b" * 12, "c" * 12


def under_way(from_slot: str | None) -> State:
    """A rollout to green whose driver lost the lock."""
    slots = {"blue": Slot(OLD, proven=True), "green": Slot(NEW, proven=True)}
    begun = Rollout(NEW, "green", from_slot, OLD if from_slot else None, begun_at=1.0, share=100)
    return State(slots=slots, shares={"green": 100, "blue": 0}, rollout=begun)


@pytest.mark.parametrize("from_slot", [None, "blue"])
def test_every_command_named_where_a_rollout_is_under_way_works_there(from_slot: str | None) -> None:
    state = under_way(from_slot)
    with pytest.raises(Refused) as refused:
        slot_for(state, NEXT)

    named = [shlex.split(part.partition("./p12 ")[2]) for part in refused.value.hint.split(";")]
    rows = [find(VERBS, words, "./p12", first_is_meant=True) for words in named]
    options = {row.name: parse(row.name, row.help, row.options, words) for row, words in rows}

    assert slot_for(state, options["release"].branch) == "green"
    assert ("rollback" in options) is (from_slot is not None)
    if "rollback" in options:
        assert rollback_route(state).back_to == OLD
