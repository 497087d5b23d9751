"""A fault of the catalogue for each kind of gate, through the real playbooks; ``tests.faults`` ships all."""

from collections.abc import Iterator

import pytest

from tests.faults.__main__ import is_caught
from tests.faults.catalogue import BY_NAME
from tests.faults.shipping import ship
from tests.whole_site import QUICK, Site, whole_site

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def site(servers: object) -> Iterator[Site]:  # noqa: ARG001 - the servers must be found or installed
    with whole_site(QUICK + "p12_steps: [50, 100]\n", production="p12_visitors_rate: 40\n") as made:
        assert made.p12("release").returncode == 0
        yield made


@pytest.mark.parametrize("name", ["pool_too_large", "index_ddl", "much_slower_route"])
def test_a_fault_is_stopped_by_its_gate_in_its_words_and_no_visitor_meets_it(site, name):
    fault = BY_NAME[name]

    outcome = ship(site, fault)

    assert is_caught(outcome, fault.gate, fault.says), outcome
    assert outcome.requests > 0
    # Whom the old release sends away, because a disk stood still under all these tests, met no fault.
    faulty = site.git("rev-parse", f"fault-{name}")[:12]
    assert [failed for failed in site.visitors()["failures"] if failed["release"] == faulty] == []
