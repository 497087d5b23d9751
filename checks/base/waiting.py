"""Wait for something to become true, not longer than a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def wait_until(look: Callable[[], Seen], seconds: float, pause_seconds: float = 0.2) -> Seen:
    """Look again and again until something true is seen or the time is over; return what was seen last."""
    deadline = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(pause_seconds)
    return seen
