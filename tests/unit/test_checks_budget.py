"""The connection budget is arithmetic: every limit has a number that just fits and one that does not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from checks import budget
from checks.budget import Site, judge
from checks.errors import Misused
from checks.report import Verdict, combine

FITS = Site(
    hosts=3,
    instances=2,
    threads=8,
    pool_size=8,
    max_overflow=8,
    max_client_conn=3 * 2 * (2 * 16 + 1),
    server_connections=40,
    max_connections=100,
    limiter_storage="redis://:hidden@127.0.0.1:6379/0",
)


def failed(site: Site) -> set[str]:
    return {finding.name for finding in judge(site) if finding.verdict is not Verdict.PASSED}


def test_a_site_that_just_fits_passes() -> None:
    assert combine(finding.verdict for finding in judge(FITS)) is Verdict.PASSED


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"max_client_conn": 197}, "client_connections"),
        ({"hosts": 4}, "client_connections"),
        ({"instances": 3}, "client_connections"),
        ({"server_connections": 19}, "server_connections_fewest"),
        ({"server_connections": 51, "max_connections": 200}, "server_connections_most"),
        ({"max_connections": 56}, "postgres_connections"),
        ({"reserved_connections": 50}, "postgres_connections"),
        ({"threads": 17}, "threads"),
        ({"pool_mode": "session"}, "pool_mode"),
        ({"limiter_storage": "memory://"}, "limiter_storage"),
        ({"limiter_storage": ""}, "limiter_storage"),
    ],
)
def test_one_number_that_does_not_fit_fails_under_its_name(change: dict[str, int], finding: str) -> None:
    assert failed(replace(FITS, **change)) == {finding}  # type: ignore[arg-type]


def test_a_single_instance_may_count_in_its_own_memory() -> None:
    assert failed(replace(FITS, hosts=1, instances=1, limiter_storage="memory://")) == set()


def test_both_slots_count() -> None:
    assert FITS.client_connections == 3 * 2 * (2 * (8 + 8) + 1)


def test_a_limiter_address_is_shown_without_its_password() -> None:
    assert "hidden" not in str(judge(FITS))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": 1}, "host is not a number of the budget"),
        ({"hosts": "3"}, "hosts='3' is not a whole number"),
        ({"hosts": True}, "hosts=True is not a whole number"),
        ({"hosts": 0}, "hosts=0 leaves nothing to count"),
        ({"hosts": 1}, "lacks a number"),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(given: dict[str, object], words: str) -> None:
    with pytest.raises(Misused, match=words):
        Site.from_dict(given)


def test_the_command_judges_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site.json"
    numbers = {name: value for name, value in vars(FITS).items() if name != "limiter_storage"}
    file.write_text(json.dumps(numbers))

    status = budget.main(["--site", str(file), "--target", "production", "--json"])

    assert status == 3
    assert json.loads(capsys.readouterr().out)["summary"].startswith("production: budget: failed: limiter")
