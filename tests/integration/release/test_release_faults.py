"""Two faults of the catalogue, shipped through the real playbooks; ``tests.faults`` ships them all."""

import pytest

from tests.faults.__main__ import is_caught
from tests.faults.catalogue import BY_NAME
from tests.faults.shipping import ship

pytestmark = pytest.mark.timeout(1500)


@pytest.mark.parametrize("name", ["pool_too_large", "index_ddl"])
def test_a_fault_is_stopped_by_its_gate_in_its_words_and_no_visitor_meets_it(site, name):
    fault = BY_NAME[name]
    if not site.has_release():
        assert site.p12("release").returncode == 0

    outcome = ship(site, fault)

    assert is_caught(outcome, fault.gate, fault.says), outcome
    assert outcome.requests > 0
    assert outcome.failed_requests == 0
