"""Talk to the instances of a target over HTTP, all at once."""

import http.client
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rollout.target.target import Instance

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What one instance said. ``status`` 0 means it did not answer; ``error`` then says why."""

    status: int
    body: bytes = field(default=b"", repr=False)
    release: str = ""
    error: str = ""

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object in the body, empty when there is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def ask(
    instance: Instance,
    method: str,
    path: str,
    *,
    timeout_seconds: float,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """Send one request straight to an instance, past the balancer. Never raises for a dead instance."""
    connection = http.client.HTTPConnection(instance.address, instance.port, timeout=timeout_seconds)
    try:
        connection.request(method, path, body, {"Connection": "close", **(headers or {})})
        response = connection.getresponse()
        return Reply(response.status, response.read(), response.getheader("X-P12-Release", ""))
    except (OSError, http.client.HTTPException) as error:
        return Reply(0, error=str(error) or type(error).__name__)
    finally:
        connection.close()


def ask_all(instances: Iterable[Instance], question: Callable[[Instance], T]) -> dict[str, T]:
    """Put a question to every instance in parallel and return the answers by instance name."""
    instances = tuple(instances)
    if not instances:
        return {}
    with ThreadPoolExecutor(max_workers=min(64, len(instances))) as pool:
        answers = list(pool.map(question, instances))
    return {instance.name: answer for instance, answer in zip(instances, answers, strict=True)}
