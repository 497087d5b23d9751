"""What a window takes from an instance's Prometheus text."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from checks.base.prometheus import label, number, series_in

REQUESTS = "p12_http_requests_total"
BUCKETS = "p12_http_request_duration_seconds_bucket"
# Its own, and those of the worker beside it, which every instance of a host tells: none is allowed.
DEADLOCKED = {"p12_db_errors_total": "deadlocks", "p12_worker_db_errors_total": "worker_deadlocks"}
# What may leak beside memory, and how much of it a process may have.
GAUGES = {
    "p12_process_open_fds": "open_files",
    "p12_process_max_fds": "open_files_limit",
    "p12_db_connections_in_use": "connections",
    "p12_db_connections_max": "connections_limit",
}
BUSY, LIMITED = "503", "429"
MEGABYTE = 1e6
# No visitor's requests: ours, and those that look whether somebody is there.
NOT_VISITED = ("/internal", "/healthz", "/api/health")


def scrape(text: str) -> Mapping[str, Any] | None:
    """Return an instance's part of a sample, or None without a full answer.

    ``started``, ``deadlocks``, ``busy`` (503s), ``unjudged`` (429s, and health checks that came through the
    front door and were answered), ``retries`` and, by SQLSTATE, ``retried``; ``resident_mb`` and
    what ``GAUGES`` names, where the process tells it; ``latency`` is the histogram of what visitors asked
    and was not limited, as in ``baseline``.
    A service shows its deadlocks and retries from the start, be they 0; where there is no such line, nothing
    is known of them. A 503 has a line only once there was one.
    """
    found: dict[str, Any] = {"busy": 0.0, "unjudged": 0.0}
    retried: dict[str, float] = {}
    series: dict[str, dict[str, float]] = {}
    for name, labels, value in series_in(text):
        if name == "p12_process_start_time_seconds":
            found["started"] = value
        elif name in GAUGES:
            found[GAUGES[name]] = value
        elif name == "p12_process_resident_bytes":
            found["resident_mb"] = value / MEGABYTE
        elif name in DEADLOCKED and 'sqlstate="40P01"' in labels:
            counter = DEADLOCKED[name]
            found[counter] = found.get(counter, 0.0) + value
        elif name == "p12_db_retries_total":
            state = label(labels, "sqlstate")
            retried[state] = retried.get(state, 0.0) + value
        elif name == REQUESTS and (counter := _counter_of(labels)):
            found[counter] += value
        elif name == BUCKETS and not _is_ours(labels) and f'status="{LIMITED}"' not in labels:
            edge, rest = _edge_of(labels)
            series.setdefault(rest, {})[edge] = value
    if not {"started", "deadlocks"} <= found.keys() or not retried:
        return None
    found["deadlocks"] += found.pop("worker_deadlocks", 0.0)
    found |= {"retries": sum(retried.values()), "retried": retried}
    return found | ({"latency": _histogram(series)} if series else {})


def _counter_of(labels: str) -> str:
    """The counter that an answered request belongs to, if it belongs to one."""
    if _is_ours(labels):
        return "" if 'status="5' in labels else "unjudged"
    statuses = {BUSY: "busy", LIMITED: "unjudged"}
    return statuses.get(label(labels, "status"), "")


def _is_ours(labels: str) -> bool:
    return any(f'route="{path}' in labels for path in NOT_VISITED)


def _edge_of(labels: str) -> tuple[str, str]:
    """Take the upper edge out of a bucket's labels; what is left names the series."""
    match = re.search(r'le="([^"]*)"', labels)
    return (match[1], labels[: match.start()] + labels[match.end() :]) if match else ("", labels)


def _histogram(series: Mapping[str, Mapping[str, float]]) -> dict[str, int] | None:
    """Add series of cumulative buckets up to one of single buckets; None if they are no histogram."""
    total: Counter[str] = Counter()
    for buckets in series.values():
        below = 0
        for edge in sorted(buckets, key=number):
            count = buckets[edge] - below
            if not (math.isfinite(number(edge)) or edge == "+Inf") or not 0 <= count < math.inf:
                return None
            below = int(buckets[edge])
            total[edge] += int(count)
    return {edge: count for edge, count in total.items() if count}
