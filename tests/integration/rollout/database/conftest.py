"""One site for these tests, for what they do to it is undone or told apart by its notes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rollout.host.installed_servers import Servers
from tests.integration.rollout.database.kept import KeptSite, kept_site


@pytest.fixture(scope="session")
def site(servers: Servers, scratch: Path) -> Iterator[KeptSite]:
    """Postgres and pgbouncer that are started again whenever they end, and two instances behind them."""
    with kept_site(servers, scratch) as made:
        yield made
