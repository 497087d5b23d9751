"""A report holds its findings and its facts apart."""

import pytest

from checks.base.report import Finding, Report, Verdict, compare


def test_facts_stand_beside_the_fields_of_a_report_and_never_replace_one() -> None:
    found = (Finding("a", 1, "==", 1, Verdict.PASSED),)

    shown = Report("c", "t", found, 0, 1, facts={"id": "x", "verdict": "failed"}).to_dict()

    assert (shown["id"], shown["verdict"]) == ("x", Verdict.PASSED)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            compare("lock_wait_seconds", 12.345, "<=", 10.0, "See pg_locks."),
            " 12.35 s (limit <= 10 s). See",
        ),
        (compare("p99_ms_at_300", 2345.0, "<=", 2000.0), "2345 ms (limit <= 2000 ms)"),
        (compare("busy_ratio", 0.25, "<=", 0.01), "25 % (limit <= 1 %)"),
        (compare("resident_mb", None, "<=", 400.0), "not measured (limit <= 400 MB)"),
        (compare("deadlocks", 3, "<=", 0), "deadlocks 3 (limit <= 0)"),
        (compare("x_ln_e", 6.0, "<", 5.3, sentence="errors: new 9 of 10"), "errors: new 9 of 10"),
    ],
)
def test_a_finding_says_what_was_measured_and_the_limit_in_the_unit_of_its_name(
    found: Finding, words: str
) -> None:
    assert words in str(found)
