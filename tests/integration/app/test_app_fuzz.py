"""What the service says of itself, tried out: generated requests, right and wrong, against a real instance."""

import json
import time
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.openapi import describe
from checks.rehearsal import HEADER, Pass
from tests.integration.app.instances import UNLIMITED, migrate, slot
from tests.running import Cluster

SECRET, TARGET = "rehearsal-secret", "dev"
NOTES = 3
AS_DESCRIBED = [
    not_a_server_error,
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
    """An instance with the limits that clients meet, and a few notes."""
    database = postgres.new_database("fuzz")
    migrate("upgrade", database)
    postgres.run(f"INSERT INTO notes (text) SELECT 'n' FROM generate_series(1, {NOTES})", "fuzz")
    as_clients_meet_it = {name: "" for name in UNLIMITED}
    environ = {**as_clients_meet_it, "P12_REHEARSAL_SECRET": SECRET}
    with slot(database, tmp_path_factory.mktemp("fuzz"), environ, instances=1) as running:
        yield running.urls[0]


def test_what_is_tried_is_what_the_instance_says_of_itself(url: str) -> None:
    assert requests.get(f"{url}/api/openapi.json", timeout=30).json() == DESCRIPTION


@described.parametrize()
@settings(max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_is_described(case: schemathesis.Case, url: str) -> None:
    case.call_and_validate(
        base_url=url, headers={HEADER: rehearsal.header(time.time())}, checks=AS_DESCRIBED, timeout=30
    )
