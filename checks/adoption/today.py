"""Whether the service that runs today answers, and how fast: a few reads, which count nothing."""

import http.client
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any
from urllib.parse import SplitResult, urlsplit

from checks.base.errors import Misused, error_text

PATHS = ("/api/health", "/api/notes?limit=20")
TIMES = 3
SECONDS = 10.0


@dataclass(frozen=True)
class Answered:
    """What one path gave: the last status and the median time, or why it gave nothing."""

    path: str
    status: int | None
    median_ms: float | None
    error: str = ""

    @property
    def is_well(self) -> bool:
        return self.status == http.client.OK


def ask(url: str, now: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Ask each path a few times; raises Misused for what is no address of a service."""
    parts = urlsplit(url)
    try:
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or "@" in parts.netloc:
        raise Misused(
            "p12_today_url is no address of a service. Use https://paste12.example, without a name."
        )
    answers = [_asked(parts, path, now) for path in PATHS]
    return {
        "url": f"{parts.scheme}://{parts.netloc}",
        "failed": sum(not answer.is_well for answer in answers),
        "answers": [asdict(answer) for answer in answers],
    }


def _asked(parts: SplitResult, path: str, now: Callable[[], float]) -> Answered:
    seconds: list[float] = []
    status, where = None, ""
    for _ in range(TIMES):
        started = now()
        try:
            status, where = _get(parts, f"{parts.path.rstrip('/')}{path}")
        except (OSError, http.client.HTTPException) as error:
            return Answered(path, None, None, error_text(error))
        seconds.append(now() - started)
    said = f"it leads to {where}" if where else "" if status == http.client.OK else f"status {status}"
    return Answered(path, status, round(1000 * median(seconds), 1), said)


def _get(parts: SplitResult, path: str) -> tuple[int, str]:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=SECONDS)
    try:
        connection.request("GET", path, headers={"User-Agent": "p12 adopt"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("Location", "")
    finally:
        connection.close()
