"""What the service says of itself, tried out by generated requests, right and wrong, on a real instance."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.web.openapi import describe
from checks.visitors.limit_pass import HEADER, Pass
from tests.integration.app.instances import UNLIMITED, migrate, slot
from tests.running import Cluster

SECRET, TARGET = "rehearsal-secret", "dev"
# Of each operation, besides the edges of its parameters and bodies, which are tried in any case.
EXAMPLES = 40
THERE = 1
AS_DESCRIBED = [
    not_a_server_error,
    positive_data_acceptance,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DESCRIPTION = json.loads(json.dumps(describe("0" * 12, 10_000)))
described = schemathesis.openapi.from_dict(DESCRIPTION)
rehearsal = Pass(SECRET, TARGET)


@pytest.fixture(scope="module")
def url(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An instance with the limits that clients meet, and one note that no number of reports removes."""
    database = postgres.new_database("fuzz")
    migrate("upgrade", database)
    rows = f"INSERT INTO notes (id, text) VALUES ({THERE}, 'stays'); SELECT setval('notes_id_seq', {THERE})"
    postgres.run(rows, "fuzz")
    as_clients_meet_it = {name: "" for name in UNLIMITED}
    environ = {**as_clients_meet_it, "P12_REHEARSAL_SECRET": SECRET, "P12_REPORT_THRESHOLD": "1000000"}
    with slot(database, tmp_path_factory.mktemp("fuzz"), environ, instances=1) as running:
        yield running.urls[0]


def test_what_is_tried_is_what_the_instance_says_of_itself(url: str) -> None:
    assert requests.get(f"{url}/api/openapi.json", timeout=30).json() == DESCRIPTION


@described.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_every_answer_is_one_that_is_described(case: schemathesis.Case[Any], url: str) -> None:
    _ask(case, url)
    if "id" in case.path_parameters:
        # A generated id hardly ever is a note's, and what comes after finding one is to be tried too.
        case.path_parameters["id"] = THERE
        _ask(case, url)


def _ask(case: schemathesis.Case[Any], url: str) -> None:
    pass_through = {HEADER: rehearsal.header(time.time())}
    case.call_and_validate(base_url=url, headers=pass_through, checks=AS_DESCRIBED, timeout=30)
