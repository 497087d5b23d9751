"""The checks that a rollout rests on, run on a host: the burst, counted views and a restore."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rollout.errors import Failed, Refused, RolloutError, Undecided
from rollout.host.programs import environment, last_words
from rollout.target.dsn import MONITOR, console_url, database_url
from rollout.target.instances import ask
from rollout.target.state import State
from rollout.target.steering import Steering
from rollout.target.target import Target


def burst(target: Target, release: str) -> dict[str, Any]:
    """Fire the burst at the front door and return its report. The verdict is in the report.

    :raises Refused: another release serves; it would be proven in this one's name.
    """
    limits = target.settings["burst"]
    state = Steering.of(target).state()
    serving_release = state.slots[state.serving].release if state.serving else "nothing"
    if serving_release != release:
        raise Refused(
            f"{target.name} serves {serving_release}, not {release}.", f"./p12 deploy --branch {release}"
        )
    report = target.steering / "burst-report.json"
    report.unlink(missing_ok=True)
    log = target.directory / "log" / "postgres.log"
    serving = [f"http://{i.address}:{i.port}" for i in target.instances_of(state.serving or "")]
    done = _check(
        target,
        "burst",
        f"--base-url={target.settings['front']}",
        f"--target={target.name}",
        *_burst_options(limits),
        *([f"--postgres-log={log}"] if os.access(log, os.R_OK) else []),
        f"--instances={','.join(serving)}",
        f"--samples={target.steering / 'burst-samples.json'}",
        f"--json={report}",
    )
    if not report.exists():
        raise RolloutError(
            f"{target.name}: burst: {last_words(done)}", "See that the target is up: ./p12 status"
        )
    answer: dict[str, Any] = json.loads(report.read_bytes())
    inputs = {**answer.get("inputs", {}), "release": release, "schema": _schema(target, state)}
    return answer | {"inputs": inputs, "summary": _burst_words(target, answer), "changed": True}


def _burst_options(limits: Mapping[str, Any]) -> list[str]:
    """The inventory's burst as the check's options: ``p99_ms: 5000`` is ``--p99-ms=5000``."""
    return [
        f"--{name.replace('_', '-')}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in limits.items()
    ]


def _burst_words(target: Target, report: Mapping[str, Any]) -> str:
    """The report's own summary when it stops a release, else one line with what matters most."""
    if report["verdict"] != "passed":
        return str(report["summary"])
    measured = {finding["name"]: finding["measured"] for finding in report["findings"]}
    levels = target.settings["burst"]["levels"]
    return (
        f"{target.name}: burst: passed: {', '.join(map(str, levels))} at once: "
        f"{measured['deadlocks']} deadlocks, {measured['server_errors']} server errors, "
        f"{100 * measured['busy_ratio']:.2g} % busy, {measured['accepted_views']} views counted exactly, "
        f"p99 {measured[f'p99_ms_at_{max(levels)}']:.0f} ms"
    )


def counters(target: Target) -> Mapping[str, Any]:
    """Hold the visitors' ledger against the database: every view answered 200 counted exactly once."""
    ledger = target.directory / "visitors" / "visitors.json"
    done = _check(target, "counters", f"--target={target.name}", f"--state={ledger}", "--json")
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise RolloutError(f"{target.name}: counters: {last_words(done)}") from None
    return report | {"say": report["summary"]}


def postgres_tools(target: Target) -> Any:
    from checks.base.postgres_tools import Tools

    return Tools(Path(target.settings["postgres_bin"]))


@contextmanager
def as_rollout_error(target: Target, what: str) -> Iterator[None]:
    """Turn what a check says into what an engineer sees."""
    from checks.backup.verify import NotProven
    from checks.base.errors import CannotMeasure, Misused

    try:
        yield
    except NotProven as error:
        listed = "; ".join(str(f) for f in error.findings if f.verdict != "passed")
        raise Failed(f"{target.name}: {what}: not proven: {error} {listed}") from error
    except (CannotMeasure, Misused) as error:
        raise Undecided(f"{target.name}: {what}: {error}") from error


def _check(target: Target, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-s", "-m", "checks", name, *arguments],
        env=environment(
            DATABASE_URL=database_url(target, MONITOR),
            P12_POOLER_URL=console_url(target),
            P12_REHEARSAL_SECRET=target.secrets["rehearsal"],
        ),
        capture_output=True,
        text=True,
        check=False,
    )


def _schema(target: Target, state: State) -> str:
    for instance in target.instances_of(state.serving or ""):
        answer = ask(instance, "GET", "/internal/ready", timeout_seconds=3.0)
        if answer.status == 200:
            return str(answer.document.get("schema", {}).get("revision", ""))
    return ""
