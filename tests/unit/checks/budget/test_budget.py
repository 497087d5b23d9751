"""The connection budget is arithmetic: every limit has a number that just fits and one that does not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from checks.base.errors import Misused
from checks.base.report import Verdict, combine
from checks.budget import budget, cli
from checks.budget.budget import Connections, judge

FITS = Connections(
    hosts=3,
    instances=2,
    threads=8,
    pool_size=8,
    max_overflow=8,
    max_client_conn=3 * 2 * (2 * 16 + 1),
    pooler_pool_size=40,
    max_db_connections=0,
    max_connections=100,
    reserved_connections=3,
    pool_mode="transaction",
    limiter_storage="redis://:hidden@127.0.0.1:6379/0",
    server_version=15,
    pg_dump_version=15,
)
MEASURED = tuple(name for name, value in vars(Connections(1, 1, 1, 1, 0)).items() if value is None)


def found(site: Connections, verdict: Verdict) -> set[str]:
    return {finding.name for finding in judge(site) if finding.verdict is verdict}


def failed(site: Connections) -> set[str]:
    return found(site, Verdict.FAILED)


def test_a_site_that_just_fits_passes() -> None:
    assert combine(finding.verdict for finding in judge(FITS)) is Verdict.PASSED


@pytest.mark.parametrize(
    ("change", "findings"),
    [
        ({"max_client_conn": 197}, {"client_connections_during_overlap"}),
        (
            {"max_client_conn": 98},
            {"client_connections_before_overlap", "client_connections_during_overlap"},
        ),
        ({"hosts": 4}, {"client_connections_during_overlap"}),
        ({"instances": 3}, {"client_connections_during_overlap"}),
        ({"pooler_pool_size": 19}, {"server_connections_fewest"}),
        ({"max_db_connections": 19}, {"server_connections_fewest"}),
        ({"pooler_pool_size": 51, "max_connections": 200}, {"server_connections_most"}),
        ({"max_connections": 56}, {"postgres_connections"}),
        ({"reserved_connections": 50}, {"postgres_connections"}),
        ({"threads": 17}, {"threads"}),
        ({"pool_mode": "session"}, {"pool_mode"}),
        ({"pool_mode": "statement"}, {"pool_mode"}),
        ({"limiter_storage": "memory://"}, {"limiter_storage"}),
        ({"limiter_storage": ""}, {"limiter_storage"}),
        ({"pg_dump_version": 14}, {"pg_dump_version"}),
        ({"server_version": 16}, {"pg_dump_version"}),
    ],
)
def test_one_number_that_does_not_fit_fails_under_its_name(
    change: dict[str, int], findings: set[str]
) -> None:
    assert failed(replace(FITS, **change)) == findings  # type: ignore[arg-type]


def test_a_single_instance_may_count_in_its_own_memory() -> None:
    assert failed(replace(FITS, hosts=1, instances=1, limiter_storage="memory://")) == set()


@pytest.mark.parametrize("name", MEASURED)
def test_a_number_that_was_not_measured_is_unknown_and_never_passes(name: str) -> None:
    site = replace(FITS, **{name: None})

    assert failed(site) == set()
    assert found(site, Verdict.UNKNOWN)


def test_nothing_measured_leaves_nothing_but_the_threads_passed() -> None:
    assert found(Connections(3, 2, 8, 8, 8), Verdict.PASSED) == {"threads"}


def test_the_pooler_opens_no_more_than_its_limit_for_the_database() -> None:
    assert replace(FITS, max_db_connections=25).server_connections == 25
    assert replace(FITS, max_db_connections=60).server_connections == 40


def test_the_arithmetic_is_shown_before_and_during_the_overlap() -> None:
    shown = budget.arithmetic(FITS)

    assert shown["before_overlap"].startswith("3 hosts × (2 instances × (8 + 8) + 1 worker) = 99 of ")
    assert shown["during_overlap"].startswith("3 hosts × 2 slots × (2 instances × (8 + 8) + 1 worker) = 198")
    assert shown["to_postgres"].endswith("80% × (max_connections 100 − 3 reserved) = 77")


def test_a_limiter_address_is_shown_without_its_password() -> None:
    assert "hidden" not in str(judge(FITS))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": 1}, "host is not a number of the budget"),
        ({"hosts": "3"}, "budget.hosts is '3': Expected `int`"),
        ({"hosts": True}, "budget.hosts is True: Expected `int`"),
        ({"hosts": 0}, "budget.hosts is 0: Expected `int` >= 1"),
        ({"hosts": 1}, "budget has no instances"),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(given: dict[str, object], words: str) -> None:
    with pytest.raises(Misused, match=words):
        Connections.from_dict(given)


def test_the_command_judges_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site.json"
    file.write_text(json.dumps({**vars(FITS), "limiter_storage": "memory://"}))

    status = cli.main(["--site", str(file), "--target", "production", "--json"])

    assert status == 3
    assert json.loads(capsys.readouterr().out)["summary"].startswith("production: budget: failed: limiter")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"hosts": 3', "null", '{"hosts": NaN}'])
def test_a_file_that_holds_no_site_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file = tmp_path / "site.json"
    file.write_text(text)

    assert cli.main(["--site", str(file)]) == 2
    assert capsys.readouterr().out == ""
