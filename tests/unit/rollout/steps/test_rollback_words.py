"""Where a change is not proven, and why."""

from rollout.steps.rollback import unproven_words


def test_where_everything_is_proven_nothing_is_said() -> None:
    assert unproven_words({}) == ""


def test_who_did_not_answer_is_healed_and_who_refused_is_not() -> None:
    said = unproven_words({"blue-2.local": 0, "green-1.local": 409, "blue-1.local": 0})

    assert said == (
        "; did not answer and will be healed by the guard: blue-1.local, blue-2.local"
        "; refused the flags (409): green-1.local, see ./p12 flags"
    )
