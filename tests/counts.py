"""How many tests a run had of each outcome, and how many slow ones it left out, for people and ``p12 test``.

Tests are collected by each worker of pytest-xdist, and told to the terminal by the process that began them.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from rollout.cli.run_tests import COUNTS, LEFT_OUT

OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
left_out = pytest.StashKey[int]()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    slow = sum(item.get_closest_marker("slow") is not None for item in items)
    if slow:
        items[0].config.stash[left_out] = items[0].config.stash.get(left_out, 0) + slow


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[LEFT_OUT] = session.config.stash.get(left_out, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: pytest.Session, error: object) -> None:  # noqa: ARG001 - the hook's own words
    """Every worker leaves out the same ones."""
    node.config.stash[left_out] = getattr(node, "workeroutput", {}).get(LEFT_OUT, 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = {outcome: len(terminalreporter.stats.get(outcome, ())) for outcome in OUTCOMES}
    counts[LEFT_OUT] = config.stash.get(left_out, 0)
    if counts[LEFT_OUT]:
        terminalreporter.section("slow tests", yellow=True, bold=True)
        terminalreporter.line(f"{counts[LEFT_OUT]} were left out. With them: ./p12 test --all")
    if COUNTS in os.environ:
        Path(os.environ[COUNTS]).write_text(json.dumps(counts))
