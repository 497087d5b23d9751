"""Who waits for whom gives up later: statement < pooler < pool < queue < proxy, as the reference says."""

import re
from typing import Any

import yaml

from app.settings import load_settings
from app.store.upgrade import LOCK_TIMEOUT_SECONDS
from tests.running import CHECKOUT

ROLES = CHECKOUT / "playbooks/roles"


def defaults(role: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROLES / role / "defaults/main.yml").read_text()))


def pgbouncer(name: str) -> float:
    template = (ROLES / "pgbouncer/templates/pgbouncer.ini.j2").read_text()
    return float(re.findall(rf"^{name} = ([0-9]+)$", template, re.MULTILINE)[0])


def in_order() -> list[float]:
    """The seconds that each layer waits, from the innermost."""
    service = load_settings({"DATABASE_URL": "postgresql://paste12@127.0.0.1/paste12", "P12_TARGET": "dev"})
    slot, proxy = defaults("slot"), defaults("haproxy")
    assert service.pool_timeout == slot["p12_db_pool_timeout"]
    return [
        LOCK_TIMEOUT_SECONDS,
        service.lock_timeout_ms / 1000,
        service.retry_budget_ms / 1000 + service.lock_timeout_ms / 1000,
        float(defaults("pgbouncer")["p12_statement_seconds"]),
        pgbouncer("query_timeout"),
        pgbouncer("query_wait_timeout"),
        service.pool_timeout,
        float(proxy["p12_queue_seconds"]),
        float(proxy["p12_answer_seconds"]),
    ]


def test_each_layer_waits_longer_than_the_one_inside_it() -> None:
    seconds = in_order()

    assert seconds == sorted(set(seconds))


def test_the_reference_shows_the_order_as_it_is() -> None:
    table = (CHECKOUT / "docs/reference/timeouts.md").read_text()

    shown = [float(number) for number in re.findall(r"\| ([0-9.]+) s \|", table)]

    assert shown == in_order()
